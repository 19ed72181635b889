-- tool_calls: one row for each tool call, of the prompt too. `position` is that of the message in `messages`, `call` counts
-- the calls of that message from 0.
--   name is null where the call has none, or is no text; arguments are an object, or a JSON string where the model wrote none (is_valid is false)
--   result is the text of the tool message that answers, or JSON where it holds images or other media: the n-th result with an id
--   answers the n-th call with it.
CREATE OR REPLACE VIEW tool_calls AS
WITH said AS (
    SELECT row, source, line, position, part, message FROM messages
),
listed AS (
    SELECT
        row, source, line, position, part,
        unnest(json_extract(message, '$.tool_calls[*]')) AS called,
        generate_subscripts(json_extract(message, '$.tool_calls[*]'), 1) - 1 AS call
    FROM said
    WHERE json_array_length(message, '$.tool_calls') > 0
),
numbered AS (
    SELECT *, called->>'$.id' AS id, row_number() OVER (PARTITION BY row, part, called->>'$.id' ORDER BY position, call) AS nth FROM listed
),
results AS (
    SELECT
        row, part, message->>'$.tool_call_id' AS id, message->>'$.content' AS result,
        row_number() OVER (PARTITION BY row, part, message->>'$.tool_call_id' ORDER BY position) AS nth
    FROM said
    WHERE message->>'$.role' = 'tool'
)
SELECT
    numbered.row, source, line, position, part, call, id,
    CASE json_type(called, '$.function.name') WHEN 'VARCHAR' THEN called->>'$.function.name' END AS name,
    json_extract(called, '$.function.arguments') AS arguments,
    json_type(called, '$.function.arguments') = 'OBJECT' AND json_type(called, '$.function.name') = 'VARCHAR' AS is_valid,
    results.id IS NOT NULL AS answered,
    result
FROM numbered LEFT JOIN results USING (row, part, id, nth);
