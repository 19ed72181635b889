-- metrics: one row for each metric of a rollout, a number beside the reward (accuracy, set_overlap, ...).
CREATE OR REPLACE VIEW metrics AS
SELECT row, source, line, task_key, prompt_key, entry.key AS name, entry.value AS value
FROM (
    SELECT row, source, line, task_key, prompt_key, unnest(map_entries(from_json(metrics, '"MAP(VARCHAR, DOUBLE)"'))) AS entry
    FROM canonical
    WHERE metrics <> '{}'
);
