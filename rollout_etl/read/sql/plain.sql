-- From units to messages of role and content alone: reasoning and calls are written into the text, as Qwen's template writes them.
--     <think>
--     reasoning
--     </think>
--
--     the text
--     <tool_call>
--     {"name": "search", "arguments": {"query": "x"}}
--     </tool_call>
-- As in fold.sql, a message is heads, values and tails of its units; the escapes are those of JSON.

CREATE OR REPLACE MACRO plain_role(y) AS CASE y.k WHEN 'O' THEN 'tool' WHEN 'U' THEN 'user' WHEN 'S' THEN 'system' WHEN 'D' THEN '{{developer}}' WHEN 'M' THEN replace(y.name, 'developer', '{{developer}}') ELSE 'assistant' END;
CREATE OR REPLACE MACRO plain_head(y) AS CASE
    WHEN y.pk IN ('RA', 'RC', 'Rc') THEN '\n</think>\n\n'
    WHEN y.pk IN ('AA', 'RR') THEN '\n\n'
    WHEN y.pk IN ('AC', 'Ac', 'CC', 'Cc', 'cC', 'cc') THEN '\n'
    ELSE concat(CASE WHEN length(y.pk) = 1 THEN '[' ELSE ',' END, '{"role":"', plain_role(y), '","content":"', CASE WHEN y.k = 'R' THEN '<think>\n' END)
END;
CREATE OR REPLACE MACRO plain_call(name, arguments) AS body(to_json(concat(E'<tool_call>\n{"name": ', name, ', "arguments": ', arguments, E'}\n</tool_call>')));
CREATE OR REPLACE MACRO plain_tail(kn) AS CASE
    WHEN kn IN ('AA', 'RR', 'RA', 'RC', 'Rc', 'AC', 'Ac', 'CC', 'Cc', 'cC', 'cc') THEN ''
    WHEN starts_with(kn, 'R') THEN '\n</think>\n\n"}'
    ELSE '"}'
END;
CREATE OR REPLACE MACRO plain_fold(units, ks) AS CASE WHEN len(units) = 0 THEN '[]' ELSE concat(array_to_string(list_transform(
    list_transform(units, lambda u, i: struct_pack(k := u.k, t := u.t, name := u.name, pk := substring(ks, i - 1, 2), kn := substring(ks, i, 2))),
    lambda y: concat(plain_head(y), CASE WHEN y.k IN ('C', 'c') THEN plain_call(y.name, y.t) ELSE body(y.t) END, plain_tail(y.kn))
), ''), ']') END;

CREATE OR REPLACE MACRO plain_answer(thought, replied) AS concat(
    '[{"role":"assistant","content":', to_json(concat(E'<think>\n' || thought || E'\n</think>\n\n', replied))::VARCHAR, '}]'
);
