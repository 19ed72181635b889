-- agents_compared: agents side by side, on the tasks that they share and on all of theirs
-- Agents share a task when they were given the same prompt; a prompt counts once however many attempts it had.
WITH by_prompt AS (
    SELECT agent_name, prompt_key, avg(reward) AS mean_reward
    FROM rollouts
    SEMI JOIN (SELECT row FROM verdicts WHERE unsound IS NULL) AS sound USING (row)
    WHERE agent_name IS NOT NULL
    GROUP BY agent_name, prompt_key
),
marked AS (
    SELECT *, count(*) OVER (PARTITION BY prompt_key) > 1 AS is_shared FROM by_prompt
),
everything AS (
    SELECT
        agent_name, count(*) AS num_rollouts, avg(is_failure::INTEGER) AS failed, avg(is_truncated::INTEGER) AS truncated, avg(num_turns) AS mean_turns,
        avg(num_tool_calls) AS mean_tool_calls, avg(completion_tokens) AS mean_completion_tokens
    FROM rollouts
    WHERE agent_name IS NOT NULL
    GROUP BY agent_name
)
SELECT
    everything.agent_name, num_rollouts,
    count(prompt_key) AS num_prompts,
    avg(mean_reward) AS mean_reward,
    count(*) FILTER (WHERE is_shared) AS shared_prompts,
    avg(mean_reward) FILTER (WHERE is_shared) AS mean_reward_shared,
    any_value(failed) AS failed, any_value(truncated) AS truncated, any_value(mean_turns) AS mean_turns,
    any_value(mean_tool_calls) AS mean_tool_calls, any_value(mean_completion_tokens) AS mean_completion_tokens
FROM everything LEFT JOIN marked ON marked.agent_name = everything.agent_name
GROUP BY everything.agent_name, num_rollouts
ORDER BY mean_reward DESC NULLS LAST, everything.agent_name;
