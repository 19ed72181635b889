-- verdicts: one row for each rollout. What the recipes with default options make of it: the first rule that drops it, null if kept.
--   unsound: the reward says nothing about the model (failed, masked, not verified, no number); left out of all statistics
--   sft, dpo, grpo: the rule that drops the rollout in `rollout-etl sft|dpo|grpo`
CREATE OR REPLACE VIEW verdicts AS
WITH judged AS (
    SELECT
        row, source, line, task_key, prompt_key, reward,
        CASE
            WHEN is_failure THEN 'failure_row'
            WHEN is_masked THEN 'masked'
            WHEN is_unverified THEN 'verification_skipped'
            WHEN is_nonfinite THEN 'nonfinite_reward'
            WHEN reward IS NULL THEN 'missing_reward'
        END AS unsound,
        CASE
            WHEN is_truncated THEN 'truncated'
            WHEN has_media THEN 'media'
            WHEN is_prompt_empty THEN 'empty_prompt'
            -- The last turn is what follows the last letter that is not the assistant's.
            WHEN completion_kinds <> '' AND NOT regexp_matches(completion_kinds, '[RrACcE]X*$') THEN 'unfinished'
            WHEN NOT regexp_matches(completion_kinds, '[ACc][RrEX]*$') THEN 'empty_answer'
            WHEN contains(prompt_kinds, 'c') OR contains(completion_kinds, 'c') THEN 'invalid_tool_call'
            WHEN num_unanswered > 0 THEN 'unanswered_tool_call'
            WHEN num_orphans > 0 THEN 'orphan_tool_result'
        END AS untrainable,
        CASE
            WHEN regexp_matches(completion_kinds, '[CcOUSDM]') THEN 'flattened_completion'
            WHEN regexp_matches(prompt_kinds, '[CcO]') THEN 'tool_prompt'
        END AS flattened,
        CASE WHEN reward < 0.95 - 1e-9 THEN 'below_threshold' END AS below_threshold,
        CASE
            WHEN is_failure THEN 'failure_row'
            WHEN has_media THEN 'media'
            WHEN is_prompt_empty THEN 'empty_prompt'
            WHEN ground_truth IS NULL THEN 'missing_ground_truth'
        END AS unasked
    FROM canonical
)
SELECT
    row, source, line, task_key, prompt_key, reward, unsound,
    coalesce(unsound, untrainable, below_threshold) AS sft,
    coalesce(unsound, untrainable, flattened) AS dpo,
    unasked AS grpo
FROM judged;
