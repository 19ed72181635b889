-- pass_at_k: chance that at least one of k attempts at a task passes, without bias, by group
-- 1 - C(n - c, k) / C(n, k) for n sound attempts of which c pass; groups with fewer than k attempts are left out.
--   k = 1: attempts drawn
--   threshold = 0.5: smallest reward that passes
WITH counted AS (
    SELECT
        task_key, prompt_key, min(task_name) AS task_name, min(agent_name) AS agent_name, count(*) AS n,
        count(*) FILTER (WHERE reward >= coalesce(getvariable('threshold'), 0.5) - 1e-9) AS c
    FROM rollouts
    SEMI JOIN (SELECT row FROM verdicts WHERE unsound IS NULL) AS sound USING (row)
    GROUP BY task_key, prompt_key
)
SELECT
    task_name, agent_name, task_key, prompt_key, n, c,
    -- A product of ratios: binomials of large numbers overflow.
    1 - coalesce(list_product(list_transform(range(coalesce(getvariable('k'), 1)::BIGINT), lambda i: greatest(n - c - i, 0) / (n - i))), 1) AS pass_at_k
FROM counted
WHERE n >= coalesce(getvariable('k'), 1)
ORDER BY pass_at_k, task_name, agent_name, task_key, prompt_key;
