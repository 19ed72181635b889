"""What checks of training rows are made of, and what they find: SQL conditions over `j`, the JSON text of a row, that are true for a row
with the problem.

Vectorised in DuckDB: messages become lists of structs whose leaves are JSON, and are checked with lambdas.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from rollout_etl.plain_text import quoted
from rollout_etl.read.canonical import json_path
from rollout_etl.validate.layouts import Column

FIRST = 10
"""Number of rows that are named for each problem (docs: first 10)."""
_MESSAGE = '[{"role":"JSON","content":"JSON","tool_calls":"JSON","tool_call_id":"JSON"}]'
MACROS = f"""
CREATE OR REPLACE MACRO msgs(v) AS json_transform(CASE WHEN json_type(v) = 'ARRAY' THEN v END, '{_MESSAGE}');
CREATE OR REPLACE MACRO kind_of(v) AS coalesce(json_type(v), 'NULL');
CREATE OR REPLACE MACRO blank(v) AS regexp_full_match(coalesce(json_extract_string(v, '$'), ''), '\\s*');
CREATE OR REPLACE MACRO calls(m) AS coalesce(json_type(m.tool_calls) = 'ARRAY' AND json_array_length(m.tool_calls) > 0, false);
CREATE OR REPLACE MACRO role(m) AS coalesce(json_extract_string(m.role, '$'), '');
CREATE OR REPLACE MACRO calls_of(ms) AS flatten(list_transform(ms, lambda m: CASE WHEN calls(m) THEN json_extract(m.tool_calls, '$[*]') ELSE []::JSON[] END));
CREATE OR REPLACE MACRO placed_calls(ms) AS flatten(list_transform(ms, lambda m, i:
    list_transform(calls_of([m]), lambda c: struct_pack(i := i, id := json_extract_string(c, '$.id')))));
CREATE OR REPLACE MACRO answers_a_call(m, i, found) AS CASE WHEN kind_of(m.tool_call_id) = 'VARCHAR'
    THEN coalesce(list_filter(found, lambda c: c.id IS NULL OR c.id = json_extract_string(m.tool_call_id, '$'))[1].i < i, false)
    ELSE coalesce(found[1].i < i, true) END;
CREATE OR REPLACE MACRO orphans(ms) AS list_transform([placed_calls(ms)], lambda found:
    len(list_filter(ms, lambda m, i: role(m) = 'tool' AND NOT answers_a_call(m, i, found))))[1];
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
    place: str = "NULL"
    """For a check of all rows together: an aggregate for the line that shows the problem."""


@dataclass
class Problem:
    """A problem, how many rows have it, and the first lines that do (rows for Parquet, from 1)."""

    name: str
    meaning: str
    rows: int
    lines: list[int] = field(default_factory=list)


def value(name: str) -> str:
    """SQL for the JSON value of a column."""
    return f"json_extract(j, {quoted(json_path(name))})"


def messages_of(column: Column) -> str:
    """SQL for the JSON value of a column with messages, also if that is JSON as text."""
    return f"inner_json({value(column.name)})" if column.kind == "json_messages" else value(column.name)
