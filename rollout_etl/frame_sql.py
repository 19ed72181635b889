"""SQL over frames, with DuckDB, for JSON operations that Polars lacks."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa

if TYPE_CHECKING:
    import duckdb


def selected(frame: pl.DataFrame, query: str, macros: str = "") -> pl.DataFrame:
    """`selected_arrow` for Polars frames."""
    found = pl.from_arrow(selected_arrow(frame.to_arrow(compat_level=pl.CompatLevel.oldest()), query, macros))
    assert isinstance(found, pl.DataFrame)
    return found


def selected_arrow(frame: pa.Table, query: str, macros: str = "") -> pa.Table:
    """The result of `query` over `frame`, in the order of its rows unless the query says otherwise. `macros` are statements that it needs."""
    with _database(macros).cursor() as connection:
        connection.register("frame", frame)
        return connection.sql(query).to_arrow_table()


@cache
def _database(macros: str) -> duckdb.DuckDBPyConnection:
    # Opening a database takes longer than most of these queries.
    import duckdb

    connection = duckdb.connect()
    connection.execute(macros)
    return connection
