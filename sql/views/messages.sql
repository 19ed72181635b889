-- messages: one row for each chat message of a rollout, prompt first. `position` counts from 0 through prompt and completion.
--   part is 'prompt' or 'completion'; text joins the text parts of a message with media; message is the whole of it.
CREATE OR REPLACE VIEW messages AS
WITH parsed AS (
    SELECT row, source, line, task_key, prompt_key, from_json(prompt, '["JSON"]') AS asked, from_json(completion, '["JSON"]') AS replied
    FROM canonical
),
listed AS (
    SELECT
        row, source, line, task_key, prompt_key, len(asked) AS num_asked,
        unnest(list_concat(asked, replied)) AS message,
        generate_subscripts(list_concat(asked, replied), 1) - 1 AS position
    FROM parsed
)
SELECT
    row, source, line, task_key, prompt_key, position,
    CASE WHEN position < num_asked THEN 'prompt' ELSE 'completion' END AS part,
    message->>'$.role' AS role,
    CASE json_type(message, '$.content')
        WHEN 'ARRAY' THEN array_to_string(list_transform(
            list_filter(
                json_extract(message, '$.content[*]'),
                lambda p: coalesce(json_type(p, '$.text') = 'VARCHAR' OR json_type(p, '$.refusal') = 'VARCHAR', false)
            ),
            lambda p: CASE json_type(p, '$.text') WHEN 'VARCHAR' THEN p->>'$.text' ELSE p->>'$.refusal' END
        ), '')
        WHEN 'VARCHAR' THEN message->>'$.content'
    END AS text,
    message->>'$.reasoning_content' AS reasoning,
    coalesce(json_array_length(message, '$.tool_calls'), 0)::BIGINT AS num_tool_calls,
    message->>'$.tool_call_id' AS tool_call_id,
    message
FROM listed;
