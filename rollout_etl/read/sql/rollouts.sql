-- One row of `lines` (row, source, line, text) is one row of the canonical table. The steps are named; only the columns that
-- are asked for are computed. What stands in double braces is filled in by canonical.py.
WITH parsed AS (
    SELECT row, source, line, text AS recorded, {{parse}} AS x FROM lines
),
looked_at AS (
    SELECT *,
        -- No text where it is no JSON: what looks into it again must not fail.
        CASE WHEN x IS NOT NULL THEN recorded END AS text,
        x.responses_create_params.input AS input_items,
        coalesce(len(list_filter(x.responses_create_params.input, lambda i: coalesce(is_plain_input(i), false))) = len(x.responses_create_params.input), false) AS plain_input,
        coalesce(len(x.response.output) > 0 AND len(list_filter(x.response.output, lambda i: coalesce(is_plain_output(i), false))) = len(x.response.output), false) AS plain_output,
        coalesce(len(list_filter(x.responses_create_params.input, lambda i: i IS NOT NULL)), 0) > 0 AS input_listed
    FROM parsed
),
-- What was not parsed as it is spelt is taken from the text again, wherever it stands.
found AS (
    SELECT *,
        CASE WHEN x IS NOT NULL AND NOT input_listed THEN first_present(text, ['$.responses_create_params.input', '$.messages']) END AS input,
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
said AS (
    SELECT * EXCLUDE (input, output, input_items),
        coalesce(json_type(output, '$[0]') = 'ARRAY', false) AS transitions,
        coalesce(starts_with(input, '"'), false) AS string_input,
        NOT input_listed AND input IS NULL AS input_empty,
        CASE WHEN plain_input AND input_listed THEN plain_input_units(input_items)
            WHEN input_listed THEN units_of(input_items, 'user')
            ELSE coalesce(units_of(items_of(input), 'user'), []) END AS input_units,
        CASE WHEN plain_output THEN plain_output_units(x.response.output)
            ELSE coalesce(units_of(items_of(output), 'assistant'), []) END AS output_units
    FROM answered
),
-- Where there is no input, the prompt is what stands before the model's first word, or the problem statement.
counted AS (
    SELECT *, kinds(output_units) AS output_kinds FROM said
),
opened AS (
    SELECT *, CASE WHEN len(input_units) = 0 THEN length(regexp_extract(
        array_to_string(list_transform(output_units, lambda u: CASE WHEN u.k = 'M' AND u.name = 'assistant' THEN 'A' ELSE u.k END), ''), '^[USDM]*'
    )) ELSE 0 END AS opening FROM counted
),
divided AS (
    SELECT * EXCLUDE (input_units, output_units, output_kinds), output_units AS output_all,
        list_concat(
            CASE WHEN is_string(filled(x.responses_create_params.instructions)) THEN [said_by('S', x.responses_create_params.instructions::VARCHAR)] ELSE [] END,
            CASE
                WHEN len(input_units) > 0 THEN input_units
                WHEN opening > 0 THEN output_units[:opening]
                WHEN is_string(filled(json_extract(x.responses_create_params.metadata, '/problem_statement'))) THEN [said_by('U', json_extract(x.responses_create_params.metadata, '/problem_statement')::VARCHAR)]
                ELSE []
            END
        ) AS prompt_units,
        CASE WHEN opening > 0 THEN output_units[opening + 1:] ELSE output_units END AS completion_units
    FROM opened
),
named AS (
    SELECT *, kinds(prompt_units) AS prompt_kinds, kinds(completion_units) AS completion_kinds FROM divided
),
-- From here on units can change (order, ids, reasoning taken out), the kinds above stay what was recorded.
written AS (
    SELECT *, {{only}} AS wanted, prompt_kinds IN ('U', 'SU') AS simple_prompt, {{think_stays}} AND completion_kinds IN ('A', 'RA') AS simple_completion
    FROM named
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
        CASE WHEN NOT wanted THEN NULL WHEN simple_prompt THEN fold_simple(prompt_units, prompt_kinds) ELSE fold(p3, pk2) END AS prompt,
        CASE WHEN NOT wanted THEN NULL WHEN simple_completion THEN fold_simple(completion_units, completion_kinds) ELSE fold(c3, ck2) END AS completion,
        CASE WHEN simple_prompt AND wanted THEN prompt_units[-1].t ELSE question_of(p3) END AS question,
        CASE WHEN simple_completion AND wanted THEN completion_units[-1].t ELSE answer_of(c3, ck2) END AS answer,
        tools_of(coalesce(filled(x.responses_create_params.tools), filled(x.response.tools), filled(x.tools))) AS tools,
        metadata_of(x.responses_create_params.metadata) AS metadata,
        {{ground_truth}} AS ground_truth,
        {{ground_truth_origin}} AS ground_truth_origin
    FROM identified
),
keyed AS (
    SELECT *,
        CASE WHEN x IS NOT NULL THEN md5(concat_ws(chr(30), said(prompt_units), tools, metadata)) END AS prompt_key
    FROM folded
)
SELECT {{columns}} FROM keyed
