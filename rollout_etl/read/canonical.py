"""The SQL of the canonical table, for the requested columns and style."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

from rollout_etl.errors import UsageError
from rollout_etl.option_values import check_values
from rollout_etl.plain_text import quoted
from rollout_etl.read.metrics import SeenFields, metrics_sql, numbers_sql
from rollout_etl.read.schema import COLUMNS, IS_ROLLOUT, RECORDED
from rollout_etl.read.structure import GROUND_TRUTH_FIELDS, ITEMS, VERIFIER_INPUT, VERIFIER_OUTPUT, structure_for

_GROUND_TRUTH = {"ground_truth", "ground_truth_text", "ground_truth_origin"}
_THINK = {"strip": "without_think", "move": "with_think_apart"}
"""The macros that treat `<think>` text."""
_MACROS = ("json.sql", "units.sql", "fold.sql", "plain.sql", "fields.sql")


@dataclass(frozen=True)
class Style:
    """How chat messages are written. The keys of a rollout do not depend on it."""

    think: Literal["keep", "strip", "move"] = "keep"
    """`<think>` text in answers: kept, removed, or moved to `reasoning_content`."""
    arguments: Literal["object", "string"] = "object"
    """Arguments of a tool call: a JSON object, or that object as text. Arguments that are not an object stay text."""
    tool_calls: Literal["nested", "flat"] = "nested"
    """`{"id", "type", "function": {"name", "arguments"}}`, or `{"name", "arguments"}`."""
    developer: Literal["developer", "system"] = "developer"
    """Role name of developer messages."""
    whole_rows: bool = False
    """Rows are written whole, so each is searched for invalid JSON, and every pass repairs the same."""

    def __post_init__(self) -> None:
        check_values(self)


@dataclass(frozen=True)
class Lookup:
    """Where to find the ground truth and the group of a rollout, instead of the usual order."""

    ground_truth_field: str | None = None
    group_by: tuple[str, ...] = ()

    @classmethod
    def spelt(cls, ground_truth_field: str | None, group_by: str | None) -> Lookup:
        """As in options: the fields of a group separated by commas."""
        return cls(ground_truth_field, () if group_by is None else tuple(name.strip() for name in group_by.split(",")))

    @property
    def paths(self) -> list[str]:
        """The fields that are named."""
        return list(dict.fromkeys([*self.group_by, *([] if self.ground_truth_field is None else [self.ground_truth_field])]))

    @property
    def spelling(self) -> str:
        """As options spell it."""
        ways = {"--group-by": ",".join(self.group_by), "--ground-truth-field": self.ground_truth_field}
        return " ".join(f"{option} {value}" for option, value in ways.items() if value)

    def __post_init__(self) -> None:
        check_values(self)
        for path in self.paths:
            if not all(_parts(path)):
                raise UsageError(f"'{path}' is not a field path; name fields with dots between them, as in verifier_metadata.answer")


@cache
def _resource(name: str) -> str:
    return files("rollout_etl.read").joinpath("sql", name).read_text(encoding="utf-8")


def json_path(path: str) -> str:
    """A dotted field path as a JSON path: `metadata.task type` becomes `$."metadata"."task type"`. A dot of a name is written `\\.`."""
    return "$" + "".join('."' + part.replace("\\", "\\\\").replace('"', '\\"') + '"' for part in _parts(path))


def _parts(path: str) -> list[str]:
    """The names on a field path."""
    return [part.replace("\\.", ".") for part in re.split(r"(?<!\\)\.", path)]


def _field(path: str) -> str:
    """SQL for a field of the parsed row."""
    if path.startswith("responses_create_params.metadata."):
        return f"filled(json_extract(x.responses_create_params.metadata, {quoted('/' + path.rsplit('.', 1)[1])}))"
    return f"filled(x.{path})"


def _ground_truth(lookup: Lookup) -> tuple[str, str]:
    """SQL for the ground truth and for the name of the field it came from."""
    if lookup.ground_truth_field is not None:
        value = f"CASE WHEN x IS NOT NULL THEN {_ground_truth_again(lookup)} END"
        return value, f"CASE WHEN {value} IS NOT NULL THEN {quoted(lookup.ground_truth_field)} END"
    value = "coalesce(" + ", ".join(_field(path) for path in GROUND_TRUTH_FIELDS) + ")"
    origin = "CASE " + " ".join(f"WHEN {_field(path)} IS NOT NULL THEN {quoted(path)}" for path in GROUND_TRUTH_FIELDS) + " END"
    return value, origin


def _ground_truth_again(lookup: Lookup) -> str:
    """SQL for the ground truth of the few rows whose key needs it."""
    paths = GROUND_TRUTH_FIELDS if lookup.ground_truth_field is None else (lookup.ground_truth_field,)
    return f"first_present(text, [{', '.join(quoted(json_path(path)) for path in paths)}])"


def _styled(units: str, kinds: str, think: str) -> str:
    """SQL for units that are not empty, with reasoning in the text treated as the style says."""
    if think == "keep":
        return f"CASE WHEN regexp_matches({kinds}, '[ErX]') THEN with_content({units}) ELSE {units} END"
    return f"with_content({_THINK[think]}({units}))"


def macros(style: Style) -> str:
    """The statements that define the macros of `rollouts_query`."""
    arguments = "y.t" if style.arguments == "object" else "CASE y.k WHEN 'C' THEN to_json(y.t)::VARCHAR ELSE y.t END"
    call = (
        f"""concat('{{"id":', y.id, ',"type":"function","function":{{"name":', y.name, ',"arguments":', {arguments}, '}}}}')"""
        if style.tool_calls == "nested"
        else f"""concat('{{"name":', y.name, ',"arguments":', {arguments}, '}}')"""
    )
    text = "\n".join(_resource(name) for name in _MACROS)
    return _filled(text, {
        "call": call, "items": ITEMS, "developer": style.developer, "verifier_output": VERIFIER_OUTPUT, "verifier_input": VERIFIER_INPUT,
    })


def _accounting(columns: Sequence[str], whole_rows: bool) -> str:
    """What the reader needs to account for every line: rows that are not rollouts, or that hold invalid JSON, come with their text.

    Damage that writers are known to produce is searched for in every row. Rarer damage (see `is_lax`) is only searched for where it would
    be written unchanged: in tools, media, arguments that are not an object, and in rows that are written whole.
    """
    looks = ["contains(text, 'NaN')", "contains(text, 'Infinity')", *(f"contains({kinds}, '{kind}')" for kinds in ("prompt_kinds", "completion_kinds") for kind in "cM")]
    looks += ["coalesce(is_lax(tools), false)"] if {"tools", "prompt_key", "task_key"}.intersection(columns) else []
    looks = ["true"] if whole_rows or {"gym_row", "extra", "unnamed_row"}.intersection(columns) else looks
    # Text that is no JSON may hold bytes that no regular expression takes.
    damaged = f"CASE WHEN x IS NOT NULL AND ({' OR '.join(looks)}) THEN is_lax(text) ELSE false END"
    return f"""coalesce({IS_ROLLOUT}, false) AS is_rollout, (NOT is_rollout OR {damaged}) AS is_bad,
        CASE WHEN is_bad THEN source END AS bad_source, CASE WHEN is_bad THEN line END AS bad_line, CASE WHEN is_bad THEN encode(recorded) END AS bad_text"""


def rollouts_query(
    columns: Sequence[str], style: Style, lookup: Lookup, namespaces: Sequence[str], *, only: str = "true", tolerant: bool = True,
    seen: SeenFields | None = None,
) -> str:
    """The query that turns `lines` (row, source, line, text) into canonical columns, plus those of `_accounting`.

    `source` is the number of the file here; `namespaces` holds a name for each file, part of the keys. Messages and texts are null if
    the condition `only` (on the parsed row `x`) is false: dropped rollouts need no messages. A query that is not `tolerant` is faster and
    fails on lines that are not JSON. `seen` are fields that rows probably have.
    """
    seen = seen if seen is not None and looks_at_fields(columns) else SeenFields()
    ground_truth, origin = _ground_truth(lookup) if _GROUND_TRUTH.intersection(columns) else ("NULL::VARCHAR", "NULL::VARCHAR")
    fields = [f"nullif(json_extract(text, {quoted(json_path(path))})::VARCHAR, 'null')" for path in lookup.group_by]
    spelt = ", ".join(f"coalesce({value}, 'null')" for value in fields)
    group_by = f"CASE WHEN coalesce({', '.join(fields)}) IS NOT NULL THEN concat_ws(chr(30), {spelt}) END"
    present = [f"first_present(text, [{quoted(json_path(path))}]) IS NOT NULL" for path in lookup.paths]
    fillings = {
        "think": style.think,
        "completion_kinds": "completion_kinds" if style.think == "keep" else f"kinds({_THINK[style.think]}(completion_units))",
        "found": f"[{', '.join(present)}]::BOOLEAN[]",
        "ground_truth_again": _ground_truth_again(lookup),
        "group_by": group_by if lookup.group_by else "NULL::VARCHAR",
        "metrics": metrics_sql(seen),
        "numbers": numbers_sql(seen),
        "namespaces": "([" + ", ".join(quoted(name) for name in namespaces) + "]::VARCHAR[])",
    }
    selected = ", ".join(f"({_filled((COLUMNS.get(name) or RECORDED[name]).sql, fillings)}) AS {name}" for name in columns)
    found = [f"{holds} AS found_{number}" for number, holds in enumerate(present)]
    fillings |= {
        "columns": ", ".join([selected, _accounting(columns, style.whole_rows), *found]),
        "only": only,
        "items": ITEMS,
        "parse": "",
        "think_stays": "true" if style.think == "keep" else "false",
        "styled_prompt": _styled("prompt_units", "prompt_kinds", "keep"),
        "styled_completion": _styled("completion_units", "completion_kinds", style.think),
        "ground_truth": ground_truth,
        "ground_truth_origin": origin,
    }
    parse = f"json_transform(text, {quoted(structure_for(_filled(_resource('rollouts.sql'), fillings), seen.values))})"
    return _filled(_resource("rollouts.sql"), fillings | {"parse": f"TRY({parse})" if tolerant else parse})


def looks_at_fields(columns: Sequence[str]) -> bool:
    """Whether it pays to know which fields rows probably have."""
    return "metrics" in columns or "numbers" in columns


def _filled(sql: str, fillings: Mapping[str, str]) -> str:
    """`sql` with names in double braces replaced, in one pass, so that inserted text is never searched."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: fillings[match[1]], sql)
