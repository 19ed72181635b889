-- iteration_trend: mean reward from one iteration of training to the next
-- The iteration is a field of the rollout, or, where it has none, the file: one file an iteration.
--   field = iteration: field of the rollout that holds the iteration
WITH dated AS (
    SELECT
        coalesce(json_extract_string(extra, '/' || coalesce(getvariable('field'), 'iteration')), source) AS iteration,
        reward, num_turns, completion_tokens, is_truncated
    FROM rollouts
    SEMI JOIN (SELECT row FROM verdicts WHERE unsound IS NULL) AS sound USING (row)
)
SELECT
    iteration, count(*) AS n, avg(reward) AS mean_reward, stddev_samp(reward) AS std_reward,
    avg(num_turns) AS mean_turns, avg(completion_tokens) AS mean_completion_tokens, avg(is_truncated::INTEGER) AS truncated
FROM dated
GROUP BY iteration
ORDER BY try_cast(iteration AS DOUBLE), iteration;
