-- drops: one row for each rollout that a recipe with default options drops, with the rule that does. Equals the run report.
CREATE OR REPLACE VIEW drops AS
SELECT recipe, rule, row, source, line
FROM (
    SELECT 'sft' AS recipe, sft AS rule, row, source, line FROM verdicts
    UNION ALL SELECT 'dpo', dpo, row, source, line FROM verdicts
    UNION ALL SELECT 'grpo', grpo, row, source, line FROM verdicts
)
WHERE rule IS NOT NULL;
