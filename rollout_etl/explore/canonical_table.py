"""The two tables that the views are built on, `canonical` and `quarantined`, filled from rollouts.

A single query needs few columns of `canonical`: `needed_columns` finds them in the plan, and the others are not read. Evaluating one of
those others is an error, never a null.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl

from rollout_etl.explore import library
from rollout_etl.explore.session import NOT_READ
from rollout_etl.read.scan import Rollouts
from rollout_etl.read.schema import SCHEMA

_TYPES: dict[Any, str] = {pl.String: "VARCHAR", pl.Int64: "BIGINT", pl.UInt64: "UBIGINT", pl.Float64: "DOUBLE", pl.Boolean: "BOOLEAN"}
TYPES = {name: _TYPES[dtype] for name, dtype in SCHEMA.items()}
"""DuckDB's type of each column of `canonical`."""
_QUARANTINED = "CREATE OR REPLACE TABLE quarantined (source VARCHAR, line BIGINT, reason VARCHAR, text VARCHAR)"


def create_views(connection: Any) -> None:
    """Make all views over `canonical` and `quarantined`."""
    for name in library.VIEWS:
        connection.execute(library.view(name))


def create_empty(connection: Any) -> None:
    """Make both tables, without rows."""
    connection.execute(f"CREATE TABLE canonical ({', '.join(f'{name} {kind}' for name, kind in TYPES.items())})")
    connection.execute(_QUARANTINED)


def needed_columns(sql: Iterable[Any], values: Mapping[str, Any]) -> list[str] | None:
    """Columns of `canonical` that the statements read with these values, including `row`; None if that cannot be determined."""
    import duckdb

    probe = duckdb.connect(config={"python_enable_replacements": False, "enable_external_access": False})
    create_empty(probe)
    create_views(probe)
    # Otherwise the plan would leave out an empty table, and its columns with it.
    probe.execute("SET disabled_optimizers = 'statistics_propagation'")
    found = {"row"}
    for statement in sql:
        if statement.type.name != "SELECT" or not set(statement.named_parameters) <= set(values):
            return None
        try:
            for name, value in values.items():
                probe.execute(f'SET VARIABLE "{name}" = $value', {"value": value})
            explained = probe.execute(f"EXPLAIN (FORMAT json) {statement.query}", {name: values[name] for name in statement.named_parameters} or None)
            plan = json.loads(explained.fetchall()[0][1])
        except (duckdb.Error, ValueError, IndexError):
            return None
        found |= _scanned(plan)
    return [name for name in SCHEMA if name in found]


def _scanned(plan: Any) -> set[str]:
    """Names of columns in the scans of a plan; names from other tables cost time but do no harm."""
    if isinstance(plan, list):
        return set().union(*(_scanned(part) for part in plan))
    projections = plan.get("extra_info", {}).get("Projections", [])
    names = {projections} if isinstance(projections, str) else set(projections)
    filters = plan.get("extra_info", {}).get("Filters", "")
    mentioned = {name for name in SCHEMA if name in str(filters)}
    return ((names & set(SCHEMA)) | mentioned if "SCAN" in plan.get("name", "") else set()) | _scanned(plan.get("children", []))


def fill(
    connection: Any, rollouts: Rollouts, columns: Sequence[str] | None = None, max_bad_fraction: float = 1.0,
) -> None:
    """Read the rollouts into `canonical`, and lines that are not rollouts into `quarantined`. With `columns`, only those are read.

    Raises `UnreadableError` if files cannot be read, or more than `max_bad_fraction` of the lines are not rollouts.
    """
    wanted = list(SCHEMA) if columns is None else [name for name in SCHEMA if name in columns]
    table = "canonical" if columns is None else "canonical_read"
    connection.execute(f"CREATE OR REPLACE TABLE {table} ({', '.join(f'{name} {TYPES[name]}' for name in wanted)})")
    for frame in rollouts.batches(wanted):
        connection.register("frame", frame.to_arrow())
        connection.execute(f"INSERT INTO {table} SELECT {', '.join(wanted)} FROM frame")
        connection.unregister("frame")
    if columns is not None:
        selected = ", ".join(name if name in wanted else f"{_refused(name)} AS {name}" for name in SCHEMA)
        connection.execute(f"CREATE OR REPLACE VIEW canonical AS SELECT {selected} FROM canonical_read")
    connection.execute(_QUARANTINED)
    rollouts.check_bad_fraction(max_bad_fraction)
    assert rollouts.account is not None
    bad = [json.loads(line.to_json()) for line in rollouts.account.quarantined]
    if bad:
        connection.executemany("INSERT INTO quarantined VALUES ($source, $line, $reason, $text)", bad)


def _refused(name: str) -> str:
    # Depends on the row, so that it is not evaluated before a row needs it.
    return f"CASE WHEN row IS NOT NULL THEN error('column {name} {NOT_READ}') END::{TYPES[name]}"
