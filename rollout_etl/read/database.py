"""The database for reading lines: opened once per scan, with one query for each pass."""

from __future__ import annotations

from typing import Any

import duckdb
import pyarrow as pa

from rollout_etl.read.canonical import Style, macros


def opened(style: Style, threads: int | None) -> duckdb.DuckDBPyConnection:
    """A database in memory with the macros of `rollouts_query`."""
    # Lists of a few texts are compared where they stand: each would be planned and run as a join.
    config: dict[str, Any] = {"preserve_insertion_order": False, "autoinstall_known_extensions": False, "disabled_optimizers": "in_clause"}
    if threads:
        config["threads"] = threads
    connection = duckdb.connect(config=config)
    connection.execute(macros(style))
    return connection


def streamed(database: duckdb.DuckDBPyConnection, lines: pa.RecordBatchReader | pa.Table, query: str, rows: int) -> pa.RecordBatchReader:
    """Batches of some `rows` of what `query` makes of `lines`, while they come."""
    # Scans may run side by side, or be abandoned, so each has a connection of its own.
    connection = database.cursor()
    connection.register("lines", lines)
    # A relation plans its query for the names of its columns, and again to run it: a tenth of a second each.
    submit = getattr(connection, "_submit", None)
    if submit is None:
        return connection.sql(query).to_arrow_reader(rows)
    return submit(query, None, "stream", rows).arrow_reader()
