-- tool_failures: calls of each tool that are malformed, get no answer, or are answered with an error
-- Calls of completions. The calls that end a rollout get no answer, and some environments record none, so only malformed calls and
-- errors make the failure rate.
--   pattern = (?i)^\s*(error|traceback|exception|failed|.{0,40}not\sfound): what an answer that is an error looks like
WITH judged AS (
    SELECT
        name, is_valid, answered,
        coalesce(regexp_matches(result, coalesce(getvariable('pattern'), '(?i)^\s*(error|traceback|exception|failed|.{0,40}not\sfound)')), false) AS is_error
    FROM tool_calls
    WHERE part = 'completion'
)
SELECT
    name,
    count(*) AS calls,
    count(*) FILTER (WHERE NOT is_valid) AS malformed,
    count(*) FILTER (WHERE NOT answered) AS unanswered,
    count(*) FILTER (WHERE is_error) AS errors,
    avg((NOT is_valid OR is_error)::INTEGER) AS failure_rate
FROM judged
GROUP BY name
ORDER BY failure_rate DESC, calls DESC, name;
