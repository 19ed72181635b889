"""The rows of a training file as JSON, whatever its container."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa

from rollout_etl.plain_text import quoted_name
from rollout_etl.read.ahead import read_ahead
from rollout_etl.read.inputs import Input
from rollout_etl.read.lines import integers, line_batches


def queried(connection: duckdb.DuckDBPyConnection, paths: Sequence[Path], query: str) -> Iterator[pl.DataFrame]:
    """The frames of a query over `rows` (line, j): `j` is JSON, or null for a line that is not a JSON object. Lines are counted across all files."""
    # Lines come from Python. On the main thread, Ctrl-C would be raised there, and DuckDB would report a broken source.
    return read_ahead(_frames(connection, paths, query))


def _frames(connection: duckdb.DuckDBPyConnection, paths: Sequence[Path], query: str) -> Iterator[pl.DataFrame]:
    schema = pa.schema([("row", pa.int64()), ("source", pa.int32()), ("line", pa.int64()), ("text", pa.string())])
    cursor = connection.cursor()
    cursor.register("lines", pa.RecordBatchReader.from_batches(schema, (batch.cast(schema) for batch in _batches(paths))))
    parsed = "SELECT line, CASE WHEN json_valid(text) THEN text::JSON END AS j FROM lines"
    rows = f"SELECT line, CASE WHEN json_type(j) = 'OBJECT' THEN j END AS j FROM ({parsed})"
    for batch in cursor.sql(f"WITH rows AS ({rows}) {query}").to_arrow_reader(10_000):
        yield pl.DataFrame(pl.from_arrow(batch))


def _batches(paths: Sequence[Path]) -> Iterator[pa.RecordBatch]:
    """Lines unchanged, or Parquet rows as JSON text."""
    if paths[0].suffix != ".parquet":
        for batch in line_batches([Input(str(path)) for path in paths]):
            yield batch if len(paths) == 1 else batch.set_column(2, "line", integers(batch.column(0).to_numpy() + 1))
        return
    with duckdb.connect() as connection:
        source = connection.sql("SELECT * FROM read_parquet($paths, hive_partitioning = false)", params={"paths": [str(path) for path in paths]})
        names = ", ".join(map(quoted_name, source.columns))
        place = "0::BIGINT AS row, 0::INTEGER AS source, row_number() OVER ()::BIGINT AS line"
        query = f"SELECT {place}, to_json(struct_pack({names}))::VARCHAR AS text FROM source"
        yield from source.query("source", query).to_arrow_reader(10_000)
