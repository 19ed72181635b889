"""Checks of training rows as SQL conditions over `j`, the JSON text of a row. A condition is true for a row with the problem.

Vectorised in DuckDB: messages become lists of structs whose leaves are JSON, and are checked with lambdas.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from rollout_etl.plain_text import quoted
from rollout_etl.publish.guesses import DATE
from rollout_etl.read.canonical import json_path
from rollout_etl.validate.layouts import Column, Layout

_MESSAGE = '[{"role":"JSON","content":"JSON","tool_calls":"JSON","tool_call_id":"JSON"}]'
MACROS = f"""
CREATE OR REPLACE MACRO msgs(v) AS json_transform(CASE WHEN json_type(v) = 'ARRAY' THEN v END, '{_MESSAGE}');
CREATE OR REPLACE MACRO kind_of(v) AS coalesce(json_type(v), 'NULL');
CREATE OR REPLACE MACRO blank(v) AS regexp_full_match(coalesce(json_extract_string(v, '$'), ''), '\\s*');
CREATE OR REPLACE MACRO calls(m) AS coalesce(json_type(m.tool_calls) = 'ARRAY' AND json_array_length(m.tool_calls) > 0, false);
CREATE OR REPLACE MACRO role(m) AS coalesce(json_extract_string(m.role, '$'), '');
CREATE OR REPLACE MACRO calls_of(ms) AS flatten(list_transform(ms, lambda m: CASE WHEN calls(m) THEN json_extract(m.tool_calls, '$[*]') ELSE []::JSON[] END));
CREATE OR REPLACE MACRO args_of(c) AS coalesce(json_extract(c, '$.function.arguments'), json_extract(c, '$.arguments'));
CREATE OR REPLACE MACRO name_of(c) AS coalesce(json_extract_string(c, '$.function.name'), json_extract_string(c, '$.name'));
CREATE OR REPLACE MACRO is_name(v, path) AS coalesce(json_type(v, path) = 'VARCHAR' AND NOT blank(json_extract(v, path)), false);
CREATE OR REPLACE MACRO inner_json(v) AS CASE WHEN json_valid(json_extract_string(v, '$')) THEN json_extract_string(v, '$')::JSON END;
CREATE OR REPLACE MACRO object_args(a) AS CASE WHEN json_type(a) = 'VARCHAR' THEN inner_json(a) ELSE a END;
CREATE OR REPLACE MACRO null_keys(a) AS list_filter(json_keys(CASE WHEN json_type(a) = 'OBJECT' THEN a END), lambda k: json_type(a, '/' || k) = 'NULL');
"""


class Check(NamedTuple):
    """A named condition that is true for rows with a problem."""

    name: str
    offends: str
    meaning: str


def value(name: str) -> str:
    """SQL for the JSON value of a column."""
    return f"json_extract(j, {quoted(json_path(name))})"


def checks(layout: Layout, columns: list[str], container: str, kinds: dict[str, str], templated: bool | None = None) -> Iterator[Check]:
    """The checks of a layout for a file with `columns`; `kinds` are the Arrow types of Parquet columns, `container` the suffix.

    `templated` says whether OpenRLHF applies a chat template, None if that is not known.
    """
    for name in layout.required:
        yield Check("missing", f"{value(name)} IS NULL OR {kind(name)} = 'NULL'", f"{name} is missing or null")
    present = [column for column in layout.columns if column.name in columns]
    for column in present:
        yield from _column(column)
    said = [column.name for column in present if column.kind == "said"]
    if templated is not None:
        yield from _template(layout, [column.name for column in present if column.kind in ("said", "messages")], templated)
    if len(said) > 1:
        yield Check("mixed", f"len(list_distinct([{', '.join(kind(name) for name in said)}])) > 1", f"{', '.join(said)} are not all texts or all messages")
    if layout.sides is not None:
        left, right = layout.sides
        yield Check("same_sides", f"{value(left)} = {value(right)}", f"{left} and {right} are the same")
        if layout.shared_start:
            starts = [f"CASE WHEN {kind(side)} = 'ARRAY' THEN json_extract({value(side)}, '$[*]')[:-2] END" for side in layout.sides]
            yield Check("diverges", f"{starts[0]} <> {starts[1]}", f"{left} and {right} differ before the last message: write the prompt in a column of its own")
    yield from _calls(layout, present, container, kinds)
    if layout.guessed == "json" and container != ".parquet":
        spliced = [value(column.name) for column in present if column.kind in ("said", "messages", "completions")]
        digits = quoted(r"[0-9]\.[0-9]{11,}|[0-9][eE]-?[0-9]")
        for part in spliced:
            # Texts may hold any digits.
            bare = f"""regexp_replace({part}::VARCHAR, '"(?:[^"\\\\]|\\\\.)*"', '""', 'g')"""
            yield Check("inexact_number", f"regexp_matches({bare}, {digits})", "holds a number with more digits than the loader's JSON reader keeps: use Parquet")
    yield from _special(layout, columns)
    if container != ".parquet":
        yield Check("duplicate_key", "len(json_keys(j)) <> len(list_distinct(json_keys(j)))", "a column occurs twice in the row, and readers differ in which one they use")


def checks_together(layout: Layout, columns: list[str], container: str) -> Iterator[Check]:
    """Checks of all rows together: conditions that are aggregates."""
    if layout.name == "unpaired":
        good = f"{value('label')} = 'true'::JSON"
        yield Check("one_label", f"bool_and({good})", "every label is true: KTO needs answers of both kinds")
        yield Check("one_label", f"NOT coalesce(bool_or({good}), false)", "every label is false: KTO needs answers of both kinds")
    if layout.guessed and container != ".parquet":
        for name in (column.name for column in layout.columns if column.kind in ("text", "truth", "verified", "said") and column.name in columns):
            dated = f"bool_and(regexp_full_match(json_extract_string({value(name)}, '$'), '{DATE}'))"
            yield Check("dates", dated, f"every {name} looks like a date, which the loader's JSON reader turns into timestamps: use Parquet")


def kind(name: str) -> str:
    """SQL for the JSON type of a column."""
    return f"kind_of({value(name)})"


def _column(column: Column) -> Iterator[Check]:
    name, v, k = column.name, value(column.name), kind(column.name)
    if column.kind in ("text", "truth"):
        yield Check("type", f"{k} NOT IN ('VARCHAR', 'NULL')", f"{name} is not text")
        yield Check("empty", f"{k} = 'VARCHAR' AND blank({v})" if column.kind == "text" else "false", f"{name} is blank")
        if not column.required:
            yield Check("null", f"{v} IS NOT NULL AND {k} = 'NULL'", f"{name} is null")
    elif column.kind == "said":
        yield Check("type", f"{k} NOT IN ('VARCHAR', 'ARRAY', 'NULL')", f"{name} is neither text nor messages")
        yield Check("empty", f"{k} = 'VARCHAR' AND blank({v})", f"{name} is blank")
        yield from _messages(name, v, column.part)
    elif column.kind == "messages":
        yield Check("type", f"{k} NOT IN ('ARRAY', 'NULL')", f"{name} is not a list of messages")
        yield from _messages(name, v, column.part)
    elif column.kind == "json_messages":
        yield Check("type", f"{k} = 'VARCHAR' AND coalesce(json_type(inner_json({v})), '') <> 'ARRAY'", f"{name} is not a JSON list")
        yield from _messages(name, f"inner_json({v})", column.part)
    elif column.kind == "tools_text":
        yield Check("type", f"{k} NOT IN ('VARCHAR', 'NULL') OR ({k} = 'VARCHAR' AND inner_json({v}) IS NULL)", f"{name} is not JSON text")
    elif column.kind == "any_tools":
        text = f"{k} = 'VARCHAR' AND coalesce(json_type(inner_json({v})), '') NOT IN ('ARRAY', 'NULL')"
        yield Check("type", f"{k} NOT IN ('VARCHAR', 'ARRAY', 'NULL') OR ({text})", f"{name} is neither a list nor one as JSON text")
    elif column.kind == "verified":
        yield Check("truth", f"{k} <> 'VARCHAR' OR blank({v})", f"{name} is missing, blank or not text: every answer would get a reward of 0")
    elif column.kind == "tools":
        yield Check("type", f"{v} IS NOT NULL AND {k} <> 'ARRAY'", f"{name} is not a list (null and text are not lists)")
    elif column.kind == "flag":
        yield Check("type", f"{v} IS NOT NULL AND {k} <> 'BOOLEAN'", f"{name} is neither true nor false")
    elif column.kind == "label":
        yield Check("type", f"{v} IS NOT NULL AND {k} NOT IN ('BOOLEAN', 'DOUBLE', 'BIGINT', 'UBIGINT')", f"{name} is neither true, false nor a number")
    elif column.kind in ("texts", "flags"):
        wanted, what = ("VARCHAR", "texts") if column.kind == "texts" else ("BOOLEAN", "true and false")
        yield Check("type", f"{k} <> 'ARRAY' OR len(list_filter(json_extract({v}, '$[*]'), lambda n: json_type(n) <> '{wanted}')) > 0", f"{name} is not a list of {what}")
    elif column.kind == "number":
        yield Check("type", f"{k} NOT IN ('DOUBLE', 'BIGINT', 'UBIGINT', 'NULL')", f"{name} is not a number")
        yield Check("type", f"{k} = 'DOUBLE' AND NOT coalesce(isfinite(TRY_CAST({v}::VARCHAR AS DOUBLE)), false)", f"{name} is NaN or infinite")
    elif column.kind == "numbers":
        yield Check("type", f"{k} <> 'ARRAY' OR len(list_filter(json_extract({v}, '$[*]'), lambda n: json_type(n) NOT IN ('BIGINT', 'UBIGINT'))) > 0", f"{name} is not a list of integers")
    elif column.kind == "object":
        yield Check("type", f"{k} NOT IN ('OBJECT', 'NULL')", f"{name} is not an object")


def _template(layout: Layout, said: list[str], templated: bool) -> Iterator[Check]:
    """A template needs messages, and messages need a template; questions and answers for sft may be texts, which become messages."""
    for name in said:
        if templated and layout.sides is not None:
            yield Check("template", f"{kind(name)} = 'VARCHAR'", f"{name} is text: the preference dataset applies the template to messages only")
        elif not templated:
            yield Check("template", f"{kind(name)} = 'ARRAY'", f"{name} holds messages, which need --data.apply_chat_template")


def _messages(name: str, v: str, part: str) -> Iterator[Check]:
    """Checks of messages; if `v` is text, none of them is true."""
    ms = f"msgs({v})"
    yield Check("empty", f"len({ms}) = 0", f"{name} is an empty list")
    yield Check("role", f"len(list_filter({ms}, lambda m: role(m) NOT IN ('system', 'user', 'assistant', 'tool'))) > 0", f"{name} has a role that is not system, user, assistant or tool")
    yield Check("content", f"len(list_filter({ms}, lambda m: kind_of(m.content) <> 'VARCHAR' AND NOT (kind_of(m.content) = 'NULL' AND calls(m)))) > 0", f"{name} has content that is not text")
    yield Check("empty_message", f"len(list_filter({ms}, lambda m: role(m) IN ('user', 'assistant') AND kind_of(m.content) = 'VARCHAR' AND blank(m.content) AND NOT calls(m))) > 0",
                f"{name} has a message with empty content")
    if part in ("conversation", "completion"):
        yield Check("last_role", f"len({ms}) > 0 AND role({ms}[-1]) <> 'assistant'", f"{name} does not end with an assistant message")
    if part == "completion":
        yield Check("first_role", f"len({ms}) > 0 AND role({ms}[1]) <> 'assistant'", f"{name} does not begin with an assistant message")
    if part == "prompt":
        yield Check("leak", f"role({ms}[-1]) = 'assistant'", f"{name} ends with an assistant message: the answer is in the prompt")


def _listed(column: Column) -> str:
    v = value(column.name)
    if column.kind == "completions":
        return f"flatten(list_transform(json_extract({v}, '$[*].completion'), lambda c: msgs(c)))"
    return f"coalesce(msgs({f'inner_json({v})' if column.kind == 'json_messages' else v}), [])"


def _calls(layout: Layout, present: list[Column], container: str, kinds: dict[str, str]) -> Iterator[Check]:
    """Checks of tool calls, across all columns with messages: a result may belong to a call of the prompt."""
    spoken = [column for column in present if column.kind in ("said", "messages", "json_messages", "completions")]
    for column in spoken:
        if column.name in layout.no_calls:
            yield Check("calls_here", f"len(calls_of({_listed(column)})) > 0", f"{column.name} holds tool calls, which the loader turns into letters: name it {column.name}_messages")
    if not spoken:
        return
    ms = "flatten([" + ", ".join(_listed(column) for column in spoken) + "])"
    found = f"calls_of({ms})"
    yield Check("call", f"len(list_filter({ms}, lambda m: kind_of(m.tool_calls) NOT IN ('ARRAY', 'NULL'))) > 0", "tool_calls is not a list")
    yield Check("call", f"len(list_filter({found}, lambda c: NOT is_name(c, '$.function.name') AND NOT is_name(c, '$.name'))) > 0", "a tool call has no name")
    yield Check("arguments", f"len(list_filter({found}, lambda c: coalesce(json_type(object_args(args_of(c))), '') <> 'OBJECT')) > 0", "arguments of a tool call are not an object")
    if layout.objects_only:
        yield Check("text_arguments", f"len(list_filter({found}, lambda c: json_type(args_of(c)) = 'VARCHAR' AND coalesce(json_type(object_args(args_of(c))), '') = 'OBJECT')) > 0", "arguments are text, which templates encode a second time")
    ids = f"list_transform({found}, lambda c: json_extract_string(c, '$.id'))"
    yield Check("unmatched", f"len(list_filter({ms}, lambda m: role(m) = 'tool' AND kind_of(m.tool_call_id) = 'VARCHAR' AND NOT list_contains({ids}, json_extract_string(m.tool_call_id, '$')))) > 0",
                "a tool result belongs to no call")
    tools = f"CASE kind_of({value('tools')}) WHEN 'VARCHAR' THEN inner_json({value('tools')}) WHEN 'ARRAY' THEN {value('tools')} END"
    # Arrow writes null for keys that only objects of other rows have.
    if container == ".parquet":
        typed = [column for column in spoken if "arguments: struct" in kinds.get(column.name, "")]
        if typed:
            inside = "flatten([" + ", ".join(_listed(column) for column in typed) + "])"
            yield Check("null_filled", f"len(list_filter(calls_of({inside}), lambda c: len(null_keys(args_of(c))) > 0)) > 0", "arguments were filled with nulls by their struct type")
    schemas = f"list_filter(json_extract({tools}, '$[*].function'), lambda t: t IS NOT NULL)"
    known = f"flatten(list_transform({schemas}, lambda t: list_transform(json_keys(t, '$.parameters.properties'), lambda k: concat(json_extract_string(t, '$.name'), ' ', k))))"
    yield Check("null_argument", f"len({schemas}) > 0 AND len(list_filter({found}, lambda c: len(list_filter(null_keys(object_args(args_of(c))), lambda k: NOT list_contains({known}, concat(name_of(c), ' ', k)))) > 0)) > 0",
                "a call has a null argument that its tool does not define: it was filled in by a struct type")
    if any(column.name == "tools" for column in present):
        flat = " AND NOT is_name(t, '$.name')" if layout.flat_tools else ""
        yield Check("tools", f"len(list_filter(json_extract({tools}, '$[*]'), lambda t: NOT is_name(t, '$.function.name'){flat})) > 0", "tools must be {type, function}, and the function needs a name")


def _special(layout: Layout, columns: list[str]) -> Iterator[Check]:
    """Checks of single layouts."""
    if {column.name for column in layout.columns} >= {"completions", "labels"}:
        lengths = [f"json_array_length({value(name)})" for name in ("completions", "labels")]
        yield Check("labels", f"{lengths[0]} <> {lengths[1]}", "completions and labels differ in number")
    if layout.name == "PreferenceDataset":
        two = value("completions")
        sides = [f"json_extract({two}, '$[{i}].completion')" for i in (0, 1)]
        yield Check("completions", f"coalesce(json_array_length({two}), 0) <> 2", "there are not exactly two completions")
        yield Check("completions", " OR ".join(f"kind_of({side}) <> 'ARRAY'" for side in sides), "a completion is not a list of messages")
        ranks = [f"coalesce(json_type({two}, '$[{i}].rank'), '') NOT IN ('BIGINT', 'UBIGINT')" for i in (0, 1)]
        yield Check("rank", f"json_extract({two}, '$[0].rank') = json_extract({two}, '$[1].rank') OR {' OR '.join(ranks)}", "ranks are equal, missing or not integers")
        yield Check("same_sides", f"{sides[0]} = {sides[1]}", "both completions are the same")
        for side in sides:
            yield from _messages("completions", side, "completion")
    if layout.name == "NemoGymDataset":
        yield Check("agent", "coalesce(json_extract_string(j, '$.agent_ref.name'), '') = ''", "agent_ref.name is missing")
        asked = "json_extract(j, '$.responses_create_params.input')"
        empty = f"(kind_of({asked}) = 'VARCHAR' AND blank({asked})) OR (kind_of({asked}) = 'ARRAY' AND json_array_length({asked}) = 0)"
        yield Check("input", f"kind_of({asked}) NOT IN ('VARCHAR', 'ARRAY') OR {empty}", "responses_create_params.input is missing or empty")
    if layout.name == "RLHFDataset":
        yield Check("truth", "kind_of(json_extract(j, '$.reward_model.ground_truth')) = 'NULL'", "reward_model.ground_truth is missing or null")
        if "extra_info" in columns:
            yield Check("null_filled", "len(null_keys(json_extract(j, '$.extra_info.tools_kwargs'))) > 0", "extra_info.tools_kwargs has tools filled with null")
