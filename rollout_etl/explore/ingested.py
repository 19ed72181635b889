"""The tables of the views over ingested folders: Parquet files that are queried in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rollout_etl.plain_text import quoted
from rollout_etl.read.inputs import Input
from rollout_etl.read.stored import Stored


def stored_in(inputs: Sequence[Input]) -> list[Stored]:
    """The ingested folders that all of the inputs come from; none if there are other files among them."""
    if any(item.stored is None for item in inputs):
        return []
    return list(dict.fromkeys(item.stored for item in inputs if item.stored is not None))


def create_tables(connection: Any, folders: Sequence[Stored], kind: str = "VIEW") -> None:
    """Make `canonical` and `quarantined` over the folders: as views, or with their rows (`kind` is `TABLE`).

    Row numbers continue from folder to folder.
    """
    rollouts, bad, first = [], [], 0
    for stored in folders:
        columns = "* EXCLUDE (record)" + (f" REPLACE (row + {first} AS row)" if first else "")
        rollouts.append(f"SELECT {columns} FROM read_parquet([{', '.join(quoted(file) for file in stored.part_files)}])")
        bad.append(f"SELECT source, line, reason, text FROM read_parquet({quoted(stored.quarantine_file)})")
        first += stored.rows
    connection.execute(f"CREATE {kind} canonical AS {' UNION ALL '.join(rollouts)}")
    connection.execute(f"CREATE {kind} quarantined AS {' UNION ALL '.join(bad)}")
