"""Ingesting: rollouts are read once and kept as Parquet (see `rollout_etl.read.stored`), or as a DuckDB file with the views in it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from rollout_etl import named_fields
from rollout_etl.errors import UsageError
from rollout_etl.explore import ingested
from rollout_etl.explore.canonical_table import create_views, fill
from rollout_etl.publish.files import plain_write_errors
from rollout_etl.publish.folders import StagedFolder
from rollout_etl.publish.staging import give_back, make_room, staged_path
from rollout_etl.read import stored
from rollout_etl.read.canonical import Lookup
from rollout_etl.read.inputs import find_inputs
from rollout_etl.read.lines import line_batches
from rollout_etl.read.quarantine import BadLine
from rollout_etl.read.scan import Paths, Rollouts
from rollout_etl.read.schema import SCHEMA

_PART_BYTES, _PART_ROWS = 1 << 27, 100_000
"""Rows of a part: it is sorted in memory, and read as a whole when lines are needed in their order."""
_SORTED_BY = ("task_name", "agent_name", "reward", "row")
_BAD_SCHEMA = pl.Schema({"row": pl.Int64, "source": pl.String, "line": pl.Int64, "reason": pl.String, "text": pl.String, "record": pl.Binary})


@dataclass(frozen=True)
class Ingested:
    """Counts of what was ingested: `read = rollouts + quarantined`."""

    read: int
    rollouts: int
    quarantined: int
    outputs: tuple[str, ...]
    notes: tuple[str, ...]


def ingest(
    paths: Paths, folder: Path | None = None, database: Path | None = None, *, lookup: Lookup | None = None, task_inputs: str | None = None,
    max_bad_fraction: float = 0.01, threads: int | None = None,
) -> Ingested:
    """Read rollouts and store them in `folder`, in the DuckDB file `database`, or in both. Both appear whole or not at all.

    Raises `UsageError` for places that hold something else, `UnreadableError` for files that cannot be read or have too many
    lines that are not rollouts, `WriteError` if writing fails.
    """
    if folder is None and database is None:
        raise UsageError("no output given: name a folder with -o DIR, a DuckDB file with --database FILE, or both")
    rollouts = Rollouts(paths, lookup=lookup, task_inputs=task_inputs, threads=threads)
    _refuse(rollouts, folder, database)
    outputs = tuple(str(path) for path in (folder, database) if path is not None)
    if folder is not None:
        with StagedFolder(folder) as staged, plain_write_errors(folder):
            _write(rollouts, staged.staged, task_inputs, max_bad_fraction)
            staged.publish()
    if database is not None:
        with _staged(database) as staging, plain_write_errors(database):
            _write_database(rollouts if folder is None else folder, staging, max_bad_fraction)
            os.replace(staging, database)
    account = rollouts.account
    assert account is not None
    return Ingested(account.read, account.rollouts, len(account.quarantined), outputs, (*rollouts.notes, *named_fields.looked_up(rollouts)))


def _refuse(rollouts: Rollouts, folder: Path | None, database: Path | None) -> None:
    read = {os.path.realpath(item.path if item.stored is None else item.stored.folder) for item in rollouts.inputs if not item.is_remote}
    for path in (folder, database):
        if path is not None and any(one == os.path.realpath(path) or (path == folder and one.startswith(os.path.realpath(path) + os.sep)) for one in read):
            raise UsageError(f"{path} is or holds an input; name another place")
    if folder is not None and folder.exists() and not stored.is_stored(str(folder)) and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} holds something else; name a folder that is new, empty, or was ingested before")
    if database is not None and (database.is_dir() or database.suffix not in (".duckdb", ".db", ".ddb")):
        raise UsageError(f"{database} must be a file that ends with .duckdb")


@contextlib.contextmanager
def _staged(path: Path) -> Iterator[Path]:
    """A temporary path next to that of a database; whatever is there at the end is removed."""
    staging = staged_path(path)
    with plain_write_errors(path):
        made = make_room(path)
    try:
        yield staging
    finally:
        for leftover in (staging, Path(f"{staging}.wal")):
            leftover.unlink(missing_ok=True)
        give_back(made)


def _write(rollouts: Rollouts, folder: Path, task_inputs: str | None, max_bad_fraction: float) -> None:
    parts: list[stored.Part] = []
    bad: list[pl.DataFrame] = []
    sizes = [0] * len(rollouts.inputs)
    window: list[pl.DataFrame] = []
    first = size = 0
    for end, frame, lines in _with_records(rollouts):
        missing = lines.join(frame.select("row"), on="row", how="anti", maintain_order="left")
        bad += [missing] if len(missing) else []
        for source, count in lines["source"].value_counts().iter_rows():
            sizes[source] += count
        window.append(frame.join(lines.select("row", "record"), on="row", how="left", maintain_order="left"))
        size += int(lines["record"].bin.size().sum())
        if size >= _PART_BYTES or end - first >= _PART_ROWS:
            parts.append(_write_part(folder, len(parts), first, end, window))
            window, first, size = [], end, 0
    if window or not parts:
        parts.append(_write_part(folder, len(parts), first, sum(sizes), window))
    rollouts.check_bad_fraction(max_bad_fraction)
    _write_quarantine(rollouts, folder, bad)
    firsts = [0, *np.cumsum(sizes).tolist()]
    of_all = _kept_inputs(task_inputs, folder, "task-inputs")
    sources = tuple(
        stored.Source(item.path, firsts[number], sizes[number], of_all or _kept_inputs(item.task_inputs, folder, f"task-inputs-{number}"))
        for number, item in enumerate(rollouts.inputs)
    )
    lookup = rollouts.lookup
    index = stored.Stored(str(folder), sources, tuple(parts), lookup.group_by, lookup.ground_truth_field).to_json()
    (folder / stored.INDEX).write_text(json.dumps(index, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _with_records(rollouts: Rollouts) -> Iterator[tuple[int, pl.DataFrame, pl.DataFrame]]:
    """Canonical frames with all lines up to their last row: the row after it, the frame, and `row`, `source` (number), `line`, `record`."""
    lines = _Lines(rollouts)
    waiting: pl.DataFrame | None = None
    for frame in rollouts.batches(list(SCHEMA)):
        if waiting is not None:
            end = int(waiting["row"][-1]) + 1
            yield end, waiting, lines.until(end)
        waiting = frame if len(frame) else waiting
    rest = lines.until(None)
    if waiting is not None or len(rest):
        empty = pl.DataFrame(schema=SCHEMA)
        yield (int(rest["row"][-1]) + 1 if len(rest) else 0), (empty if waiting is None else waiting), rest


class _Lines:
    """Reads the lines of the files a second time, up to a given row at each call."""

    def __init__(self, rollouts: Rollouts) -> None:
        self._batches = line_batches(rollouts.inputs)
        self._held: list[pl.DataFrame] = []

    def until(self, end: int | None) -> pl.DataFrame:
        """The lines before row `end`, or all that are left."""
        while end is None or not (self._held and self._held[-1]["row"][-1] >= end - 1):
            batch = next(self._batches, None)
            if batch is None:
                break
            columns = {"row": batch.column(0), "source": batch.column(1), "line": batch.column(2), "record": batch.column(3).view(pa.binary())}
            self._held.append(pl.DataFrame(pl.from_arrow(pa.table(columns))))
        held = pl.concat([pl.DataFrame(schema={"row": pl.Int64, "source": pl.Int32, "line": pl.Int64, "record": pl.Binary}), *self._held])
        cut = len(held) if end is None else int(held["row"].search_sorted(end))
        self._held = [held[cut:]] if cut < len(held) else []
        return held[:cut]


def _write_part(folder: Path, number: int, first: int, end: int, window: list[pl.DataFrame]) -> stored.Part:
    schema = pl.Schema({**SCHEMA, "record": pl.Binary()})
    table = pl.concat([pl.DataFrame(schema=schema), *window]).sort(_SORTED_BY, nulls_last=True)
    name = f"part-{number:05}.parquet"
    # Lines that became rollouts are JSON, so they are valid text.
    table.with_columns(pl.col("record").cast(pl.String)).write_parquet(
        folder / name, compression="zstd", compression_level=1, row_group_size=min(max(len(table) // 8, 1024), 16_384), statistics=True
    )
    _protect(folder / name)
    return stored.Part(name, first, end - first)


def _protect(path: Path) -> None:
    """Make the files read-only: queries may open them, and a COPY must not overwrite them."""
    path.chmod(0o444)


def _write_quarantine(rollouts: Rollouts, folder: Path, bad: list[pl.DataFrame]) -> None:
    assert rollouts.account is not None
    reasons: dict[tuple[str, int], BadLine] = {(line.source, line.line): line for line in rollouts.account.quarantined}
    rows: list[dict[str, Any]] = []
    for lines in bad:
        for row, source, line, record in lines.iter_rows():
            found = json.loads(reasons[rollouts.inputs[source].path, line].to_json())
            rows.append({**found, "row": row, "record": record})
    pl.DataFrame(rows, schema=_BAD_SCHEMA).write_parquet(folder / stored.QUARANTINE, compression="zstd")
    _protect(folder / stored.QUARANTINE)


def _kept_inputs(path: str | None, folder: Path, name: str) -> str | None:
    """Copy the task inputs of the rollouts, so that the folder is self-contained; returns the name of the file."""
    if path is None:
        return None
    with (folder / f"{name}.jsonl").open("wb") as file:
        for batch in line_batches(find_inputs(path)[0]):
            file.writelines(line.rstrip(b"\r\n") + b"\n" for line in batch.column(3).view(pa.binary()).to_pylist())
    return f"{name}.jsonl"


def _write_database(source: Rollouts | Path, path: Path, max_bad_fraction: float) -> None:
    import duckdb

    try:
        with duckdb.connect(path) as connection:
            if isinstance(source, Path):
                ingested.create_tables(connection, [stored.load(str(source))], kind="TABLE")
            else:
                fill(connection, source, None, max_bad_fraction)
            create_views(connection)
            connection.execute("CHECKPOINT")
    except duckdb.IOException as error:
        raise OSError(str(error).splitlines()[0].rpartition(": ")[2]) from error
