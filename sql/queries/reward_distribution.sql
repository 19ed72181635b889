-- reward_distribution: how rewards spread, in bins of equal width, for each task family
-- Rewards that say nothing about the model (verdicts.unsound) are left out. A reward on the border belongs to the bin that begins there.
--   width = 0.1: width of a bin, more than 0
WITH asked AS (SELECT if(coalesce(getvariable('width'), 0.1) > 0, coalesce(getvariable('width'), 0.1), error('width must be more than 0')) AS width)
SELECT
    task_name, agent_name,
    round(floor(reward / width + 1e-9) * width, 9) AS bin,
    count(*) AS n,
    count(*) / sum(count(*)) OVER (PARTITION BY task_name, agent_name) AS share
FROM rollouts
SEMI JOIN (SELECT row FROM verdicts WHERE unsound IS NULL) AS sound USING (row)
CROSS JOIN asked
GROUP BY task_name, agent_name, bin
ORDER BY task_name, agent_name, bin;
