-- quarantine: one row for each line that is no rollout. Bytes of `text` that are not UTF-8 are written as \xNN.
CREATE OR REPLACE VIEW quarantine AS
SELECT source, line, reason, text FROM quarantined;
