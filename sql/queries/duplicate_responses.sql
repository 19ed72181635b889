-- duplicate_responses: answers that stand more than once in a group, word for word
--   least = 2: smallest number of times
SELECT
    count(*) AS times, min(reward) AS worst, max(reward) AS best, min(task_name) AS task_name, min(agent_name) AS agent_name,
    response_text, task_key, prompt_key
FROM rollouts
WHERE trim(response_text) <> ''
GROUP BY task_key, prompt_key, response_text
HAVING count(*) >= coalesce(getvariable('least'), 2)
ORDER BY times DESC, task_key, prompt_key, response_text;
