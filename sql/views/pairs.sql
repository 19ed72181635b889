-- pairs: one row for each preference pair that `rollout-etl dpo` makes with default options: the best rollout of a group against
-- its worst, where rewards are at least 0.2 apart and the answers differ.
CREATE OR REPLACE VIEW pairs AS
WITH ranked AS (
    SELECT
        canonical.row, task_key, prompt_key, canonical.reward,
        -- Ties are broken by attempt, content, file and line, as the recipe does.
        row_number() OVER (PARTITION BY task_key, prompt_key ORDER BY canonical.reward DESC, attempt NULLS LAST, completion_key, source, line) AS from_best,
        row_number() OVER (PARTITION BY task_key, prompt_key ORDER BY canonical.reward ASC, attempt NULLS LAST, completion_key, source, line) AS from_worst
    FROM canonical
    SEMI JOIN (SELECT row FROM verdicts WHERE dpo IS NULL) AS kept USING (row)
),
apart AS (
    SELECT best.task_key, best.prompt_key, best.row AS chosen_row, worst.row AS rejected_row, best.reward AS chosen_reward, worst.reward AS rejected_reward
    FROM ranked AS best JOIN ranked AS worst USING (task_key, prompt_key)
    WHERE best.from_best = 1 AND worst.from_worst = 1 AND best.row <> worst.row AND best.reward - worst.reward >= 0.2 - 1e-9
)
SELECT
    apart.task_key, apart.prompt_key, chosen.task_name, chosen_row, rejected_row,
    chosen_reward, rejected_reward, chosen_reward - rejected_reward AS reward_gap,
    chosen.prompt::JSON AS prompt, chosen.prompt_text, chosen.response_text AS chosen, rejected.response_text AS rejected
FROM apart
JOIN canonical AS chosen ON chosen.row = chosen_row
JOIN canonical AS rejected ON rejected.row = rejected_row
WHERE NOT coalesce(chosen.response_text = rejected.response_text, false);
