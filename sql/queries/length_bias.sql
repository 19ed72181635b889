-- length_bias: whether longer answers are rewarded more: correlation of reward and length, within groups and over all
-- Length is in characters of the final answer and in completion tokens. Within groups, both are taken from their group's mean,
-- so that tasks that are long and hard do not look like a bias. Null where nothing varies.
WITH sound AS (
    SELECT
        task_name, agent_name, reward, length(response_text)::DOUBLE AS characters, completion_tokens::DOUBLE AS tokens,
        reward - avg(reward) OVER same AS reward_off,
        characters - avg(length(response_text)::DOUBLE) OVER same AS characters_off,
        tokens - avg(completion_tokens::DOUBLE) OVER same AS tokens_off
    FROM rollouts
    SEMI JOIN (SELECT row FROM verdicts WHERE unsound IS NULL) AS kept USING (row)
    WHERE response_text IS NOT NULL
    WINDOW same AS (PARTITION BY task_key, prompt_key)
)
SELECT
    task_name, agent_name, count(*) AS n,
    CASE WHEN stddev_pop(reward) > 1e-12 AND stddev_pop(characters) > 1e-12 THEN corr(reward, characters) END AS with_characters,
    CASE WHEN stddev_pop(reward_off) > 1e-12 AND stddev_pop(characters_off) > 1e-12 THEN corr(reward_off, characters_off) END AS with_characters_in_group,
    CASE WHEN stddev_pop(reward_off) > 1e-12 AND stddev_pop(tokens_off) > 1e-12 THEN corr(reward_off, tokens_off) END AS with_tokens_in_group,
    avg(characters) FILTER (WHERE reward >= 0.5 - 1e-9) AS mean_characters_good,
    avg(characters) FILTER (WHERE reward < 0.5 - 1e-9) AS mean_characters_bad
FROM sound
GROUP BY task_name, agent_name
ORDER BY task_name, agent_name;
