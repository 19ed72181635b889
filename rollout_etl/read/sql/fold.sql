-- From units to chat messages. A run of assistant units (text, reasoning, calls in any order) is one assistant message;
-- a tool result, a user or system message, or the end closes it. Units without content (E, r, X) are left out.
-- Neighbours are looked up in the string of kinds: one letter a unit.

CREATE OR REPLACE MACRO with_content(units) AS list_filter(units, lambda u: u.k NOT IN ('E', 'r', 'X'));

-- Reasoning, then text, then calls, within each turn; turns keep their order.
CREATE OR REPLACE MACRO in_order(units, ks) AS list_transform(
    list_sort(list_transform(units, lambda u, i: struct_pack(
        turn := length(regexp_replace(substring(ks, 1, i - 1), '[RACc]', '', 'g')),
        lane := CASE u.k WHEN 'R' THEN 0 WHEN 'A' THEN 1 WHEN 'C' THEN 2 WHEN 'c' THEN 2 ELSE 3 END,
        position := i, u := u
    ))),
    lambda y: y.u
);

-- The n-th call without an id is call_n; the n-th result without an id answers the n-th call.
CREATE OR REPLACE MACRO nth_call(ks, i) AS length(regexp_replace(substring(ks, 1, i), '[^Cc]', '', 'g'));
CREATE OR REPLACE MACRO nth_result(ks, i) AS length(regexp_replace(substring(ks, 1, i), '[^O]', '', 'g'));
CREATE OR REPLACE MACRO call_ids(units, ks, prefix) AS list_filter(list_transform(units, lambda u, i:
    CASE WHEN u.k IN ('C', 'c') THEN coalesce(u.id, concat('"', prefix, nth_call(ks, i), '"')) END
), lambda id: id IS NOT NULL);
CREATE OR REPLACE MACRO with_ids(units, ks, prefix) AS list_transform(units, lambda u, i: struct_pack(
    k := u.k, t := u.t,
    id := CASE u.k
        WHEN 'C' THEN coalesce(u.id, concat('"', prefix, nth_call(ks, i), '"'))
        WHEN 'c' THEN coalesce(u.id, concat('"', prefix, nth_call(ks, i), '"'))
        WHEN 'O' THEN coalesce(u.id, call_ids(units, ks, prefix)[nth_result(ks, i)], concat('"', prefix, nth_result(ks, i), '"'))
    END,
    name := u.name
));
CREATE OR REPLACE MACRO lacks_ids(units) AS list_contains(list_transform(units, lambda u: u.id IS NULL AND u.k IN ('C', 'c', 'O')), true);

-- A message is its head, its value and its tail. pk is the kind before and the kind itself, kn the kind itself and the next.
CREATE OR REPLACE MACRO head(k, pk) AS CASE
    WHEN pk IN ('RA') THEN '"content":'
    WHEN pk IN ('AA', 'RR') THEN '\n\n'
    WHEN pk IN ('CC', 'Cc', 'cC', 'cc') THEN ','
    WHEN pk IN ('RC', 'Rc', 'AC', 'Ac') THEN ''
    ELSE concat(CASE WHEN length(pk) = 1 THEN '[' ELSE ',' END, CASE k
        WHEN 'A' THEN '{"role":"assistant","content":'
        WHEN 'R' THEN '{"role":"assistant","reasoning_content":'
        WHEN 'O' THEN '{"role":"tool","content":'
        WHEN 'U' THEN '{"role":"user","content":'
        WHEN 'S' THEN '{"role":"system","content":'
        WHEN 'D' THEN '{"role":"{{developer}}","content":'
        WHEN 'M' THEN '{"role":"'
        ELSE '{"role":"assistant","content":"","tool_calls":['
    END)
END;
CREATE OR REPLACE MACRO tail(kn) AS CASE
    WHEN kn IN ('AA', 'RR', 'CC', 'Cc', 'cC', 'cc') THEN ''
    WHEN kn IN ('AC', 'Ac') THEN ',"tool_calls":['
    WHEN kn IN ('RC', 'Rc') THEN ',"content":"","tool_calls":['
    WHEN kn = 'RA' THEN ','
    WHEN starts_with(kn, 'R') THEN ',"content":""}'
    WHEN starts_with(kn, 'C') OR starts_with(kn, 'c') THEN ']}'
    ELSE '}'
END;
-- In a run of texts the inner quotes go: "one" "two" becomes "one\n\ntwo".
CREATE OR REPLACE MACRO value(y) AS CASE
    WHEN y.k IN ('A', 'R') THEN CASE
        WHEN y.pk NOT IN ('AA', 'RR') AND y.kn NOT IN ('AA', 'RR') THEN y.t
        WHEN y.pk IN ('AA', 'RR') AND y.kn IN ('AA', 'RR') THEN body(y.t)
        WHEN y.pk IN ('AA', 'RR') THEN substring(y.t, 2)
        ELSE substring(y.t, 1, length(y.t) - 1)
    END
    WHEN y.k IN ('C', 'c') THEN {{call}}
    WHEN y.k = 'O' THEN concat(y.t, ',"tool_call_id":', y.id)
    WHEN y.k = 'M' THEN concat(replace(y.name, 'developer', '{{developer}}'), '","content":', y.t)
    ELSE y.t
END;
CREATE OR REPLACE MACRO fold(units, ks) AS CASE WHEN len(units) = 0 THEN '[]' ELSE concat(array_to_string(list_transform(
    list_transform(units, lambda u, i: struct_pack(
        k := u.k, t := u.t, id := u.id, name := u.name, pk := substring(ks, i - 1, 2), kn := substring(ks, i, 2)
    )),
    lambda y: concat(head(y.k, y.pk), value(y), tail(y.kn))
), ''), ']') END;

-- Most prompts are one question, most completions one answer: they are put together without going unit by unit.
CREATE OR REPLACE MACRO prompt_of(briefed, asked) AS concat('[', '{"role":"system","content":' || briefed || '},', '{"role":"user","content":', asked, '}]');
CREATE OR REPLACE MACRO completion_of(thought, replied) AS concat('[{"role":"assistant",', '"reasoning_content":' || thought || ',', '"content":', replied, '}]');

CREATE OR REPLACE MACRO is_disordered(ks) AS regexp_matches(ks, '[ACc]R|[Cc]A');
