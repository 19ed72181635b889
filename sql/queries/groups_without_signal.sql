-- groups_without_signal: groups whose rewards are all the same, from which GRPO and DPO learn nothing
-- Groups of one reward are counted apart: they have no other to differ from.
--   slack = 0.000000001: rewards that differ by no more are the same
SELECT
    task_name, agent_name,
    count(*) AS num_groups,
    count(*) FILTER (WHERE n = 0) AS without_reward,
    count(*) FILTER (WHERE n = 1) AS single,
    count(*) FILTER (WHERE n > 1 AND best - worst <= coalesce(getvariable('slack'), 0.000000001) AND mean >= 0.5 - 1e-9) AS all_good,
    count(*) FILTER (WHERE n > 1 AND best - worst <= coalesce(getvariable('slack'), 0.000000001) AND mean < 0.5 - 1e-9) AS all_bad,
    count(*) FILTER (WHERE n > 1 AND best - worst > coalesce(getvariable('slack'), 0.000000001)) AS with_signal
FROM groups
GROUP BY task_name, agent_name
ORDER BY task_name, agent_name;
