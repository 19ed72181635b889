"""The canonical table of a set of files, batch by batch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa

from rollout_etl.errors import RolloutETLError, UnreadableError
from rollout_etl.progress import Stage
from rollout_etl.read.ahead import RowOrder, read_ahead
from rollout_etl.read.canonical import Lookup, Style, looks_at_fields, rollouts_query
from rollout_etl.read.database import opened, streamed
from rollout_etl.read.glimpse import Glimpse
from rollout_etl.read.inputs import Input, check_stamps, find_inputs, stamps_of
from rollout_etl.read.lines import SCHEMA as LINES
from rollout_etl.read.lines import line_batches
from rollout_etl.read.places import NotedPlaces, batches_at
from rollout_etl.read.quarantine import Account
from rollout_etl.read.rescue import without_bad_lines
from rollout_etl.read.settled import settled
from rollout_etl.read.task_inputs import TaskInputs

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
_BATCH_BYTES = 1 << 25


class Rollouts:
    """The rollouts of a set of files.

    `batches` streams canonical columns; the first pass over everything fills `account`.
    """

    def __init__(
        self,
        paths: Paths,
        *,
        style: Style | None = None,
        lookup: Lookup | None = None,
        task_inputs: str | None = None,
        threads: int | None = None,
        memory: int | None = None,
        inputs: Sequence[Input] | None = None,
    ) -> None:
        """`memory` limits the bytes that a pass may hold; without it, speed decides. `inputs` are files that were found already, in place of `paths`."""
        self.inputs, self.notes = find_inputs(paths) if inputs is None else (list(inputs), [])
        self.style = style or Style()
        self.lookup = settled(self.inputs, lookup or Lookup())
        if lookup is not None and self.lookup != lookup:
            self.notes.append(f"as when they were ingested: {self.lookup.spelling}")
        self.account: Account | None = None
        self.unsure = 0
        """Rollouts that several task inputs fit which do not agree: as many as one pass met at most."""
        self._threads = threads
        self._memory = memory
        self._only = "true"
        self._is_part = False
        self._places: NotedPlaces | None = None
        self._task_inputs = TaskInputs(self, task_inputs)
        self._stamps = stamps_of(self.inputs)
        self.glimpse = Glimpse(self.inputs)
        """Estimates from the beginnings of the inputs."""

    def check_unchanged(self) -> None:
        """Raise `UnreadableError` for a file that has changed since this reader was made."""
        check_stamps(self._stamps)

    def over(self, inputs: Sequence[Input]) -> Rollouts:
        """A reader of some of the inputs, or of ranges of them; rows count from 0 there, and the lines of a range from 1."""
        part = Rollouts((), inputs=inputs, style=self.style, lookup=self.lookup, threads=self._threads, memory=self._memory)
        # Share what is expensive to make.
        part.__dict__ |= {name: getattr(self, name) for name in ("_database", "glimpse", "_stamps")}
        part._is_part = True
        part._task_inputs = self._task_inputs.over(part)
        return part

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_database"} | {"_places": None}

    def batches(self, columns: Sequence[str], rows: np.ndarray | None = None, min_reward: float | None = None) -> Iterator[pl.DataFrame]:
        """Frames of `columns`, rows in the order of the files; with `rows` (sorted row numbers), only those rows.

        With `min_reward`, messages and texts of rollouts under it are null, because they are not needed.
        """
        with Stage("read" if rows is None else "fetch", self.total_bytes, told=not self._is_part) as stage:
            for frame in stage.waiting(self._batches(columns, rows, min_reward, stage)):
                stage.advance(rows=len(frame))
                yield frame

    def _batches(self, columns: Sequence[str], rows: np.ndarray | None, min_reward: float | None, stage: Stage) -> Iterator[pl.DataFrame]:
        account, unsure = Account(), 0
        self._only = "true" if min_reward is None else _reaches(min_reward)
        named = {number: item.name for number, item in enumerate(self.inputs) if item.name is not None} if "task_name" in columns else {}
        wanted = list(dict.fromkeys([*columns, "row", *(["source"] if named else []), *self._task_inputs.needed_for(columns)]))
        for frame in self._raw_batches(wanted, rows, stage):
            kept = self._without_bad_lines(frame, wanted, account)
            account.rollouts += len(kept)
            account.found.update({path: int(kept[f"found_{number}"].sum()) for number, path in enumerate(self.lookup.paths)})
            if named:
                kept = kept.with_columns(task_name=pl.coalesce(pl.col("source").replace_strict(named, default=None, return_dtype=pl.String), "task_name"))
            kept = kept.with_columns(pl.col("source").replace_strict(dict(enumerate(self._paths)), return_dtype=pl.String)) if "source" in wanted else kept
            filled, several = self._task_inputs.filled(kept, columns)
            unsure += several
            self.unsure = max(self.unsure, unsure)
            yield filled.select(columns)
        if rows is None:
            self.account = account
        elif account.rollouts != len(rows):
            self.check_unchanged()
            raise UnreadableError("the input changed while it was being read: rollouts of the first pass are not rollouts in the second")

    def check_bad_fraction(self, limit: float) -> None:
        """Raise `UnreadableError` if more than `limit` of the lines that were read are not rollouts."""
        account = self.account
        if account is not None and account.bad_fraction > limit:
            first = account.quarantined[0]
            raise UnreadableError(
                f"{len(account.quarantined)} of {account.read} lines are not rollouts, more than --max-bad-fraction {limit:g} allows; "
                f"the first is {first.source}:{first.line} ({first.reason})"
            )

    def holds(self, columns: Iterable[str]) -> bool:
        """Whether these columns are available without reading lines, so that it pays to decide with them first."""
        return False

    @property
    def task_inputs(self) -> list[Input]:
        """The task inputs in which ground truth is also looked up."""
        return self._task_inputs.inputs

    @property
    def lacks_task_inputs(self) -> bool:
        """Whether some of the files have no task inputs."""
        return self._task_inputs.missing

    @property
    def warnings(self) -> list[str]:
        """Warnings from reading so far."""
        way = "values in which these differ were not used; give rollouts and inputs the same _ng_task_index or task_id"
        return [f"{self.unsure} rollout(s) match several task inputs: {way}"] if self.unsure else []

    @property
    def total_bytes(self) -> int | None:
        """Bytes of all lines, if known."""
        if any(item.local_path is None or item.stored is not None or item.suffix != ".jsonl" for item in self.inputs):
            return None
        return sum((os.path.getsize(item.path) if item.end is None else item.end) - item.start for item in self.inputs if os.path.exists(item.path))

    @property
    def _paths(self) -> list[str]:
        return [item.path for item in self.inputs]

    @cached_property
    def _database(self) -> duckdb.DuckDBPyConnection:
        return opened(self.style, self._threads)

    def _raw_batches(self, columns: list[str], rows: np.ndarray | None, stage: Stage) -> Iterator[pl.DataFrame]:
        failure: list[Exception] = []

        def guarded(first_row: int) -> Iterator[pa.RecordBatch]:
            # DuckDB wraps errors of a generator in its own; users need the first cause.
            try:
                yield from self._lines(rows, first_row, lambda size: stage.advance(bytes=size))
            except Exception as error:
                failure.append(error)
                raise

        order = RowOrder(rows)
        for tolerant in (False, True):
            stage.bytes = 0
            try:
                lines = pa.RecordBatchReader.from_batches(LINES, guarded(order.next_row))
                for batch in read_ahead(iter(self._streamed(lines, columns, tolerant))):
                    yield from order.released(_frame(batch))
                order.check_complete()
                return
            # Past the first batch DuckDB's errors come as Arrow's. The message quotes the line, so Python cannot always decode it.
            except (duckdb.Error, OSError, pa.ArrowException, UnicodeDecodeError, UnreadableError) as error:
                order.forget_waiting()
                self.check_unchanged()
                cause = failure[0] if failure else None
                if isinstance(cause, RolloutETLError):
                    raise cause from error
                if isinstance(error, UnreadableError):
                    raise
                if tolerant or cause is not None:
                    raise UnreadableError(f"cannot read the rollouts: {str(cause or error).splitlines()[0]}") from error

    def _lines(self, rows: np.ndarray | None, first_row: int, told: Callable[[int], None]) -> Iterator[pa.RecordBatch]:
        """The lines that are parsed (see `line_batches`)."""
        if rows is not None and self._places is not None:
            yield from batches_at(self.inputs, self._places.bounds, self._places.of, rows[np.searchsorted(rows, first_row) :], told)
            return
        notes = NotedPlaces(self.inputs) if rows is None else None
        yield from line_batches(self.inputs, rows, first_row, told, notes)
        self._places = notes or self._places

    def _streamed(self, lines: pa.RecordBatchReader | pa.Table, columns: list[str], tolerant: bool = True) -> pa.RecordBatchReader:
        namespaces = [item.namespace for item in self.inputs]
        seen = self.glimpse.seen_fields if looks_at_fields(columns) else None
        query = rollouts_query(columns, self.style, self.lookup, namespaces, only=self._only, tolerant=tolerant, seen=seen)
        return streamed(self._database, lines, query, self._batch_rows())

    def _batch_rows(self) -> int:
        """Rows of a batch: about 32 MB of lines."""
        size = _BATCH_BYTES if self._memory is None else min(_BATCH_BYTES, self._memory // 64)
        return int(min(max(size / self.glimpse.bytes_per_rollout, 16), 20_000))

    def _without_bad_lines(self, frame: pl.DataFrame, columns: list[str], account: Account) -> pl.DataFrame:
        return without_bad_lines(frame, self._paths, account, lambda lines: self._streamed(lines, columns))


def _reaches(min_reward: float) -> str:
    """SQL for rollouts whose reward is at least `min_reward`. Those without a finite one are left to the rules."""
    reward = "to_number(x.reward::VARCHAR)"
    return f"coalesce({reward} >= {float(min_reward)!r} OR NOT isfinite({reward}), true)"


def _frame(batch: pa.RecordBatch) -> pl.DataFrame:
    frame = pl.from_arrow(batch)
    assert isinstance(frame, pl.DataFrame)
    return frame
