-- From items (Responses API items or chat messages) to units: {k, t, id, name}, one for each thing that was said or done.
--   k  kind     A assistant text   E the same, empty   R reasoning   r reasoning without readable text
--               C tool call        c tool call whose arguments are no JSON object, or that has no name
--               O tool result      U user   S system   D developer   M any message with media   X not understood
--   t  JSON     the text as a JSON string (C: the arguments as an object, M, and O and X with media: the content list as it came)
--   id, name    of calls and results, as JSON strings; for M the name is the role

-- Chat messages hold reasoning, text and calls at once: one item for each. Newer model servers write `reasoning`, old ones `function_call`.
CREATE OR REPLACE MACRO thought_of(x) AS coalesce(x.reasoning_content, CASE WHEN x.type IS NULL THEN x.reasoning END);
CREATE OR REPLACE MACRO calls_of(x) AS coalesce(nullif(x.tool_calls::VARCHAR, '[]'), CASE WHEN starts_with(x.function_call::VARCHAR, '{"') THEN concat('[', x.function_call, ']') END);
CREATE OR REPLACE MACRO chat_calls(tool_calls) AS list_transform(
    json_transform(tool_calls, '[{"id":"JSON","name":"JSON","arguments":"VARCHAR","function":{"name":"JSON","arguments":"VARCHAR"}}]'),
    lambda c: struct_pack(
        type := 'function_call', role := NULL::VARCHAR, content := NULL::JSON, name := coalesce(c.function.name, c.name),
        arguments := coalesce(c.function.arguments, c.arguments), call_id := c.id, output := NULL::JSON, summary := NULL::JSON, tool_calls := NULL::JSON,
        tool_call_id := NULL::JSON, reasoning_content := NULL::JSON, reasoning := NULL::JSON, function_call := NULL::JSON, refusal := NULL::JSON
    )
);
CREATE OR REPLACE MACRO chat_reasoning(x) AS struct_pack(
    type := 'reasoning', role := NULL::VARCHAR, content := thought_of(x), name := NULL::JSON,
    arguments := NULL::VARCHAR, call_id := NULL::JSON, output := NULL::JSON, summary := NULL::JSON, tool_calls := NULL::JSON,
    tool_call_id := NULL::JSON, reasoning_content := NULL::JSON, reasoning := NULL::JSON, function_call := NULL::JSON, refusal := NULL::JSON
);
CREATE OR REPLACE MACRO unfolded(items) AS CASE
    WHEN len(list_filter(items, lambda x: x.tool_calls IS NOT NULL OR x.function_call IS NOT NULL OR thought_of(x) IS NOT NULL)) = 0 THEN items
    ELSE flatten(list_transform(
        list_transform(items, lambda x: struct_pack(x := x, calls := coalesce(chat_calls(calls_of(x)), []))),
        lambda y: list_concat(
            CASE WHEN thought_of(y.x) IS NULL THEN [] ELSE [chat_reasoning(y.x)] END,
            CASE WHEN len(y.calls) > 0 AND filled(y.x.content) IS NULL AND y.x.refusal IS NULL THEN [] ELSE [y.x] END,
            y.calls
        )
    ))
END;

-- The content of a message. One part alone is a list of it. A refusal may stand beside content that is empty.
CREATE OR REPLACE MACRO content_of(x) AS CASE
    WHEN starts_with(x.content::VARCHAR, '{') THEN CASE WHEN is_part(x.content) THEN json_array(x.content) ELSE x.content END
    WHEN is_string(x.refusal::VARCHAR) AND coalesce(x.content::VARCHAR IN ('""', '[]'), true) THEN x.refusal
    ELSE x.content
END;

CREATE OR REPLACE MACRO kind(x, speaker) AS CASE
    WHEN x.type = 'reasoning' THEN 'R'
    WHEN x.type = 'function_call' OR (x.type IS NULL AND x.role IS NULL AND x.arguments IS NOT NULL) THEN 'C'
    WHEN x.type = 'function_call_output' OR x.role IN ('tool', 'function') OR (x.type IS NULL AND x.role IS NULL AND x.output IS NOT NULL) THEN 'O'
    WHEN x.type = 'message' OR (x.type IS NULL AND (x.role IS NOT NULL OR x.content IS NOT NULL)) THEN
        CASE coalesce(x.role, speaker) WHEN 'assistant' THEN 'A' WHEN 'user' THEN 'U' WHEN 'system' THEN 'S' WHEN 'developer' THEN 'D' ELSE 'X' END
    ELSE 'X'
END;

-- Reasoning has a summary, or its text as content. The same text in both is meant once.
CREATE OR REPLACE MACRO thought(summary, content) AS list_transform(
    [list_transform([summary, content], lambda j: joined(said_texts(CASE WHEN starts_with(j::VARCHAR, '[') THEN j ELSE json_array(j) END), '\n\n'))],
    lambda l: joined(CASE WHEN l[1] = l[2] THEN l[:1] ELSE l END, '\n\n')
)[1];

CREATE OR REPLACE MACRO unit_text(x, content, k) AS CASE k
    WHEN 'R' THEN thought(x.summary, content)
    WHEN 'C' THEN CASE WHEN is_name(x.name::VARCHAR) THEN coalesce(arguments_object(x.arguments), to_json(x.arguments)::VARCHAR)
        ELSE to_json(coalesce(arguments_object(x.arguments), x.arguments))::VARCHAR END
    WHEN 'O' THEN result_text(coalesce(x.output, x.content))
    WHEN 'M' THEN content::VARCHAR
    WHEN 'X' THEN media_of(x.output)
    ELSE content_text(content)
END;

CREATE OR REPLACE MACRO id_text(j) AS CASE WHEN is_string(j) THEN j ELSE to_json(j)::VARCHAR END;

CREATE OR REPLACE MACRO units_of(items, speaker) AS list_transform(
    list_transform(
        list_transform(
            list_transform(unfolded(items), lambda x: struct_pack(k := kind(x, speaker), content := content_of(x), x := x)),
            lambda y: struct_pack(k := CASE WHEN y.k IN ('A', 'U', 'S', 'D') AND holds_media(y.content) THEN 'M' ELSE y.k END, content := y.content, x := y.x)
        ),
        lambda y: struct_pack(
            k := y.k, t := unit_text(y.x, y.content, y.k),
            id := id_text(coalesce(nullif(y.x.call_id::VARCHAR, '""'), nullif(y.x.tool_call_id::VARCHAR, '""'))),
            name := CASE y.k WHEN 'M' THEN coalesce(y.x.role, speaker) WHEN 'C' THEN y.x.name::VARCHAR WHEN 'O' THEN y.x.name::VARCHAR END
        )
    ),
    lambda u: struct_pack(
        k := CASE
            WHEN u.k = 'A' AND is_blank(u.t) THEN 'E'
            WHEN u.k = 'R' AND is_blank(u.t) THEN 'r'
            WHEN u.k = 'C' AND NOT (starts_with(u.t, '{') AND is_name(u.name)) THEN 'c'
            ELSE u.k
        END,
        t := CASE WHEN u.k = 'C' AND starts_with(u.t, '{') AND NOT is_name(u.name) THEN to_json(u.t)::VARCHAR ELSE u.t END,
        id := u.id,
        name := CASE WHEN u.k = 'C' AND NOT is_name(u.name) THEN '""' ELSE u.name END
    )
);

-- Most rollouts are plain: messages with one text or a list of parts, reasoning with one summary or none, calls with an id. Their texts
-- were parsed with the row, which is not read again. Each item gets a letter:
--   P  plain     d  plain if its text was a text, and not JSON that reads the same     e  reasoning that seems empty
--   ?  any other item     0  null
CREATE OR REPLACE MACRO holds_content_alone(x) AS (x.type IS NULL OR x.type = 'message') AND x.tool_calls IS NULL AND thought_of(x) IS NULL
    AND x.function_call IS NULL AND x.refusal IS NULL;
CREATE OR REPLACE MACRO is_plain_message(x) AS coalesce(holds_content_alone(x) AND is_string(x.content::VARCHAR), false);
CREATE OR REPLACE MACRO is_plain_answer(x) AS coalesce(
    x.type = 'message' AND coalesce(x.role, 'assistant') = 'assistant' AND len(x.content) = 1 AND x.content[1].text IS NOT NULL
    AND x.tool_calls IS NULL AND x.reasoning_content IS NULL, false
);
CREATE OR REPLACE MACRO is_plain_reasoning(x) AS coalesce(
    x.type = 'reasoning' AND len(x.summary) = 1 AND x.summary[1].text IS NOT NULL AND len(coalesce(x.content, [])) = 0, false
);
-- Texts of the output are parsed as text, which takes half the time of JSON. A number, a boolean, a list or an object then comes out as its
-- JSON, without white space. The type of a text that reads like that is looked up.
CREATE OR REPLACE MACRO may_be_no_text(t) AS CASE
    WHEN starts_with(t, '{') THEN ends_with(t, '}') AND regexp_matches(t, '^\{(?:\}|"(?:[^"\\]|\\.)*":[^ \t\r\n])')
    WHEN starts_with(t, '[') THEN ends_with(t, ']') AND regexp_matches(t, '^\[[^ \t\r\n]')
    WHEN t < ':' OR t = 'true' OR t = 'false' THEN regexp_full_match(t, '-?[0-9][0-9.eE+-]*|true|false')
    ELSE false
END;
CREATE OR REPLACE MACRO is_settled(t) AS NOT (may_be_no_text(t) OR is_blank_text(t));
-- Content that is not a list is null here, as if it were missing; rollouts.sql looks up its type.
CREATE OR REPLACE MACRO is_bare_reasoning(x) AS coalesce(x.type = 'reasoning' AND len(x.summary) = 0 AND len(coalesce(x.content, [])) = 0, false);
-- A list of parts in the input is plain too: it is JSON by itself, so the rest of the row is not read again.
CREATE OR REPLACE MACRO input_letter(x) AS CASE
    WHEN x IS NULL THEN '0'
    WHEN holds_content_alone(x) AND (is_string(x.content::VARCHAR) OR starts_with(x.content::VARCHAR, '[')) AND x.role IN ('user', 'system', 'developer', 'assistant') THEN 'P'
    ELSE '?'
END;
CREATE OR REPLACE MACRO output_letter(x) AS CASE
    WHEN CASE x.type
        WHEN 'message' THEN is_plain_answer(x)
        WHEN 'reasoning' THEN is_plain_reasoning(x)
        WHEN 'function_call' THEN is_name(x.name::VARCHAR) AND is_name(x.call_id::VARCHAR)
        WHEN 'function_call_output' THEN is_string(x.output::VARCHAR) AND is_name(x.call_id::VARCHAR)
    END THEN CASE WHEN may_be_no_text(coalesce(x.content[1].text, x.summary[1].text)) THEN 'd' ELSE 'P' END
    WHEN is_bare_reasoning(x) THEN 'e'
    ELSE '?'
END;
CREATE OR REPLACE MACRO input_letters(items) AS coalesce(array_to_string(list_transform(items, lambda x: input_letter(x)), ''), '');
CREATE OR REPLACE MACRO output_letters(items) AS coalesce(array_to_string(list_transform(items, lambda x: output_letter(x)), ''), '');

-- Looking at the ends of a list is cheaper than going through it: a question after a system message or alone, an answer after
-- reasoning or alone.
CREATE OR REPLACE MACRO is_simple_prompt(items) AS CASE len(items)
    WHEN 1 THEN is_plain_message(items[-1]) AND coalesce(items[-1].role = 'user', false)
    WHEN 2 THEN is_plain_message(items[-1]) AND coalesce(items[-1].role = 'user', false) AND is_plain_message(items[1]) AND coalesce(items[1].role = 'system', false)
    ELSE false
END;
CREATE OR REPLACE MACRO is_simple_completion(items) AS CASE len(items)
    WHEN 1 THEN is_plain_answer(items[-1]) AND is_settled(items[-1].content[1].text)
    WHEN 2 THEN is_plain_answer(items[-1]) AND is_settled(items[-1].content[1].text)
        AND is_plain_reasoning(items[1]) AND is_settled(items[1].summary[1].text)
    ELSE false
END;
CREATE OR REPLACE MACRO plain_input_units(items) AS list_transform(
    list_transform(
        list_transform(items, lambda x: struct_pack(x := x, is_media := NOT is_string(x.content::VARCHAR) AND holds_media(x.content))),
        lambda y: struct_pack(role := y.x.role, is_media := y.is_media, t := CASE WHEN y.is_media THEN y.x.content::VARCHAR ELSE content_text(y.x.content) END)
    ),
    lambda m: struct_pack(
        k := CASE WHEN m.is_media THEN 'M' ELSE
            CASE m.role WHEN 'user' THEN 'U' WHEN 'system' THEN 'S' WHEN 'developer' THEN 'D' ELSE CASE WHEN is_blank(m.t) THEN 'E' ELSE 'A' END END END,
        t := m.t, id := NULL::VARCHAR, name := CASE WHEN m.is_media THEN m.role END
    )
);
CREATE OR REPLACE MACRO plain_output_units(items) AS list_transform(
    list_transform(items, lambda x: struct_pack(
        k := CASE x.type WHEN 'message' THEN 'A' WHEN 'reasoning' THEN 'R' WHEN 'function_call' THEN 'C' ELSE 'O' END,
        t := CASE x.type
            WHEN 'message' THEN to_json(x.content[1].text)::VARCHAR
            WHEN 'reasoning' THEN to_json(coalesce(x.summary[1].text, ''))::VARCHAR
            WHEN 'function_call' THEN arguments_object(x.arguments)
            ELSE x.output::VARCHAR
        END,
        raw := CASE x.type WHEN 'function_call' THEN x.arguments END,
        id := x.call_id::VARCHAR, name := CASE WHEN x.type IN ('function_call', 'function_call_output') THEN x.name::VARCHAR END
    )),
    lambda u: struct_pack(
        k := CASE u.k WHEN 'A' THEN CASE WHEN is_blank(u.t) THEN 'E' ELSE 'A' END WHEN 'R' THEN CASE WHEN is_blank(u.t) THEN 'r' ELSE 'R' END
            WHEN 'C' THEN CASE WHEN u.t IS NULL THEN 'c' ELSE 'C' END ELSE u.k END,
        t := CASE WHEN u.t IS NULL THEN to_json(u.raw)::VARCHAR ELSE u.t END,
        id := u.id, name := u.name
    )
);

CREATE OR REPLACE MACRO kinds(units) AS array_to_string(list_transform(units, lambda u: u.k), '');

CREATE OR REPLACE MACRO said_by(role_kind, json_text) AS struct_pack(k := role_kind, t := json_text, id := NULL::VARCHAR, name := NULL::VARCHAR);

-- Whether a tool gave back an image, audio, video or a file, known or not.
CREATE OR REPLACE MACRO gives_media(units) AS list_contains(list_transform(units, lambda u: u.k IN ('O', 'X') AND starts_with(u.t, '[')), true);

-- The text that keys are made of: what was said and done, without ids. In completions, texts are decoded, with their length before them.
CREATE OR REPLACE MACRO said(units) AS array_to_string(list_transform(units, lambda u: concat(u.k, u.name, u.t)), chr(31));
-- Items of unknown types with all their fields: they may be the only difference between two tasks.
CREATE OR REPLACE MACRO unknown_items(items, speaker) AS list_transform(
    list_filter(list_zip(json_extract(items, '$[*]')::VARCHAR[], json_transform(items, '{{items}}')), lambda y: kind(y[2], speaker) = 'X'),
    lambda y: CASE WHEN starts_with(y[1], '{') THEN object_of(list_filter(entries_of(y[1]), lambda e: e.value IS NOT NULL)) ELSE y[1] END
);
CREATE OR REPLACE MACRO with_length(t) AS strlen(t)::VARCHAR || ':' || t;
CREATE OR REPLACE MACRO said_in_completion(units) AS array_to_string(list_transform(units, lambda u:
    CASE WHEN u.k IN ('A', 'R') THEN concat(u.k, with_length(json_extract_string(u.t, '$'))) ELSE concat(u.k, u.name, u.t) END
), chr(31));

-- Reasoning that stands in the text, up to the last </think>; the opening tag may stand in the prompt's template instead.
CREATE OR REPLACE MACRO after_think(t) AS concat('"', regexp_replace(t, '^.*</think>(?:\\[nrt]| )*', ''));
CREATE OR REPLACE MACRO before_think(t) AS concat('"', regexp_replace(regexp_replace(
    regexp_extract(t, '^"(.*)</think>', 1), '^(?:\\[nrt]| )*(?:<think>)?(?:\\[nrt]| )*', ''
), '((?:^|[^\\])(?:\\\\)*)(?:\\[nrt]| )*$', '\1'), '"');
CREATE OR REPLACE MACRO without_think(units) AS list_transform(units, lambda u: CASE
    WHEN u.k = 'A' AND strpos(u.t, '</think>') > 0 THEN struct_pack(
        k := CASE WHEN is_blank(after_think(u.t)) THEN 'E' ELSE 'A' END, t := after_think(u.t), id := u.id, name := u.name)
    ELSE u
END);
CREATE OR REPLACE MACRO with_think_apart(units) AS flatten(list_transform(units, lambda u: CASE
    WHEN u.k = 'A' AND strpos(u.t, '</think>') > 0 THEN [
        struct_pack(k := CASE WHEN is_blank(before_think(u.t)) THEN 'r' ELSE 'R' END, t := before_think(u.t), id := u.id, name := u.name),
        struct_pack(k := CASE WHEN is_blank(after_think(u.t)) THEN 'E' ELSE 'A' END, t := after_think(u.t), id := u.id, name := u.name)
    ]
    ELSE [u]
END));

-- The text of the last user message, and that of the assistant message that ends the completion.
CREATE OR REPLACE MACRO question_of(units) AS list_transform(list_filter(units, lambda u: u.k = 'U' OR (u.k = 'M' AND u.name = 'user'))[-1:], lambda u:
    CASE u.k WHEN 'M' THEN joined(said_texts(u.t::JSON), '') ELSE u.t END)[1];
CREATE OR REPLACE MACRO answer_of(units, ks) AS CASE
    WHEN ends_with(ks, 'AA') THEN joined(list_transform(units[-length(regexp_extract(ks, 'A+$')):], lambda u: u.t), '\n\n')
    WHEN ends_with(ks, 'A') THEN units[-1].t
END;

-- Whether a question follows reasoning: an item of its own, or <think> text, which of completions may be taken out.
CREATE OR REPLACE MACRO thinks(u, written) AS u.k = 'R' OR (u.k = 'A' AND strpos(u.t, '</think>') > 0 AND CASE written
    WHEN 'keep' THEN true WHEN 'strip' THEN false ELSE NOT is_blank(before_think(u.t)) END);
CREATE OR REPLACE MACRO has_earlier(prompt_units, completion_units, think) AS regexp_matches(array_to_string(list_concat(
    list_transform(prompt_units, lambda u: CASE WHEN thinks(u, 'keep') THEN 't' WHEN u.k = 'M' AND u.name = 'user' THEN 'U' ELSE u.k END),
    list_transform(completion_units, lambda u: CASE WHEN thinks(u, think) THEN 't' WHEN u.k = 'M' AND u.name = 'user' THEN 'U' ELSE u.k END)
), ''), 't.*U');
