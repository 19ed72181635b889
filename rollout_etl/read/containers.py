"""Files whose rows are not lines, a JSON array or Parquet: DuckDB reads them and returns each row as JSON."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from rollout_etl.plain_text import quoted, quoted_name
from rollout_etl.read.inputs import Input
from rollout_etl.read.structure import STRUCTURE

_NESTED = {"messages", "output", "tools", *(name for name, part in STRUCTURE.items() if isinstance(part, dict))}
"""Fields that hold objects or lists, in columns of text as JSON."""
_INDICES = {"_ng_task_index", "_ng_rollout_index"}


def rows_of(item: Input) -> Iterator[tuple[np.ndarray, pa.StringArray]]:
    """Row numbers, from 1, and rows as JSON text. Raises `OSError`."""
    if item.path.lower().startswith(("http://", "https://")):
        yield from _fetched_rows(item)
        return
    first = 1
    for texts in _parquet(item) if item.suffix == ".parquet" else _json_array(item):
        yield np.arange(first, first + len(texts), dtype=np.int64), texts
        first += len(texts)


def _fetched_rows(item: Input) -> Iterator[tuple[np.ndarray, pa.StringArray]]:
    """Rows of a file that is downloaded first: DuckDB needs an extension for URLs, which not every machine can install."""
    from rollout_etl.read import remote

    with tempfile.TemporaryDirectory(prefix="rollout-etl-") as folder:
        here = Path(folder, f"fetched{item.suffix}")
        with remote.opened(item.path) as body, here.open("wb") as file:
            shutil.copyfileobj(body, file, 1 << 20)
        try:
            yield from rows_of(replace(item, path=str(here)))
        except OSError as error:
            raise OSError(str(error).replace(str(here), item.path)) from error


def _json_array(item: Input) -> Iterator[pa.StringArray]:
    # A JSON array is one value: DuckDB needs room for all of it.
    size = max(1 << 24, 1 << 30 if item.is_remote else os.path.getsize(item.path) + 1024)
    read = 0
    try:
        for texts in _queried(f"SELECT json::VARCHAR FROM read_json_objects($path, format := 'auto', maximum_object_size := {size})", item):
            yield texts
            read += len(texts)
    except OSError:
        # A single invalid escape makes DuckDB fail on the whole array. As a separate line, the row can be repaired.
        rows = None if item.local_path is None else _array_of(item.local_path)
        if rows is None:
            raise
        yield pa.array([json.dumps(row) for row in rows[read:]], pa.string())


def _array_of(path: str) -> list[Any] | None:
    """The elements of a JSON array, None if it is not one."""
    try:
        found = json.loads(Path(path).read_bytes())
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) else None


def _parquet(item: Input) -> Iterator[pa.StringArray]:
    """Rows as JSON. Columns that hold objects and lists as text are taken as JSON."""
    described = _query("SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM read_parquet($path, binary_as_string := true))", item).fetchall()
    # DuckDB tells columns apart by the names that it gave them: of two that differ only in case, the second gets a number.
    names = _columns(_query("SELECT name, num_children FROM parquet_schema($path)", item).fetchall())
    values = [f"{quoted(name)}, {_value(name, given, dtype)}" for name, (given, dtype) in zip(names, described, strict=True)]
    return _queried(f"SELECT json_object({', '.join(values)})::VARCHAR FROM read_parquet($path, binary_as_string := true)", item)


def _columns(nodes: list[tuple[str, int | None]]) -> list[str]:
    """Names of the columns: the nodes of the schema are listed depth first, from its root."""
    names: list[str] = []
    below = 0
    for name, children in nodes[1:]:
        if below == 0:
            names.append(name)
            below = 1
        below += (children or 0) - 1
    return names


def _value(name: str, given: str, dtype: str) -> str:
    """SQL for a column's value as JSON."""
    column = quoted_name(given)
    if name in _NESTED and dtype == "VARCHAR":
        return f"CASE WHEN regexp_matches({column}, '^\\s*[\\[{{]') AND json_valid({column}) THEN {column}::JSON ELSE to_json({column}) END"
    if "STRUCT(" in dtype:
        # Arrow fills a struct with the keys of other rows: schemas of tools would hold the properties of all other tools, as null.
        return f"json_strip_nulls(to_json({column}))"
    if name in _INDICES and dtype in ("DOUBLE", "FLOAT"):
        # If pandas wrote the file, a missing value in one row turns the integers of the others into floats.
        return f"CASE WHEN {column} = floor({column}) THEN {column}::BIGINT END"
    return column


def _query(sql: str, item: Input) -> Any:
    import duckdb

    try:
        return duckdb.connect(config={"memory_limit": "4GB"}).sql(sql, params={"path": item.path})
    except duckdb.Error as error:
        raise OSError(str(error).splitlines()[0]) from error


def _queried(sql: str, item: Input) -> Iterator[pa.StringArray]:
    import duckdb

    try:
        for batch in _query(sql, item).to_arrow_reader(1024):
            yield batch.column(0).cast(pa.string())
    except duckdb.Error as error:
        raise OSError(str(error).splitlines()[0]) from error
