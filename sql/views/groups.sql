-- groups: one row for each group, the rollouts that share task_key and prompt_key.
--   num_rollouts counts all of them; n and the statistics of rewards count those whose reward is sound (see verdicts.unsound).
--   std is the sample deviation, null under two rollouts; pass_at_1 is the share of rewards of at least 0.5.
CREATE OR REPLACE VIEW groups AS
SELECT
    task_key, prompt_key,
    min(task_name) AS task_name,
    min(agent_name) AS agent_name,
    min(source) AS source,
    count(*) AS num_rollouts,
    count(sound) AS n,
    avg(sound) AS mean,
    stddev_samp(sound) AS std,
    max(sound) AS best,
    min(sound) AS worst,
    avg((sound >= 0.5 - 1e-9)::INTEGER) AS pass_at_1,
    avg(num_turns) AS mean_turns,
    sum(prompt_tokens)::BIGINT AS prompt_tokens,
    sum(completion_tokens)::BIGINT AS completion_tokens,
    min(prompt_text) AS prompt_text
FROM (
    SELECT *, CASE WHEN NOT (is_failure OR is_masked OR is_unverified OR is_nonfinite) THEN reward END AS sound FROM canonical
)
GROUP BY task_key, prompt_key;
