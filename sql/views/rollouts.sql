-- rollouts: one row for each rollout. The canonical table as it is, payloads typed JSON.
--   reward is null when it is missing or no finite number; prompt and completion are lists of chat messages.
CREATE OR REPLACE VIEW rollouts AS
SELECT
    row, source, line, shape, task_name, agent_name, task_index, attempt, task_key, prompt_key, messages_key, completion_key,
    prompt::JSON AS prompt,
    completion::JSON AS completion,
    tools::JSON AS tools,
    prompt_text, response_text,
    ground_truth::JSON AS ground_truth,
    ground_truth_text, ground_truth_origin,
    reward, is_nonfinite, is_masked, is_failure, is_unverified, is_truncated, says_error, has_media, is_prompt_empty,
    prompt_kinds, completion_kinds, has_inexact_number, has_earlier_reasoning,
    num_messages, prompt_chars, completion_chars, response_key,
    tool_names::JSON AS tool_names,
    num_turns, num_tool_calls, num_unanswered, num_orphans, num_encrypted, num_empty, num_unknown,
    prompt_tokens, completion_tokens,
    token_calls::JSON AS token_calls,
    statics::JSON AS statics,
    metrics::JSON AS metrics,
    extra::JSON AS extra,
    gym_row::JSON AS gym_row
FROM canonical;
