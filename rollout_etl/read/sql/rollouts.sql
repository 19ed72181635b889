-- One row of `lines` (row, source, line, text) is one row of the canonical table. The steps are named; only the columns that
-- are asked for are computed. What stands in double braces is filled in by canonical.py.
WITH parsed AS (
    SELECT row, source, line, text AS recorded, {{parse}} AS x FROM lines
),
-- A question with one answer, the usual case, is used as it stands.
simplified AS (
    SELECT *,
        filled(x.responses_create_params.instructions) AS instructions,
        is_simple_prompt(x.responses_create_params.input) AND instructions IS NULL AS simple_question,
        {{think_stays}} AND is_simple_completion(x.response.output) AS simple_completion
    FROM parsed
),
lettered AS (
    SELECT *,
        -- Null for a line that is not JSON, so that reading it again cannot fail.
        CASE WHEN x IS NOT NULL THEN recorded END AS text,
        CASE WHEN NOT simple_question THEN input_letters(x.responses_create_params.input) WHEN len(x.responses_create_params.input) = 1 THEN 'U' ELSE 'SU' END AS input_letters,
        CASE WHEN NOT simple_completion THEN output_letters(x.response.output) WHEN len(x.response.output) = 1 THEN 'A' ELSE 'RA' END AS output_letters
    FROM simplified
),
looked_at AS (
    SELECT *,
        input_letters <> '' AND strpos(input_letters, '?') = 0 AND strpos(input_letters, '0') = 0 AS plain_input,
        output_letters <> '' AND strpos(output_letters, '?') = 0
            AND CASE WHEN contains(output_letters, 'e') THEN NOT list_has_any(json_type(text, '$.response.output[*].content'), ['VARCHAR', 'OBJECT']) ELSE true END
            AND CASE WHEN contains(output_letters, 'd') THEN all_texts(list_concat(
                json_type(text, '$.response.output[*].content[*].text'), json_type(text, '$.response.output[*].summary[*].text')
            )) ELSE true END AS plain_output,
        replace(input_letters, '0', '') <> '' AS input_listed,
        -- Only an output that is plain cannot repeat the question.
        simple_question AND plain_output AS simple_prompt
    FROM lettered
),
-- Sides that are not plain are read from the text again, from the first place that holds something.
found AS (
    SELECT *,
        CASE WHEN x IS NOT NULL AND NOT plain_input THEN first_present(text, ['$.responses_create_params.input', '$.messages']) END AS input,
        CASE WHEN x IS NOT NULL AND NOT plain_output THEN first_present(text, [
            '$.response.output', '$.output', '$.response.choices[0].message', '$.response.output_text', '$.response.message'
        ]) END AS output
    FROM looked_at
),
answered AS (
    SELECT * EXCLUDE (output),
        CASE
            WHEN output IS NOT NULL OR plain_output OR text IS NULL THEN output
            WHEN json_type(text, '$.response') IN ('VARCHAR', 'ARRAY') OR len(first_present(text, ['$.response.role', '$.response.content'])) > 0
                THEN first_present(text, ['$.response'])
        END AS output
    FROM found
),
-- Every use of a macro is planned anew, so the units of both sides, and of instructions, are made in one place.
spoken AS (
    SELECT * EXCLUDE (output),
        CASE WHEN json_type(output, '$[0]') = 'ARRAY' THEN CASE WHEN repeat_each_other(output) THEN '+transitions' ELSE '+diverging_transitions' END ELSE '' END AS transitions,
        coalesce(starts_with(input, '"'), false) AS string_input,
        NOT input_listed AND input IS NULL AS input_empty,
        CASE WHEN plain_input AND plain_output AND coalesce(is_string(instructions), true) THEN NULL ELSE list_transform([
            struct_pack(items := CASE WHEN plain_input THEN NULL WHEN input_listed THEN input ELSE item_list(input) END, speaker := 'user'),
            struct_pack(items := CASE WHEN plain_output THEN NULL ELSE item_list(output) END, speaker := 'assistant'),
            struct_pack(items := instruction_items(instructions), speaker := 'system')
        ], lambda side: coalesce(units_of(json_transform(side.items, '{{items}}'), side.speaker), [])) END AS units
    FROM answered
),
said AS (
    SELECT *,
        CASE WHEN simple_prompt THEN [] WHEN plain_input THEN plain_input_units(x.responses_create_params.input) ELSE units[1] END AS input_units,
        CASE WHEN simple_completion THEN [] WHEN plain_output THEN plain_output_units(x.response.output) ELSE units[2] END AS output_units
    FROM spoken
),
-- Some agents write the whole conversation into the output, the input first.
repeated AS (
    SELECT *, CASE WHEN input_units[1].k IN ('U', 'S', 'D', 'M') AND output_units[:len(input_units)] = input_units THEN len(input_units) ELSE 0 END AS repeated FROM said
),
-- Where there is no input, or it is repeated, the prompt is what stands before the model's first word. `opening` counts those units.
opened AS (
    SELECT *, CASE WHEN (len(input_units) = 0 AND NOT simple_prompt) OR repeated > 0 THEN repeated + length(regexp_extract(
        array_to_string(list_transform(output_units[repeated + 1:], lambda u: CASE WHEN u.k = 'M' AND u.name = 'assistant' THEN 'A' ELSE u.k END), ''), '^[USDM]*'
    )) ELSE 0 END AS opening FROM repeated
),
divided AS (
    SELECT * EXCLUDE (input_units, output_units, units), output_units AS output_all,
        CASE WHEN simple_prompt THEN [] ELSE list_concat(
            CASE WHEN is_string(instructions) THEN [said_by('S', instructions)] ELSE coalesce(units[3], []) END,
            CASE
                WHEN opening > 0 THEN output_units[:opening]
                WHEN len(input_units) > 0 THEN input_units
                WHEN is_string(filled(json_extract(x.responses_create_params.metadata, '/problem_statement'))) THEN [said_by('U', json_extract(x.responses_create_params.metadata, '/problem_statement')::VARCHAR)]
                ELSE []
            END
        ) END AS prompt_units,
        output_units[opening + 1:] AS completion_units
    FROM opened
),
named AS (
    SELECT *,
        CASE WHEN simple_prompt THEN input_letters ELSE kinds(prompt_units) END AS prompt_kinds,
        CASE WHEN simple_completion THEN output_letters ELSE kinds(completion_units) END AS completion_kinds,
        -- The texts of what is simple.
        CASE WHEN simple_prompt THEN x.responses_create_params.input[-1].content::VARCHAR END AS asked,
        CASE WHEN input_letters = 'SU' THEN x.responses_create_params.input[1].content::VARCHAR END AS briefed,
        CASE WHEN simple_completion AND output_letters = 'RA' THEN x.response.output[1].summary[1].text END AS thought,
        CASE WHEN simple_completion THEN x.response.output[-1].content[1].text ELSE json_extract_string(completion_units[-1].t, '$') END AS last_text
    FROM divided
),
-- From here on units may change (order, ids, reasoning taken out); the kinds above tell what was recorded.
written AS (
    SELECT *, {{only}} AS wanted FROM named
),
styled AS (
    SELECT *,
        CASE WHEN wanted AND NOT simple_prompt THEN {{styled_prompt}} END AS p1,
        CASE WHEN wanted AND NOT simple_completion THEN {{styled_completion}} END AS c1
    FROM written
),
live AS (
    SELECT *, kinds(p1) AS pk1, kinds(c1) AS ck1 FROM styled
),
ordered AS (
    SELECT * EXCLUDE (p1, c1, pk1, ck1),
        CASE WHEN is_disordered(pk1) THEN in_order(p1, pk1) ELSE p1 END AS p2,
        CASE WHEN is_disordered(ck1) THEN in_order(c1, ck1) ELSE c1 END AS c2
    FROM live
),
relettered AS (
    SELECT *, kinds(p2) AS pk2, kinds(c2) AS ck2 FROM ordered
),
identified AS (
    SELECT * EXCLUDE (p2, c2),
        CASE WHEN lacks_ids(p2) THEN with_ids(p2, pk2, 'prompt_call_') ELSE p2 END AS p3,
        CASE WHEN lacks_ids(c2) THEN with_ids(c2, ck2, 'call_') ELSE c2 END AS c3
    FROM relettered
),
folded AS (
    SELECT *,
        CASE WHEN NOT wanted THEN NULL WHEN simple_prompt THEN prompt_of(briefed, asked) ELSE fold(p3, pk2) END AS prompt,
        CASE WHEN NOT wanted THEN NULL WHEN simple_completion THEN completion_of(to_json(thought)::VARCHAR, to_json(last_text)::VARCHAR) ELSE fold(c3, ck2) END AS completion,
        CASE WHEN NOT wanted THEN NULL WHEN simple_prompt THEN prompt_of(briefed, asked) ELSE plain_fold(p3, pk2) END AS plain_prompt,
        CASE WHEN NOT wanted THEN NULL WHEN simple_completion THEN plain_answer(thought, last_text) ELSE plain_fold(c3, ck2) END AS plain_completion,
        CASE WHEN NOT wanted THEN NULL WHEN simple_prompt THEN asked ELSE question_of(p3) END AS question,
        CASE WHEN NOT wanted THEN NULL WHEN simple_completion THEN to_json(last_text)::VARCHAR ELSE answer_of(c3, ck2) END AS answer,
        CASE WHEN NOT wanted THEN NULL WHEN simple_completion THEN last_text ELSE json_extract_string(answer_of(c3, ck2), '$') END AS answer_text,
        CASE WHEN simple_prompt THEN concat('S' || briefed || chr(31), 'U', asked)
            WHEN contains(prompt_kinds, 'X') THEN array_to_string(list_concat([said(prompt_units)], unknown_items(CASE WHEN input_listed THEN input ELSE item_list(input) END, 'user')), chr(31))
            ELSE said(prompt_units) END AS said_prompt,
        tools_of(coalesce(filled(x.responses_create_params.tools), filled(x.response.tools), filled(x.tools))) AS tools,
        metadata_of(x.responses_create_params.metadata) AS metadata,
        {{ground_truth}} AS ground_truth,
        {{ground_truth_origin}} AS ground_truth_origin
    FROM identified
),
keyed AS (
    SELECT *,
        CASE WHEN x IS NOT NULL THEN md5(concat_ws(chr(30), said_prompt, tools, metadata)) END AS prompt_key
    FROM folded
)
SELECT {{columns}} FROM keyed
