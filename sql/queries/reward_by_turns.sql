-- reward_by_turns: mean reward by the number of assistant messages of a rollout
-- The last row, turns of `most` or more, holds the rest.
--   most = 20: turns that are told apart
SELECT
    agent_name, least(num_turns, coalesce(getvariable('most'), 20)) AS turns,
    count(*) AS n, avg(reward) AS mean_reward, avg(num_tool_calls) AS mean_tool_calls
FROM rollouts
SEMI JOIN (SELECT row FROM verdicts WHERE unsound IS NULL) AS sound USING (row)
GROUP BY agent_name, turns
ORDER BY agent_name, turns;
