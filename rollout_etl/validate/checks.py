"""Checks of training rows, by layout and column."""

from __future__ import annotations

from collections.abc import Iterator

from rollout_etl.plain_text import quoted
from rollout_etl.publish.guesses import DATE
from rollout_etl.validate.calls import calls
from rollout_etl.validate.conditions import Check, messages_of, value
from rollout_etl.validate.layouts import Column, Layout


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
            end, where = ("-2", "before the last message") if layout.shared_start == "all" else ("1", "in the first message")
            starts = [f"CASE WHEN {kind(side)} = 'ARRAY' THEN json_extract({value(side)}, '$[*]')[:{end}] END" for side in layout.sides]
            yield Check("diverges", f"{starts[0]} <> {starts[1]}", f"{left} and {right} differ {where}: write the prompt in a column of its own")
    yield from calls(layout, present, container, kinds)
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


def checks_together(layout: Layout, columns: list[str], container: str, last: int | None) -> Iterator[Check]:
    """Checks of all rows together: conditions that are aggregates. `last`: the last line that decides types, None for all."""
    if layout.name == "unpaired":
        good = f"{value('label')} = 'true'::JSON"
        yield Check("one_label", f"bool_and({good})", "every label is true: KTO needs answers of both kinds")
        yield Check("one_label", f"NOT coalesce(bool_or({good}), false)", "every label is false: KTO needs answers of both kinds")
    if layout.guessed and container != ".parquet":
        known = {column.name: column.kind for column in layout.columns}
        for name in (name for name in columns if known.get(name) == "said" or (layout.passes_all and name not in known)):
            texts, others = (f"min(line) FILTER ({kind(name)} {held})" for held in ("= 'VARCHAR'", "NOT IN ('VARCHAR', 'NULL')"))
            what = "messages" if name in known else "something else"
            yield Check("mixed", f"{texts} IS NOT NULL AND {others} IS NOT NULL", f"{name} is text in some rows and {what} in others: the loader's JSON reader parses the texts", f"greatest({texts}, {others})")
    if layout.guessed and container != ".parquet":
        for name in (column.name for column in layout.columns if column.kind in ("text", "truth", "verified", "said") and column.name in columns):
            among, where = ("", "") if last is None else (f" FILTER (line <= {last})", " of the first 10 MB")
            dated = f"bool_and(regexp_full_match(json_extract_string({value(name)}, '$'), '{DATE}')){among}"
            yield Check("dates", dated, f"every {name}{where} looks like a date, which the loader's JSON reader turns into timestamps: use Parquet")


def kind(name: str) -> str:
    """SQL for the JSON type of a column."""
    return f"kind_of({value(name)})"


def _column(column: Column) -> Iterator[Check]:
    name, v, k = column.name, value(column.name), kind(column.name)
    if column.kind in ("text", "truth"):
        yield Check("type", f"{k} NOT IN ('VARCHAR', 'NULL')", f"{name} is not text")
        yield Check("empty", f"{k} = 'VARCHAR' AND blank({v})" if column.kind == "text" else "false", f"{name} is blank")
        if not column.required:
            yield Check("null", f"{k} = 'NULL'", f"{name} is missing or null")
    elif column.kind == "said":
        yield Check("type", f"{k} NOT IN ('VARCHAR', 'ARRAY', 'NULL')", f"{name} is neither text nor messages")
        yield Check("empty", f"{k} = 'VARCHAR' AND blank({v})", f"{name} is blank")
        yield from _messages(name, v, column.part)
    elif column.kind == "messages":
        yield Check("type", f"{k} NOT IN ('ARRAY', 'NULL')", f"{name} is not a list of messages")
        yield from _messages(name, v, column.part)
    elif column.kind == "json_messages":
        yield Check("type", f"{k} = 'VARCHAR' AND coalesce(json_type({messages_of(column)}), '') <> 'ARRAY'", f"{name} is not a JSON list")
        yield from _messages(name, messages_of(column), column.part)
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
    elif column.kind in ("number", "margin"):
        yield Check("type", f"{k} NOT IN ('DOUBLE', 'BIGINT', 'UBIGINT', 'NULL')", f"{name} is not a number")
        if column.kind == "margin":
            yield Check("null", f"{k} = 'NULL'", f"{name} is missing or null")
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


def _special(layout: Layout, columns: list[str]) -> Iterator[Check]:
    """Checks of single layouts."""
    if {column.name for column in layout.columns} >= {"completions", "labels"}:
        lengths = [f"json_array_length({value(name)})" for name in ("completions", "labels")]
        yield Check("labels", f"{lengths[0]} <> {lengths[1]}", "completions and labels differ in number")
    if layout.splits_images:
        texts = f"CASE {kind('input')} WHEN 'VARCHAR' THEN [{value('input')}] ELSE list_transform(msgs({value('input')}), lambda m: m.content) END"
        yield Check("image_tag", f"len(list_filter({texts}, lambda t: contains(coalesce(json_extract_string(t, '$'), ''), '<image>'))) > 0", "input holds <image>, which the loader reads as a picture")
    for name in layout.typed_by_file:
        if name in columns and name not in [column.name for column in layout.columns]:
            yield Check("reserved", f"{kind(name)} IN ('ARRAY', 'OBJECT')", f"{name} is a list or an object, and the loader's own column of that name turns into letters")
    if layout.name == "tokens":
        yield Check("type", f"len(list_filter(json_extract({value('input_ids')}, '$[*]'), lambda n: TRY_CAST(n AS BIGINT) < 0)) > 0", "input_ids has a number below 0")
        trained = value("labels" if "labels" in columns else "input_ids")
        yield Check("empty", f"len(list_filter(json_extract({trained}, '$[*]'), lambda n: n <> '-100'::JSON)) = 0", "no token is trained on")
        yield Check("labels", f"json_array_length({value('input_ids')}) <> json_array_length({value('labels')})", "input_ids and labels differ in number")
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
        yield Check("agent", "NOT is_name(j, '$.agent_ref.name')", "agent_ref.name is missing")
        asked = "json_extract(j, '$.responses_create_params.input')"
        empty = f"(kind_of({asked}) = 'VARCHAR' AND blank({asked})) OR (kind_of({asked}) = 'ARRAY' AND json_array_length({asked}) = 0)"
        yield Check("input", f"len(list_filter(json_extract({asked}, '$[*]'), lambda m: json_type(m) <> 'OBJECT')) > 0", "responses_create_params.input has an item that is not an object")
        yield Check("input", f"kind_of({asked}) NOT IN ('VARCHAR', 'ARRAY') OR {empty}", "responses_create_params.input is missing or empty")
    if layout.name == "RLHFDataset":
        yield Check("truth", "kind_of(json_extract(j, '$.reward_model.ground_truth')) = 'NULL'", "reward_model.ground_truth is missing or null")
        if "extra_info" in columns:
            yield Check("null_filled", "len(null_keys(json_extract(j, '$.extra_info.tools_kwargs'))) > 0", "extra_info.tools_kwargs has tools filled with null")
