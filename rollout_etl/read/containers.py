"""Files whose rows are no lines, a JSON array or Parquet: DuckDB reads them, and gives each row as JSON."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from rollout_etl.read.inputs import Input


def rows_of(item: Input) -> Iterator[tuple[np.ndarray, pa.StringArray]]:
    """Row numbers, from 1, and rows as JSON text. Raises `OSError`."""
    first = 1
    for texts in _parquet(item) if item.suffix == ".parquet" else _json_array(item):
        yield np.arange(first, first + len(texts), dtype=np.int64), texts
        first += len(texts)


def _json_array(item: Input) -> Iterator[pa.StringArray]:
    # A JSON array is one value: DuckDB needs room for all of it.
    size = max(1 << 24, 1 << 30 if item.is_remote else os.path.getsize(item.path) + 1024)
    return _queried(f"SELECT json::VARCHAR FROM read_json_objects($path, format := 'auto', maximum_object_size := {size})", item)


def _parquet(item: Input) -> Iterator[pa.StringArray]:
    """Rows as JSON. Columns that hold JSON as text are taken as JSON."""
    nested = "'responses_create_params', 'response', 'output', 'messages', 'tools', 'agent_ref', 'metadata', 'verifier_metadata'"
    described = _query("SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM read_parquet($path))", item).fetchall()
    fields = []
    for name, dtype in described:
        column, key = '"' + name.replace('"', '""') + '"', name.replace("'", "''")
        value = column
        if dtype == "VARCHAR" and f"'{name}'" in nested:
            value = f"CASE WHEN json_valid({column}) THEN {column}::JSON ELSE to_json({column}) END"
        fields.append(f"'{key}', {value}")
    return _queried(f"SELECT json_object({', '.join(fields)})::VARCHAR FROM read_parquet($path)", item)


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
