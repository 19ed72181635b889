"""What is known of every rollout that was read: a Delta table of narrow columns, so that a refresh reads new lines only.

One row for each line that is not blank, and one without number for a segment that has none. It has the segment that it came from
(see `segments`), its number, line, first byte and size there, the canonical columns of `COLUMNS`, and a number made of the line; a
line that is no rollout has the reason and its text. What was said is not kept: it is fetched from the inputs for what is written.
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
"""Columns that are kept: all canonical ones but places, which inputs decide, and texts."""
_PLACED: dict[str, Any] = dict.fromkeys(("segment", "row", "line", "start", "size"), pl.Int64)
_SEGMENT: dict[str, Any] = {"origin": pl.String, "before": pl.String, "upto": pl.String, "begin": pl.Int64, "end": pl.Int64, "lines": pl.Int64}
_KEPT: dict[str, Any] = {name: dtype for name, dtype in {**SCHEMA, **{n: c.dtype for n, c in RECORDED.items()}}.items() if name in COLUMNS}
_ACCOUNT: dict[str, Any] = {"found": pl.List(pl.Boolean), "repaired": pl.List(pl.String), "reason": pl.String, "bad_text": pl.Binary}
TABLE = pl.Schema({**_PLACED, **_SEGMENT, **_KEPT, **_ACCOUNT})
"""Columns of the table as Polars sees them. `row` counts through the scan that read a segment, `line` from 1 in the segment;
`start` and `size` are in bytes, null where lines have no place. `found`, `repaired`, `reason` and `bad_text` are for the account."""
_UNSIGNED = tuple(name for name, dtype in TABLE.items() if dtype == pl.UInt64)
_MANY_FILES = 50
_REFUSED = re.compile(r"[\x00-\x1f\x7f\[\\\]^|\ud800-\udfff]|%[0-9A-Fa-f]{2}")
"""What deltalake does not take in a path, or takes for another character."""


def can_hold(folder: Path) -> bool:
    """Whether the table can lie in a folder of that name."""
    return not _REFUSED.search(os.path.realpath(folder))


class Store:
    """The table in a folder; new rows go to `scratch` instead where nothing is to be changed."""

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
                # By their names alone: the rest of a path comes back percent-encoded, and is opened as it stands.
                kept = pl.scan_parquet([os.path.join(self._place, os.path.basename(file)) for file in files], glob=False)
                found.insert(0, kept.with_columns(pl.col(_UNSIGNED).reinterpret(signed=False)).select(TABLE.names()))
        return pl.concat(found)

    def collected(self, rows: pl.LazyFrame) -> pl.DataFrame:
        """What `rows`, made of `scan`, are. Raises `UnreadableError` for a table that is damaged."""
        try:
            return rows.collect()
        # Polars panics on Parquet files that are cut off.
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            raise self._damaged(error) from error

    def _damaged(self, error: BaseException) -> UnreadableError:
        return UnreadableError(f"cannot read {self._folder}: {first_line(error)}; remove the folder, and the next refresh makes it anew")

    def segments(self) -> list[Segment]:
        """What is in the table."""
        whole = self.scan().group_by("segment").agg(pl.first(*_SEGMENT), first=pl.min("row").fill_null(0), rows=pl.count("row"))
        return [Segment(number=segment, **found) for found in self.collected(whole).to_dicts() for segment in (found.pop("segment"),)]

    def append(self, frames: Iterable[pl.DataFrame]) -> None:
        """Add rows (columns of `TABLE`) in one commit. Raises `WriteError`, and what the frames raise."""
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
        """Take out the rows of these segments, in one commit, and put many small files together."""
        from deltalake import DeltaTable

        if self._scratch is not None or not (self._folder / "_delta_log").is_dir():
            return
        try:
            table = DeltaTable(self._place)
            if segments:
                table.delete(f"segment IN ({', '.join(map(str, segments))})")
            if len(table.file_uris()) > _MANY_FILES:
                table.optimize.compact()
                table.vacuum(dry_run=False)
        except BaseException as error:
            if _is_of_delta(error):
                raise WriteError(f"cannot write {self._folder}: {first_line(error)}") from error
            raise


def _is_of_delta(error: BaseException) -> bool:
    from deltalake.exceptions import DeltaError

    # Where the library panics, what it raises is no `Exception`, and it has no name to import.
    return isinstance(error, DeltaError | OSError) or type(error).__name__ == "PanicException"


def _arrow(frame: pl.DataFrame) -> pa.Table:
    # Delta has no unsigned integers.
    return frame.with_columns(pl.col(_UNSIGNED).reinterpret(signed=True)).to_arrow(compat_level=pl.CompatLevel.oldest())


def _guarded(frames: Iterable[pl.DataFrame], failure: list[BaseException]) -> Iterator[pa.RecordBatch]:
    # The writer turns what a generator raises into its own error; the first cause is what users need.
    try:
        for frame in frames:
            yield from _arrow(frame.select(TABLE.names())).to_batches()
    except BaseException as error:
        failure.append(error)
        raise
