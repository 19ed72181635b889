"""Checks of tool calls, their results, and the tools that were offered."""

from __future__ import annotations

from collections.abc import Iterator

from rollout_etl.validate.conditions import Check, messages_of, value
from rollout_etl.validate.layouts import Column, Layout


def _listed(column: Column) -> str:
    if column.kind == "completions":
        return f"flatten(list_transform(json_extract({value(column.name)}, '$[*].completion'), lambda c: msgs(c)))"
    return f"coalesce(msgs({messages_of(column)}), [])"


def _told(layout: Layout, spoken: list[Column]) -> Iterator[str]:
    """The messages that one conversation has, for a pair those of each side."""
    sides = layout.sides or ()
    shared = [_listed(column) for column in spoken if column.name not in sides and column.kind != "completions"]
    each = [_listed(column) for column in spoken if column.name in sides]
    each += [f"coalesce(msgs(json_extract(j, '$.completions[{i}].completion')), [])" for i in (0, 1) if any(column.kind == "completions" for column in spoken)]
    for side in each or ["[]"]:
        yield f"flatten([{', '.join([*shared, side])}])"


def calls(layout: Layout, present: list[Column], container: str, kinds: dict[str, str]) -> Iterator[Check]:
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
    orphaned = [f"orphans({told}) > 0" for told in _told(layout, spoken)]
    yield Check("unmatched", " OR ".join(orphaned), "a tool result belongs to no call before it")
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
        unfilled = f"list_filter(flatten([json_extract({tools}, '$[*].function.parameters.properties'), json_extract({tools}, '$[*].parameters.properties')]), lambda p: len(null_keys(p)) > 0)"
        yield Check("null_filled", f"len({unfilled}) > 0", "parameters of tools were filled with nulls by their struct type")
        flat = " AND NOT is_name(t, '$.name')" if layout.flat_tools else ""
        yield Check("tools", f"len(list_filter(json_extract({tools}, '$[*]'), lambda t: NOT is_name(t, '$.function.name'){flat})) > 0", "tools must be {type, function}, and the function needs a name")
