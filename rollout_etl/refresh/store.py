"""The store of all rollouts that were read: a Delta table of narrow columns, so that a refresh reads only new lines.

It has a row for each line that is not blank, and a row without number for a segment without lines. A row has its segment (see
`segments`), its number, line, first byte and size in it, the canonical columns of `COLUMNS`, and a hash of the line; for a line that is
not a rollout it has the reason and the text. Messages are not stored: they are fetched from the inputs for rows that are written.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from rollout_etl.errors import UnreadableError, WriteError
from rollout_etl.plain_text import first_line
from rollout_etl.read.schema import RECORDED, SCHEMA
from rollout_etl.refresh.segments import Segment

_TEXTS = ("prompt", "completion", "prompt_text", "response_text", "ground_truth_text", "token_calls", "extra", "gym_row")
_PLACES = ("row", "source", "line")
COLUMNS = (*(name for name in SCHEMA if name not in (*_TEXTS, *_PLACES)), "line_bytes", "line_key")
"""Columns that are stored: all canonical ones except positions, which depend on the inputs, and texts."""
_PLACED: dict[str, Any] = dict.fromkeys(("segment", "row", "line", "start", "size"), pl.Int64)
_SEGMENT: dict[str, Any] = {"origin": pl.String, "before": pl.String, "upto": pl.String, "begin": pl.Int64, "end": pl.Int64, "lines": pl.Int64}
_KEPT: dict[str, Any] = {name: dtype for name, dtype in {**SCHEMA, **{n: c.dtype for n, c in RECORDED.items()}}.items() if name in COLUMNS}
_ACCOUNT: dict[str, Any] = {"found": pl.List(pl.Boolean), "repaired": pl.List(pl.String), "reason": pl.String, "bad_text": pl.Binary}
TABLE = pl.Schema({**_PLACED, **_SEGMENT, **_KEPT, **_ACCOUNT})
"""Columns of the table as Polars sees them. `row` counts through the scan that read a segment, `line` from 1 in the segment;
`start` and `size` are in bytes, null for lines without an offset. `found`, `repaired`, `reason` and `bad_text` are for the account."""
_UNSIGNED = tuple(name for name, dtype in TABLE.items() if dtype == pl.UInt64)
_MANY_FILES = 50
_REFUSED = re.compile(r"[\x00-\x1f\x7f\[\\\]^|\ud800-\udfff]|%[0-9A-Fa-f]{2}")
"""What deltalake does not accept in a path, or interprets as another character."""


def can_hold(folder: Path) -> bool:
    """Whether the table can be in a folder with that name."""
    return not _REFUSED.search(os.path.realpath(folder))


class Store:
    """The table in a folder; with `scratch`, new rows go there and the table is not changed."""

    def __init__(self, folder: Path, scratch: Path | None = None) -> None:
        self._folder, self._scratch = folder, scratch
        self._place = os.path.realpath(folder)
        self._extra: list[Path] = []

    def scan(self) -> pl.LazyFrame:
        """All rows, in no order. Raises `UnreadableError` for a table that is damaged."""
        from deltalake import DeltaTable

        found = [TABLE.to_frame().lazy(), *(pl.scan_parquet(path, glob=False) for path in self._extra)]
        if (self._folder / "_delta_log").is_dir():
            try:
                files = DeltaTable(self._place).file_uris()
            except BaseException as error:
                if _is_of_delta(error):
                    raise self._damaged(error) from error
                raise
            if files:
                # By file name only: the rest of a path is returned percent-encoded, and would be opened like that.
                kept = pl.scan_parquet([os.path.join(self._place, os.path.basename(file)) for file in files], glob=False)
                found.insert(0, kept.with_columns(pl.col(_UNSIGNED).reinterpret(signed=False)).select(TABLE.names()))
        return pl.concat(found)

    def collected(self, rows: pl.LazyFrame) -> pl.DataFrame:
        """`rows`, which come from `scan`, collected. Raises `UnreadableError` for a table that is damaged."""
        try:
            return rows.collect()
        # Polars panics on Parquet files that are cut off.
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            raise self._damaged(error) from error

    def _damaged(self, error: BaseException) -> UnreadableError:
        return UnreadableError(f"cannot read {self._folder}: {first_line(error)}; remove the folder, and the next refresh rebuilds it")

    def segments(self) -> list[Segment]:
        """The segments in the table."""
        whole = self.scan().group_by("segment").agg(pl.first(*_SEGMENT), first=pl.min("row").fill_null(0), rows=pl.count("row"))
        return [Segment(number=segment, **found) for found in self.collected(whole).to_dicts() for segment in (found.pop("segment"),)]

    def append(self, frames: Iterable[pl.DataFrame]) -> None:
        """Add rows (columns of `TABLE`) in one commit. Raises `WriteError`, and any error of the frames."""
        from deltalake import write_deltalake

        failure: list[BaseException] = []
        if self._scratch is not None:
            self._extra.append(self._scratch / f"{len(self._extra)}.parquet")
            pl.concat([TABLE.to_frame(), *frames]).write_parquet(self._extra[-1])
            return
        schema = _arrow(TABLE.to_frame()).schema
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_deltalake(self._place, pa.RecordBatchReader.from_batches(schema, _guarded(frames, failure)), mode="append")
        except BaseException as error:
            if failure:
                raise failure[0] from error
            if not _is_of_delta(error):
                raise
            full = "no space" in str(error).lower()
            reason = "no space left on the disk" if full else first_line(error)
            raise WriteError(f"cannot write {self._folder}: {reason}; what was there before is untouched") from error

    def remove(self, segments: Sequence[int]) -> None:
        """Remove the rows of these segments in one commit, compact many small files, and remove files that no refresh of the last week has used."""
        from deltalake import DeltaTable

        if self._scratch is not None or not (self._folder / "_delta_log").is_dir():
            return
        try:
            table = DeltaTable(self._place)
            if segments:
                table.delete(f"segment IN ({', '.join(map(str, segments))})")
            if len(table.file_uris()) > _MANY_FILES:
                table.optimize.compact()
            # Files that a killed refresh wrote and did not commit are in no commit: `full` finds them too.
            table.vacuum(dry_run=False, full=True)
        except BaseException as error:
            if _is_of_delta(error):
                raise WriteError(f"cannot write {self._folder}: {first_line(error)}") from error
            raise


def _is_of_delta(error: BaseException) -> bool:
    from deltalake.exceptions import DeltaError

    # If the library panics, the error is not an `Exception`, and its class cannot be imported.
    return isinstance(error, DeltaError | OSError) or type(error).__name__ == "PanicException"


def _arrow(frame: pl.DataFrame) -> pa.Table:
    # Delta has no unsigned integers.
    return frame.with_columns(pl.col(_UNSIGNED).reinterpret(signed=True)).to_arrow(compat_level=pl.CompatLevel.oldest())


def _guarded(frames: Iterable[pl.DataFrame], failure: list[BaseException]) -> Iterator[pa.RecordBatch]:
    # The writer wraps errors of a generator in its own; users need the first cause.
    try:
        for frame in frames:
            yield from _arrow(frame.select(TABLE.names())).to_batches()
    except BaseException as error:
        failure.append(error)
        raise
