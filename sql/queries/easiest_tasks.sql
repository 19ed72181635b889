-- easiest_tasks: the groups with the highest mean reward
--   most = 20: groups shown
--   attempts = 1: smallest number of sound rewards of a group
SELECT task_name, agent_name, mean, worst, n, prompt_text, task_key, prompt_key
FROM groups
WHERE n >= greatest(coalesce(getvariable('attempts'), 1), 1)
ORDER BY round(mean, 12) DESC, worst DESC, n DESC, task_key, prompt_key
LIMIT coalesce(getvariable('most'), 20);
