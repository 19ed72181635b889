-- duplicate_responses: answers that stand more than once in a group, word for word
-- Of rewards that say nothing about the model (verdicts.unsound) none is the worst or the best.
--   least = 2: smallest number of times
SELECT
    count(*) AS times, min(reward) FILTER (WHERE is_sound) AS worst, max(reward) FILTER (WHERE is_sound) AS best,
    min(task_name) AS task_name, min(agent_name) AS agent_name,
    response_text, task_key, prompt_key
FROM rollouts
JOIN (SELECT row, unsound IS NULL AS is_sound FROM verdicts) AS judged USING (row)
WHERE trim(response_text) <> ''
GROUP BY task_key, prompt_key, response_text
HAVING count(*) >= coalesce(getvariable('least'), 2)
ORDER BY times DESC, task_key, prompt_key, response_text;
