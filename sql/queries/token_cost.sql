-- token_cost: tokens of each task family, and what one good rollout costs
-- As the model server counted; rollouts without counts are left out of the sums. A good reward is one that says something about
-- the model (not verdicts.unsound).
--   threshold = 0.5: smallest reward of a good rollout
SELECT
    task_name, agent_name,
    count(*) AS num_rollouts,
    count(completion_tokens) AS counted,
    sum(prompt_tokens)::BIGINT AS prompt_tokens,
    sum(completion_tokens)::BIGINT AS completion_tokens,
    avg(completion_tokens) AS mean_completion_tokens,
    sum(completion_tokens) / nullif(
        count(*) FILTER (WHERE is_sound AND reward >= coalesce(getvariable('threshold'), 0.5) - 1e-9 AND completion_tokens IS NOT NULL), 0
    ) AS completion_tokens_per_good
FROM rollouts
JOIN (SELECT row, unsound IS NULL AS is_sound FROM verdicts) AS judged USING (row)
GROUP BY task_name, agent_name
ORDER BY completion_tokens DESC NULLS LAST, task_name, agent_name;
