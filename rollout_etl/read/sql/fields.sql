-- The parts of a rollout beside what was said: where items stand, tools, metadata, calls and their answers, metrics.

-- The first of several parts of a row that is there and holds something. The row is parsed once for all of them.
CREATE OR REPLACE MACRO first_present(text, paths) AS list_filter(
    list_transform(json_extract(text, paths), lambda j: filled(j)), lambda j: j IS NOT NULL
)[1];
CREATE OR REPLACE MACRO first_named(text, names, paths) AS list_filter(
    list_transform(json_extract(text, paths), lambda j, i: names[i] || ':' || filled(j)), lambda j: j IS NOT NULL
)[1];

-- Whether each transition begins with the one before. Only then does the last one hold everything that was said.
CREATE OR REPLACE MACRO repeat_each_other(transitions) AS list_transform([json_extract(transitions, '$[*]')::VARCHAR[]], lambda l:
    len(list_filter(l, lambda t, i: i > 1 AND NOT starts_with(t, substring(l[i - 1], 1, length(l[i - 1]) - 1)))) = 0)[1];

-- A list of items, the last of a list of transitions (each repeats the one before), one item, or a text.
CREATE OR REPLACE MACRO item_list(j) AS CASE
    WHEN json_type(j, '$[0]') = 'ARRAY' THEN json_extract(j, '$[#-1]')::VARCHAR
    WHEN starts_with(j, '[') THEN j
    WHEN starts_with(j, '{') THEN concat('[', j, ']')
    WHEN is_string(j) THEN concat('[{"content":', j, '}]')
    ELSE '[]'
END;

-- Instructions that are no text: messages, or the content of one.
CREATE OR REPLACE MACRO instruction_items(j) AS CASE WHEN NOT is_string(j) THEN
    CASE WHEN json_type(item_list(j), '$[0].content') IS NOT NULL THEN item_list(j) ELSE concat('[{"content":', j, '}]') END
END;

-- Tools of any spelling (flat, nested, with `doc` and `params`) as chat tools, each once. Keys that only responses have (defer_loading,
-- output_schema, ...) are left out.
CREATE OR REPLACE MACRO without_repeats(texts) AS list_transform([texts], lambda l:
    CASE WHEN len(list_distinct(l)) = len(l) THEN l ELSE list_filter(l, lambda t, i: list_position(l, t) = i) END)[1];
CREATE OR REPLACE MACRO tools_of(tools) AS CASE WHEN starts_with(tools, '[') THEN nullif(concat('[', array_to_string(without_repeats(list_filter(list_transform(
    json_transform(tools, '[{"name":"JSON","description":"JSON","parameters":"JSON","strict":"JSON","function":"JSON","doc":"JSON","params":"JSON"}]'),
    lambda t: CASE
        WHEN t.function IS NOT NULL THEN concat('{"type":"function","function":', t.function, '}')
        WHEN t.name IS NOT NULL THEN concat('{"type":"function","function":{"name":', t.name,
            ',"description":' || coalesce(t.description, t.doc), ',"parameters":' || coalesce(t.parameters, t.params), ',"strict":' || t.strict, '}}')
    END
), lambda t: t IS NOT NULL)), ','), ']'), '[]') END;

-- Keys and values of an object. A map refuses an object in which a key stands twice: its keys are looked up one by one, and the first counts.
CREATE OR REPLACE MACRO entries_of(text) AS CASE
    WHEN json_transform(text, '"MAP(VARCHAR, JSON)"') IS NOT NULL THEN map_entries(json_transform(text, '"MAP(VARCHAR, JSON)"'))
    ELSE list_transform(
        list_filter(json_keys(text), lambda k, i: list_position(json_keys(text), k) = i),
        lambda k: struct_pack(key := k, value := nullif(json_extract(text, '/' || replace(replace(k, '~', '~0'), '/', '~1')), 'null'))
    )
END;

-- Metadata is part of the prompt (a picture, a problem statement). Left out are extra_body, which holds settings of the run, and the index
-- of the attempt, which some agents write there.
CREATE OR REPLACE MACRO metadata_of(metadata) AS CASE WHEN starts_with(metadata::VARCHAR, '{"') THEN nullif(array_to_string(list_sort(list_transform(
    list_filter(entries_of(metadata), lambda e: e.key NOT IN ('extra_body', 'attempt', 'rollout_index') AND NOT starts_with(e.key, '_ng_')), lambda e: concat(to_json(e.key), ':', e.value)
)), ','), '') END;

-- Calls without a result although something other than reasoning and calls follows them, and results that answer no call.
CREATE OR REPLACE MACRO recorded_ids(units, wanted) AS list_filter(
    list_transform(units, lambda u: CASE WHEN strpos(wanted, u.k) > 0 THEN u.id END), lambda id: id IS NOT NULL
);
CREATE OR REPLACE MACRO ids_of(units, ks, prefix, wanted) AS recorded_ids(
    CASE WHEN lacks_ids(units) THEN with_ids(units, ks, prefix) ELSE units END, wanted
);
-- Most calls have their answers, which is cheap to see.
CREATE OR REPLACE MACRO without_answer(asked, given) AS CASE WHEN list_has_all(given, asked) THEN 0
    ELSE len(list_filter(asked, lambda id: NOT list_contains(given, id))) END;
CREATE OR REPLACE MACRO calls_followed(ks) AS length(regexp_replace(regexp_extract(ks, '^(.*)[OUSDMA]', 1), '[^Cc]', '', 'g'));
CREATE OR REPLACE MACRO count_letter(ks, letter) AS strlen(ks) - strlen(replace(ks, letter, ''));
CREATE OR REPLACE MACRO count_unanswered(units, ks, prefix) AS CASE WHEN strpos(ks, 'C') + strpos(ks, 'c') = 0 OR NOT regexp_matches(ks, '[Cc].*[OUSDMA]') THEN 0
    ELSE without_answer(ids_of(units, ks, prefix, 'Cc')[:calls_followed(ks)], ids_of(units, ks, prefix, 'O')) END;
CREATE OR REPLACE MACRO count_orphans(units, ks, prefix) AS CASE WHEN strpos(ks, 'O') = 0 THEN 0
    ELSE without_answer(ids_of(units, ks, prefix, 'O'), ids_of(units, ks, prefix, 'Cc')) END;

-- Characters of a JSON string, and of texts and arguments together, media left out. Without escapes the text need not be decoded.
CREATE OR REPLACE MACRO chars_of(t) AS CASE WHEN starts_with(t, '[') THEN 0 WHEN strpos(t, '\') = 0 THEN length(t) - 2 ELSE length(json_extract_string(t, '$')) END;
CREATE OR REPLACE MACRO chars_said(units) AS coalesce(list_sum(list_transform(
    units, lambda u: CASE u.k WHEN 'C' THEN length(u.t) WHEN 'M' THEN 0 WHEN 'X' THEN 0 ELSE chars_of(u.t) END
)), 0)::BIGINT;
CREATE OR REPLACE MACRO names_called(units) AS concat(
    '[', array_to_string(list_transform(list_filter(units, lambda u: u.k IN ('C', 'c')), lambda u: u.name), ','), ']'
);

-- Names of numbers at the top level that may be scores: not the reward, ids, seeds, names that start with an underscore, or names of
-- objects that every row has.
CREATE OR REPLACE MACRO is_metric_name(name) AS
    NOT starts_with(name, '_') AND name NOT IN ('reward', 'responses_create_params', 'response', 'agent_ref', 'instance_config', 'verifier_metadata', 'metadata') AND NOT regexp_matches(name, '(?i)^(id|uid|uuid|seed)$|_(id|idx|index|seed)$');
CREATE OR REPLACE MACRO object_of(entries) AS concat('{', array_to_string(list_sort(list_transform(entries, lambda e: concat(to_json(e.key), ':', e.value))), ','), '}');
CREATE OR REPLACE MACRO finite(j) AS CASE WHEN isfinite(to_number(j)) THEN to_number(j) END;
CREATE OR REPLACE MACRO metric_text(j) AS to_json(finite(j))::VARCHAR;
CREATE OR REPLACE MACRO metrics_of(text) AS object_of(list_transform(
    list_filter(entries_of(text), lambda e: is_metric_name(e.key) AND isfinite(to_number(e.value::VARCHAR))),
    lambda e: struct_pack(key := e.key, value := to_json(to_number(e.value::VARCHAR))::VARCHAR)
));
CREATE OR REPLACE MACRO extra_of(text) AS object_of(list_filter(
    entries_of(text),
    lambda e: e.key NOT IN ('responses_create_params', 'response', 'output', 'messages', 'tools', 'reward', 'agent_ref', '_ng_task_index', '_ng_rollout_index', 'ng_trajectory', 'ng_model_call_capture', 'ng_agent_observations')
        AND e.value IS NOT NULL
));

-- The row as a prompt for Gym again: without what the run added (response, scores, indices) and without what verifiers answer.
-- Verifiers get every field of the row back, and refuse those that they set themselves. A row that was never answered is one already.
CREATE OR REPLACE MACRO is_verifier_output(name) AS regexp_full_match(name, '{{verifier_output}}') AND NOT regexp_full_match(name, '{{verifier_input}}');
-- Gym takes a text or a list as input, and refuses one message alone, null and rows without.
CREATE OR REPLACE MACRO with_input_listed(params) AS CASE
    WHEN starts_with(json_extract(params, '/input')::VARCHAR, '{') THEN json_merge_patch(params, concat('{"input":[', json_extract(params, '/input'), ']}'))
    WHEN coalesce(json_type(params, '/input'), 'NULL') = 'NULL' THEN json_merge_patch(params, '{"input":[]}')
    ELSE params
END;
CREATE OR REPLACE MACRO gym_row_of(text, unanswered) AS concat('{', array_to_string(list_transform(list_filter(
    entries_of(CASE WHEN coalesce(json_type(text, '/responses_create_params'), 'NULL') = 'NULL' THEN json_merge_patch(text, '{"responses_create_params":{}}') ELSE text END),
    lambda e: e.value IS NOT NULL AND NOT CASE WHEN unanswered THEN starts_with(e.key, '_ng_') ELSE is_verifier_output(e.key) END
), lambda e: concat(to_json(e.key), ':', CASE WHEN e.key = 'responses_create_params' THEN with_input_listed(e.value) ELSE e.value END)), ','), '}');

-- The row without what `merge` writes anew.
CREATE OR REPLACE MACRO kept_of(text) AS object_of(list_filter(
    entries_of(text), lambda e: e.value IS NOT NULL AND e.key NOT IN ('task_name', '_ng_task_index', 'reward')
));
