-- tool_use: how often each tool is called, and how the rollouts that call it fare
-- Calls of completions; a rollout that calls a tool twice counts once in rollouts and mean_reward,
-- which leaves out rewards that say nothing about the model (verdicts.unsound).
WITH used AS (
    SELECT name, row, count(*) AS calls FROM tool_calls WHERE part = 'completion' GROUP BY name, row
)
SELECT
    name, sum(calls)::BIGINT AS calls, count(*) AS num_rollouts, sum(calls) / count(*) AS calls_per_rollout, avg(reward) FILTER (WHERE is_sound) AS mean_reward
FROM used
JOIN rollouts USING (row)
JOIN (SELECT row, unsound IS NULL AS is_sound FROM verdicts) AS judged USING (row)
GROUP BY name
ORDER BY calls DESC, name;
