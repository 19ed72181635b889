"""The canonical table: its columns, their types, and the SQL that each is made of.

The SQL names the steps of `read/sql/rollouts.sql` (`x` is the parsed row, `prompt_units` and `completion_units` what was said,
`prompt_kinds` and `completion_kinds` a letter for each unit). Shapes and lookup orders are those of `structure.py`.
"""

from __future__ import annotations

from typing import NamedTuple

import polars as pl

from rollout_etl.read.structure import ID_FIELDS, STATIC_FIELDS, TASK_FIELDS


class Column(NamedTuple):
    """A column of the canonical table."""

    sql: str
    dtype: pl.DataType | type[pl.DataType]
    meaning: str


_STATICS = (
    "CASE WHEN coalesce(" + ", ".join(f"x.{name}" for name in STATIC_FIELDS) + ") IS NOT NULL THEN to_json(struct_pack("
    + ", ".join(f"{name} := x.{name}" for name in STATIC_FIELDS) + "))::VARCHAR END"
)
# Most rollouts have an index. The fields that can replace it are looked up only where it is missing, not parsed in every row.
_TASK_ID = f"first_named(text, {list(ID_FIELDS)}, {[f'$.{name}' for name in ID_FIELDS]})"
_TASK_KEY = f"""CASE
    WHEN x IS NULL THEN NULL
    WHEN {{{{group_by}}}} IS NOT NULL THEN md5(concat_ws(chr(30), 'fields', {{{{group_by}}}}))
    WHEN x._ng_task_index IS NOT NULL THEN md5(concat_ws(chr(30), 'index', {{{{namespaces}}}}[source + 1], coalesce(x.agent_ref.name, ''), x._ng_task_index))
    WHEN {_TASK_ID} IS NOT NULL THEN md5(concat_ws(chr(30), 'id', {{{{namespaces}}}}[source + 1], coalesce(x.agent_ref.name, ''), {_TASK_ID}, prompt_key))
    WHEN prompt_kinds = '' AND metadata IS NULL THEN md5(concat_ws(chr(30), 'line', trim(text, E' \\t\\r\\n')))
    WHEN x IS NOT NULL THEN md5(concat_ws(chr(30), 'prompt', prompt_key, {{{{ground_truth_again}}}}, {_STATICS}))
END"""
_SAID = "CASE WHEN simple_completion THEN concat('R' || with_length(thought) || chr(31), 'A', with_length(last_text)) ELSE said_in_completion(completion_units) END"
_PLACE = """CASE
    WHEN x.response.output IS NOT NULL THEN
        CASE WHEN x.responses_create_params IS NOT NULL THEN 'response' WHEN x.messages IS NOT NULL THEN 'messages' ELSE 'response_only' END
    WHEN x.output IS NOT NULL THEN 'output'
    WHEN len(output_all) > 0 THEN CASE WHEN x.responses_create_params IS NULL AND x.messages IS NOT NULL THEN 'messages' ELSE 'response_text' END
    WHEN x.responses_create_params IS NOT NULL OR x.messages IS NOT NULL THEN 'no_response'
    ELSE 'no_prompt'
END"""
# The top-level output is used, and holds chat messages.
_IS_CHAT = """coalesce(len(x.response.output), 0) = 0 AND x.output IS NOT NULL
    AND len(json_extract(text, '$.output[*].role')) > 0 AND len(json_extract(text, '$.output[*].type')) = 0"""
# What Gym needs is missing: the input. `+empty_input`: there is no prompt beside it. `+no_input`: the prompt stands elsewhere, or the row
# has no responses_create_params. The names of the other places say that already.
_INPUT_MARK = f"""CASE
    WHEN x.responses_create_params IS NULL THEN CASE WHEN {_PLACE} IN ('output', 'response_text', 'no_response') THEN '+no_input' ELSE '' END
    WHEN input_empty THEN '+empty_input'
    WHEN NOT input_listed AND x.messages IS NOT NULL AND filled(json_extract(text, '$.responses_create_params.input')) IS NULL THEN '+no_input'
    ELSE ''
END"""
_SHAPE = f"""CASE WHEN plain_input AND plain_output THEN 'response' ELSE
    {_PLACE}
    || CASE WHEN {_IS_CHAT} THEN '+chat' ELSE '' END
    || CASE WHEN string_input THEN '+string_input' ELSE '' END
    || {_INPUT_MARK}
    || transitions
END
|| CASE WHEN instructions IS NOT NULL THEN '+instructions' ELSE '' END"""

IS_ROLLOUT = """(x.responses_create_params IS NOT NULL OR x.response IS NOT NULL OR x.output IS NOT NULL OR x.messages IS NOT NULL
    OR x.reward IS NOT NULL OR x._ng_rollout_index IS NOT NULL OR x._ng_failure_class IS NOT NULL)"""
"""A line is a rollout when it is a JSON object with a prompt, a response, a reward or an attempt number."""
IS_UNANSWERED = "x.response IS NULL AND x.output IS NULL AND x.reward IS NULL"
"""A row of task inputs."""

COLUMNS: dict[str, Column] = {
    "row": Column("row", pl.Int64, "number of the row within the scan, from 0"),
    "source": Column("source", pl.String, "file"),
    "line": Column("line", pl.Int64, "line of the file, from 1; row of a Parquet file or element of a JSON array"),
    "shape": Column(_SHAPE, pl.String, "where the row keeps what was said"),
    "task_name": Column("x.task_name->>'$'", pl.String, "name of the task family, null where the row has none"),
    "agent_name": Column("x.agent_ref.name", pl.String, "agent that ran; from the task inputs where the rollout names none"),
    "task_index": Column("x._ng_task_index::VARCHAR", pl.String, "`_ng_task_index` as text"),
    "attempt": Column("x._ng_rollout_index", pl.Int64, "`_ng_rollout_index`"),
    "task_key": Column(_TASK_KEY, pl.String, "md5 that the attempts at one task share"),
    "prompt_key": Column("prompt_key", pl.String, "md5 of prompt, tools and metadata"),
    "messages_key": Column("CASE WHEN x IS NOT NULL THEN md5(said_prompt) END", pl.String, "md5 of the prompt's messages, without tools and metadata"),
    "completion_key": Column(
        f"md5_number_lower(concat_ws(chr(30), {_SAID}, x.response.id))", pl.UInt64, "number made of the completion: settles ties"
    ),
    "prompt": Column("prompt", pl.String, "JSON list of chat messages the model was given"),
    "completion": Column("completion", pl.String, "JSON list of chat messages that followed"),
    "tools": Column("tools", pl.String, "JSON list of chat tools, null without tools"),
    "prompt_text": Column("json_extract_string(question, '$')", pl.String, "text of the last user message of the prompt"),
    "response_text": Column("answer_text", pl.String, "text of the last assistant message, null if the completion ends otherwise"),
    "ground_truth": Column("ground_truth", pl.String, "JSON of what the verifier compares with"),
    "ground_truth_text": Column("json_extract_string(ground_truth, '$')", pl.String, "the same as text"),
    "ground_truth_origin": Column("ground_truth_origin", pl.String, "field it was found in"),
    "reward": Column(
        "CASE WHEN isfinite(to_number(x.reward::VARCHAR)) THEN to_number(x.reward::VARCHAR) END", pl.Float64, "null when missing or no finite number"
    ),
    "is_nonfinite": Column("coalesce(NOT isfinite(to_number(x.reward::VARCHAR)), false)", pl.Boolean, "the reward is NaN or infinite"),
    "is_masked": Column("is_true(x.mask_sample) OR is_true(x.instance_config.mask_sample)", pl.Boolean, "excluded from the loss by the agent"),
    "is_failure": Column(
        """filled(x._ng_failure_class) IS NOT NULL OR is_true(x.judge_failed) OR is_true(x.invalid_judge_response) OR names_error(x.judge_error)
        OR coalesce(x.response.status IN ('failed', 'cancelled'), false)
        OR (completion_kinds = '' AND names_error(x.error))
        OR CASE WHEN regexp_matches(last_text, '^(Failed|Timed out|Killed|Skipped|Incomplete)\\b')
            THEN coalesce(regexp_matches(x.response.id, '-(failed|timeout|killed|skipped|incomplete)$'), false) ELSE false END""",
        pl.Boolean,
        "the infrastructure failed, not the model",
    ),
    "is_unverified": Column("is_true(x.verification_skipped)", pl.Boolean, "the reward is a constant, not a score"),
    "is_truncated": Column(
        """x.response.incomplete_details.reason IS NOT NULL OR coalesce(x.response.status = 'incomplete', false)
        OR coalesce(json_extract_string(x.response.choices, '$[0].finish_reason') = 'length', false)
        OR is_true(x.context_length_exceeded_error)
        OR CASE WHEN ends_with(completion_kinds, 'A') AND contains(last_text, '<think>') THEN NOT contains(last_text, '</think>') ELSE false END""",
        pl.Boolean,
        "cut off before its end",
    ),
    "says_error": Column("coalesce(ends_with(completion_kinds, 'A') AND regexp_matches(last_text, '^[ \\t\\r\\n\\[*#<]*(?:ERROR|FAILED|Error:|Failed:|Traceback \\()'), false)", pl.Boolean, "the completion ends in a text that begins as an error message does"),
    "has_media": Column(
        """contains(prompt_kinds, 'M') OR contains(completion_kinds, 'M') OR CASE WHEN contains(x.responses_create_params.metadata::VARCHAR, 'audio_url')
            THEN nullif(json_extract(x.responses_create_params.metadata, '/audio_url'), 'null') IS NOT NULL ELSE false END
        OR CASE WHEN plain_input AND plain_output THEN false ELSE coalesce(gives_media(prompt_units) OR gives_media(completion_units), false) END""",
        pl.Boolean,
        "holds images, audio, video or files",
    ),
    "is_prompt_empty": Column(
        "CASE WHEN simple_prompt THEN is_blank(asked) ELSE len(list_filter(prompt_units, lambda u: u.k = 'M' OR (u.k = 'U' AND NOT is_blank(u.t)))) = 0 END", pl.Boolean, "the prompt has no user message with text"
    ),
    "prompt_kinds": Column("prompt_kinds", pl.String, "one letter for each thing in the prompt (see `read/sql/units.sql`)"),
    "completion_kinds": Column("{{completion_kinds}}", pl.String, "one letter for each thing in the completion, `<think>` text treated as asked"),
    "has_inexact_number": Column(
        """CASE WHEN strpos(prompt_kinds || completion_kinds, 'C') > 0 THEN len(list_filter(list_concat(prompt_units, completion_units), lambda u: CASE
            WHEN u.k <> 'C' THEN false
            WHEN regexp_matches(u.t, '[:,\\[]-?[0-9]+(?:[.eE]|[0-9]{15})') THEN regexp_matches(outside_strings(u.t), '[0-9][.eE]|[0-9]{16}')
            ELSE false
        END)) > 0 ELSE false END""",
        pl.Boolean,
        "arguments of a tool call hold a fraction or an integer of 16 digits or more",
    ),
    "has_earlier_reasoning": Column(
        "has_earlier(prompt_units, completion_units, '{{think}}')", pl.Boolean, "a turn that a later question follows holds reasoning, apart or as `<think>` text"
    ),
    "num_messages": Column("CASE WHEN simple_prompt THEN strlen(prompt_kinds) ELSE length(regexp_replace(regexp_replace(prompt_kinds, '[ErX]', '', 'g'), '[RACc]+', 'A', 'g')) END", pl.Int64, "messages of the prompt"),
    "prompt_chars": Column("CASE WHEN simple_prompt THEN coalesce(chars_of(briefed), 0) + chars_of(asked) ELSE chars_said(prompt_units) END", pl.Int64, "characters of the prompt's texts and calls, media messages left out"),
    "completion_chars": Column("CASE WHEN simple_completion THEN coalesce(length(thought), 0) + length(last_text) ELSE chars_said(list_filter(completion_units, lambda u: u.k IN ('A', 'E', 'R', 'C', 'c'))) END", pl.Int64, "characters that the model wrote: answers, reasoning, arguments of calls"),
    "response_key": Column(
        f"md5_number_lower({_SAID})", pl.UInt64, "number made of what was said and done, without any id: the same for rollouts that are copies"
    ),
    "tool_names": Column("CASE WHEN strpos(completion_kinds, 'C') + strpos(completion_kinds, 'c') > 0 THEN names_called(completion_units) END", pl.String, "JSON list of the tools that the completion calls, a name for each call; null without calls"),
    "num_turns": Column("CASE WHEN simple_completion THEN 1 ELSE length(regexp_replace(regexp_replace(regexp_replace(completion_kinds, '[ErX]', '', 'g'), '[RACc]+', 'A', 'g'), '[^A]', '', 'g')) END", pl.Int64, "assistant messages of the completion"),
    "num_tool_calls": Column("count_letter(completion_kinds, 'C') + count_letter(completion_kinds, 'c')", pl.Int64, "tool calls of the completion"),
    "num_unanswered": Column("count_unanswered(prompt_units, prompt_kinds, 'prompt_call_') + count_unanswered(completion_units, completion_kinds, 'call_')", pl.Int64, "calls that another turn follows, but no result"),
    "num_orphans": Column("count_orphans(prompt_units, prompt_kinds, 'prompt_call_') + count_orphans(completion_units, completion_kinds, 'call_')", pl.Int64, "results without a call"),
    "num_encrypted": Column("count_letter(completion_kinds, 'r')", pl.Int64, "reasoning items without readable text, left out"),
    "num_empty": Column("count_letter(completion_kinds, 'E')", pl.Int64, "empty assistant texts (dummy token items too), left out"),
    "num_unknown": Column("count_letter(prompt_kinds || completion_kinds, 'X')", pl.Int64, "items that are not understood, left out"),
    "prompt_tokens": Column("coalesce(x.response.usage.input_tokens, x.response.usage.prompt_tokens)", pl.Int64, "as the model server counted"),
    "completion_tokens": Column("coalesce(x.response.usage.output_tokens, x.response.usage.completion_tokens)", pl.Int64, "as the model server counted"),
    "token_calls": Column(
        """nullif(to_json(list_transform(list_filter(json_transform(item_list(first_present(text, ['$.response.output', '$.output'])),
            '[{"type":"VARCHAR","role":"VARCHAR","content":"JSON","arguments":"JSON","prompt_token_ids":["BIGINT"],"generation_token_ids":["BIGINT"]}]'),
            lambda i: coalesce(i.role, 'assistant') = 'assistant' AND CASE WHEN i.type IS NULL THEN coalesce(i.role, i.content::VARCHAR, i.arguments::VARCHAR) IS NOT NULL
                ELSE i.type IN ('message', 'function_call') END),
            lambda i: struct_pack(type := i.type, role := i.role, prompt_token_ids := i.prompt_token_ids, generation_token_ids := i.generation_token_ids)
        ))::VARCHAR, '[]')""",
        pl.String,
        "JSON list of the assistant's items with their `prompt_token_ids` and `generation_token_ids`, null without items",
    ),
    "statics": Column(_STATICS, pl.String, "JSON of the fields that must agree inside a group"),
    # Not inside a CASE, which would take the row apart several times. Lines that are not rollouts have no text, and are left out anyway.
    "metrics": Column("{{metrics}}", pl.String, "JSON object of every other finite number at the top level"),
    "extra": Column("CASE WHEN x IS NOT NULL THEN extra_of(text) END", pl.String, "JSON object of the other top-level fields, sorted"),
    "gym_row": Column(
        f"CASE WHEN x IS NOT NULL THEN gym_row_of(text, {IS_UNANSWERED}) END",
        pl.String,
        "JSON object of the row without response, scores and verifier output: a prompt for Gym; from the task inputs where there are any",
    ),
}
"""Columns of the canonical table, in order."""

SCHEMA = pl.Schema({name: column.dtype for name, column in COLUMNS.items()})

RECORDED: dict[str, Column] = {
    "unnamed_row": Column(
        "CASE WHEN x IS NOT NULL THEN kept_of(text) END", pl.String, "JSON object of the row without `task_name`, `_ng_task_index` and `reward`, sorted"
    ),
    "plain_prompt": Column("plain_prompt", pl.String, "`prompt` as messages of role and content alone (see `read/sql/plain.sql`)"),
    "plain_completion": Column("plain_completion", pl.String, "`completion` as messages of role and content alone"),
    "recorded_reward": Column("x.reward::VARCHAR", pl.String, "JSON of the reward as it was written"),
    "line_bytes": Column("strlen(text)", pl.Int64, "bytes of the line"),
    "input": Column("source", pl.Int32, "number of the file within the scan"),
    "line_key": Column("md5_number_lower(recorded)", pl.UInt64, "number made of the line as it was read"),
    "response_hash": Column(f"hash({_SAID})", pl.UInt64, "as `response_key`, at a fifth of its cost, but only within one run: a later DuckDB may hash otherwise"),
    "numbers": Column("{{numbers}}", pl.Struct({"known": pl.List(pl.Float64), "other": pl.String}), "`metrics` as numbers (see `numbers_sql`)"),
    "task_fields": Column(
        "struct_pack(" + ", ".join(f"{name} := json_extract_string(filled(x.{name}), '$')" for name in TASK_FIELDS) + ")",
        pl.Struct(dict.fromkeys(TASK_FIELDS, pl.String)),
        "fields that tell tasks of the same prompt apart, as text",
    ),
    "found": Column("{{found}}", pl.List(pl.Boolean), "whether each field that the user named holds something"),
}
"""Columns for use inside the program only: for `merge`, rows of some targets, matching task inputs, refresh and statistics. They are not
part of the canonical table."""
PLAIN = ("plain_prompt", "plain_completion")
"""Those of `RECORDED` that rows of a target may use."""
