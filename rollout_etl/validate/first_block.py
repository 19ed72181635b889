"""Rows that do not fit the types of the rows before them.

The JSON reader of `datasets` takes the types of all rows from the first 10 MB of the first file
(`datasets/packaged_modules/json/json.py`, 5.2.0). There, objects of a list or a column that differ in keys, and values that differ in
type, become JSON, which holds anything. All else is fixed: a column, a key or a type that first occurs later stops the loading.
"""

from __future__ import annotations

import contextlib
import gzip
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import duckdb

from rollout_etl.plain_text import quoted
from rollout_etl.publish.guesses import FIRST_BLOCK
from rollout_etl.validate.conditions import FIRST, Problem
from rollout_etl.validate.rows import queried

_ANYTHING, _NOTHING = "anything", "nothing"
_FRACTION = "has its first fraction"
_SCALARS = {"VARCHAR": "text", "BOOLEAN": "flag", "UBIGINT": "integer", "BIGINT": "integer", "HUGEINT": "integer", "DOUBLE": "number"}
_ACCEPTED = {"text": {"text", "integer", "number", "flag"}, "number": {"integer", "number"}, "integer": {"integer"}, "flag": {"flag", "integer"}}
"""What the reader converts to the type of a scalar."""
Type = Any
"""A type: one of the names above, a list with the type of its elements, or an object with the type of each key."""


@dataclass(frozen=True)
class FirstBlock:
    """The last line of the first block, from 1, and the type of each column in it."""

    last: int
    types: Mapping[str, Type]


def first_block(paths: Sequence[Path]) -> FirstBlock | None:
    """The first block of JSON lines; None if there are no rows after it."""
    with gzip.open(paths[0]) if paths[0].suffix == ".gz" else paths[0].open("rb") as file:
        lines = (file.read(FIRST_BLOCK) + file.readline()).removesuffix(b"\n").split(b"\n")
        if len(paths) == 1 and not file.read(1):
            return None
    return FirstBlock(len(lines), reduce(_both_rows, map(_type_of, _values(lines)), {}))


def _values(lines: Iterable[bytes]) -> Iterator[Any]:
    """The values of lines that are JSON; the others are problems of their own."""
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):
            yield json.loads(line)


def misfits(connection: duckdb.DuckDBPyConnection, paths: Sequence[Path], block: FirstBlock) -> list[Problem]:
    """What does not fit the types of the first block, in the order in which it first occurs."""
    types, last = block.types, block.last
    query = f"SELECT json_structure(j) AS shape, count(*) AS rows, min(line, {FIRST}) AS lines FROM rows WHERE line > {last} AND j IS NOT NULL GROUP BY shape"
    found: dict[tuple[str, str], Problem] = {}
    fractions: dict[str, None] = {}
    for frame in queried(connection, paths, query):
        for shape, rows, lines in frame.iter_rows():
            for path, what in _misfits(types, json.loads(shape), "$"):
                if what == _FRACTION:
                    fractions[path] = None
                    continue
                problem = found.setdefault((path, what), _problem(path, what))
                problem.rows += rows
                problem.lines = sorted([*problem.lines, *lines])[:FIRST]
    found |= {(path, _FRACTION): problem for path in fractions if (problem := _with_fractions(connection, paths, last, path)).rows}
    return sorted(found.values(), key=lambda problem: problem.lines)


def _with_fractions(connection: duckdb.DuckDBPyConnection, paths: Sequence[Path], last: int, path: str) -> Problem:
    """Rows with a number that is not whole: 2.0 is read as 2."""
    values = f"json_extract(j, {quoted(path)})"
    listed = values if "[*]" in path else f"[{values}]"
    cut = f"len(list_filter({listed}, lambda v: TRY_CAST(v AS DOUBLE) % 1 <> 0)) > 0"
    rows, lines = next(queried(connection, paths, f"SELECT count(*) AS rows, min(line, {FIRST}) AS lines FROM rows WHERE line > {last} AND {cut}")).row(0)
    return _problem(path, _FRACTION, rows, lines or ())


def _problem(path: str, what: str, rows: int = 0, lines: Sequence[int] = ()) -> Problem:
    shown = path.removeprefix("$.").replace("[*]", "[]").replace('"', "")
    return Problem("late_type", f"{shown} {what} after the first 10 MB, which decide the types of the loader's JSON reader: use Parquet", rows, list(lines))


def _type_of(value: Any) -> Type:
    """The type of a JSON value."""
    if isinstance(value, dict):
        return {key: _type_of(inner) for key, inner in value.items()} or _ANYTHING
    if isinstance(value, list):
        return [reduce(_both, map(_type_of, value), _NOTHING)]
    if value is None:
        return _NOTHING
    if isinstance(value, bool):
        return "flag"
    return "text" if isinstance(value, str) else "integer" if isinstance(value, int) else "number"


def _both(left: Type, right: Type) -> Type:
    """The type of values of either type."""
    if _NOTHING in (left, right):
        return right if left == _NOTHING else left
    if isinstance(left, dict) and isinstance(right, dict):
        return {key: _both(left[key], right[key]) for key in left} if left.keys() == right.keys() else _ANYTHING
    if isinstance(left, list) and isinstance(right, list):
        return [_both(left[0], right[0])]
    if isinstance(left, str) and isinstance(right, str) and {left, right} == {"integer", "number"}:
        return "number"
    return left if left == right else _ANYTHING


def _both_rows(left: Mapping[str, Type], right: Type) -> Mapping[str, Type]:
    """Rows may differ in columns."""
    return {key: _both(left.get(key, _NOTHING), right.get(key, _NOTHING)) for key in {**left, **right}} if isinstance(right, dict) else left


def _misfits(known: Type, shape: Any, path: str) -> Iterator[tuple[str, str]]:
    """Paths that a shape of DuckDB's `json_structure` has and a type does not allow."""
    if known == _ANYTHING or shape in ("NULL", "JSON"):
        return
    if known == _NOTHING:
        if shape != ["NULL"]:
            yield path, "has its first value"
    elif isinstance(known, dict) and isinstance(shape, dict):
        for key, inner in shape.items():
            below = f"{path}.{json.dumps(key, ensure_ascii=False)}"
            if key in known:
                yield from _misfits(known[key], inner, below)
            else:
                yield below, "first occurs"
    elif isinstance(known, list) and isinstance(shape, list):
        yield from _misfits(known[0], shape[0], f"{path}[*]")
    elif known == "integer" and shape == "DOUBLE":
        yield path, _FRACTION
    elif not (isinstance(known, str) and isinstance(shape, str) and _SCALARS.get(shape) in _ACCEPTED[known]):
        yield path, "has a value of another type"
