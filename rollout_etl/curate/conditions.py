"""Conditions that users write, in the SQL of Polars, as expressions over named columns."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection

import polars as pl
from polars.exceptions import PolarsError

from rollout_etl.errors import UsageError
from rollout_etl.nearest import meant_or_all
from rollout_etl.read.schema import SCHEMA

_QUOTED = r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\""
_METRIC = re.compile(rf"({_QUOTED})|\bmetrics\.(?:([A-Za-z_]\w*)|\"((?:[^\"]|\"\")+)\")")
_UNREAD = re.compile(r"'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/", re.DOTALL)
# What the parsed expression does not show: a window, a list turned into rows, and a name that is parsed as its argument.
_OTHER_ROWS = re.compile(r"\b(?:over|unnest|last_value)\b\"?\s*\(", re.IGNORECASE)


def metric(name: str, of: pl.Expr) -> pl.Expr:
    """The metric of that name, from the column `metrics`. Float64."""
    # In a JSON object of numbers, an unescaped quote can only begin or end a key.
    key = re.escape(json.dumps(name, ensure_ascii=False))
    return of.str.extract(rf"[{{,]{key}:(-?[0-9][0-9.eE+-]*)").cast(pl.Float64)


def metrics_of(names: Collection[str]) -> list[str]:
    """Names of the metrics among these columns, which are named `metrics.NAME`."""
    return [name.removeprefix("metrics.") for name in names if name.startswith("metrics.")]


def source_columns(names: Collection[str]) -> list[str]:
    """Canonical columns that the columns of a condition are made of."""
    return list(dict.fromkeys("metrics" if name.startswith("metrics.") else name for name in names))


def with_metrics(frame: pl.DataFrame, names: Collection[str]) -> pl.DataFrame:
    """`frame`, which has `metrics`, with a column `metrics.NAME` (Float64) for each such name in `names`."""
    return frame.with_columns(metric(name, pl.col("metrics")).alias(f"metrics.{name}") for name in metrics_of(names))


_Dtype = pl.DataType | type[pl.DataType] | None


def condition(text: str, option: str = "--where", schema: Callable[[str], _Dtype] | None = None, known: Collection[str] = ()) -> pl.Expr:
    """A condition as an expression; `metrics.NAME` becomes a column of that name (see `with_metrics`).

    `schema` gives the type of a column, None if there is no such column; without it, columns are canonical ones and metrics.
    Raises `UsageError` for a text that is not a condition on single rows, or that names an unknown column.
    """
    of, names = (schema, known) if schema is not None else (_canonical, [name for name in SCHEMA if name != "row"])
    try:
        expression = pl.sql_expr(_METRIC.sub(lambda found: found[1] or f'"metrics.{found[2] or found[3]}"', text))
        used = list(dict.fromkeys(expression.meta.root_names()))
    except (PolarsError, TypeError) as error:
        raise UsageError(f"{option} {text}: {str(error).splitlines()[0]}") from error
    dtypes = {name: of(name) for name in used}
    for name, dtype in dtypes.items():
        if dtype is None:
            raise UsageError(f"{option} names '{name}', which is not a column{meant_or_all(name, names, 'columns', '' if schema else ' and metrics.NAME')}")
    try:
        frame = pl.DataFrame(schema={**{name: dtype for name, dtype in dtypes.items() if dtype is not None}, " ": pl.Int8})
        dtype = frame.select(value=expression).schema["value"]
        if looks_around(text, expression, frame):
            raise UsageError(f"{option} {text}: a condition applies to one row at a time and cannot use count, sum, over and the like")
    except PolarsError as error:
        raise UsageError(f"{option} {text}: {str(error).splitlines()[0]}") from error
    if dtype != pl.Boolean:
        raise UsageError(f"{option} {text} is not a condition; compare something, as in reward < 0.5")
    return expression


def looks_around(text: str, expression: pl.Expr, empty: pl.DataFrame) -> bool:
    """Whether an expression, parsed from `text`, depends on other rows as well, so that its value would change with the batch.

    `empty` has its columns, but no rows: an expression that gives a row nevertheless is an aggregate.
    """
    if _OTHER_ROWS.search(_UNREAD.sub(" ", text)):
        return True
    parts = [expression]
    while parts:
        part = parts.pop()
        if (part.meta.root_names() or part.meta.eq(pl.len())) and len(empty.select(value=part)):
            return True
        parts += part.meta.pop(schema=empty.schema)
    return False


def _canonical(name: str) -> _Dtype:
    return pl.Float64 if name.startswith("metrics.") and name != "metrics." else SCHEMA.get(name)
