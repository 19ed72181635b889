"""Rollouts whose narrow columns come from the store; lines are read only if they are new, or for their messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from rollout_etl.errors import UnreadableError
from rollout_etl.read.canonical import Lookup, Style
from rollout_etl.read.inputs import Input
from rollout_etl.read.places import Places, batches_at
from rollout_etl.read.quarantine import Account, BadLine
from rollout_etl.read.scan import Paths, Rollouts
from rollout_etl.refresh.fingerprints import Fingerprints
from rollout_etl.refresh.reading import SegmentReader
from rollout_etl.refresh.segments import Segment, chain_of, origin_of
from rollout_etl.refresh.store import COLUMNS, Store

_PLACES = ("row", "source", "line")
_CHUNK = 250_000
"""Rows of the store that are sorted at a time."""


class Held:
    """The segments of a set of inputs, in their order, and their rows in the store."""

    def __init__(self, store: Store, chains: Sequence[Sequence[Segment]], paths: Sequence[str]) -> None:
        self.store, self.paths = store, list(paths)
        self.bounds = np.cumsum([0, *(sum(of.rows for of in chain) for chain in chains)])
        """Row number of the first line of each input, and of the end."""
        rows, described = 0, []
        for number, chain in enumerate(chains):
            lines = 0
            for of in chain:
                described.append((of.number, number, rows - of.first, rows, lines, int(of.origin[:15], 16)))
                rows, lines = rows + of.rows, lines + of.lines
        names = ("segment", "input", "shift", "from", "lines_before", "origin")
        self._segments = pl.DataFrame(described, schema=dict.fromkeys(names, pl.Int64), orient="row")

    def rows(self, columns: Sequence[str], of: pl.Expr | None = None) -> Iterator[pl.DataFrame]:
        """`columns` of the store, with `row` and `line` counted as in a scan of the inputs, `source` and `origin` as numbers."""
        asked = list(dict.fromkeys(["segment", "row", *(name for name in columns if name not in ("source", "origin"))]))
        for part in self._segments.with_columns(chunk=pl.col("from") // _CHUNK).partition_by("chunk", maintain_order=True):
            numbers = part["segment"]
            wanted = pl.col("segment").is_between(numbers.min(), numbers.max()) & pl.col("segment").is_in(numbers.implode()) & pl.col("row").is_not_null()
            # Removed segments may be between the others.
            kept = self.store.collected(self.store.scan().filter(wanted if of is None else wanted & of).select(asked))
            placed = kept.join(part, on="segment").with_columns(pl.col("row") + pl.col("shift"), pl.col("input").alias("source"))
            placed = placed.with_columns(pl.col("line") + pl.col("lines_before")) if "line" in asked else placed
            yield placed.sort("row").select(columns)

    @cached_property
    def account(self) -> Account:
        """What happened to each line."""
        account = Account(read=int(self.bounds[-1]))
        for frame in self.rows(("row", "source", "line", "reason", "bad_text"), pl.col("reason").is_not_null()):
            account.quarantined += [BadLine(self.paths[source], line, reason, text, row, source) for row, source, line, reason, text in frame.iter_rows()]
        for frame in self.rows(("row", "repaired"), pl.col("repaired").is_not_null()):
            account.repairs += [(row, tuple(damage)) for row, damage in frame.iter_rows()]
        account.rollouts = account.read - len(account.quarantined)
        return account

    def found(self, paths: Sequence[str]) -> dict[str, int]:
        """In how many rollouts each field that the user named has a value."""
        if not paths:
            return {}
        holds = [pl.col("found").list.get(number, null_on_oob=True).sum().alias(path) for number, path in enumerate(paths)]
        return pl.concat([frame.select(holds) for frame in self.rows(("row", "found"))]).sum().row(0, named=True) if len(self._segments) else {}

    @cached_property
    def places(self) -> pl.DataFrame:
        """`line`, `start` and `size` of every row, by its number."""
        empty = pl.DataFrame(schema=dict.fromkeys(("line", "start", "size"), pl.Int64))
        return pl.concat([empty, *self.rows(("line", "start", "size"))], rechunk=True)


class StoredRollouts(Rollouts):
    """The rollouts of inputs whose segments are all in the store."""

    def __init__(self, paths: Paths, *, style: Style, lookup: Lookup, task_inputs: str | None, threads: int | None, memory: int | None, held: Held) -> None:
        super().__init__(paths, style=style, lookup=lookup, task_inputs=task_inputs, threads=threads, memory=memory)
        self._held, self._tasks = held, task_inputs

    def holds(self, columns: Iterable[str]) -> bool:
        """Whether these columns are in the store."""
        return set(columns) <= {*COLUMNS, *_PLACES, "origin"}

    def over(self, inputs: Sequence[Input]) -> Rollouts:
        """A reader of the lines of some of the inputs, or of ranges of them."""
        # The store has no information about ranges.
        plain = Rollouts((), style=self.style, lookup=self.lookup, task_inputs=self._tasks, threads=self._threads, memory=self._memory, inputs=self.inputs)
        return plain.over(inputs)

    def batches(self, columns: Sequence[str], rows: np.ndarray | None = None, min_reward: float | None = None) -> Iterator[pl.DataFrame]:
        """See `Rollouts.batches`: from the store if it has all the columns, otherwise from the lines."""
        if not self.holds(columns):
            yield from super().batches(columns, rows, min_reward)
            return
        for frame in self._held.rows(list(dict.fromkeys([*columns, "row"])), pl.col("reason").is_null()):
            if rows is not None:
                numbers = frame["row"].to_numpy()
                frame = frame[np.flatnonzero(np.isin(numbers, rows, assume_unique=True))]
            if "source" in columns:
                frame = frame.with_columns(pl.col("source").replace_strict(dict(enumerate(self._held.paths)), return_dtype=pl.String))
            if len(frame):
                yield frame.select(columns)
        if rows is None:
            self.account = self._held.account
            self.account.found.clear()
            self.account.found.update(self._held.found(self.lookup.paths))

    def _lines(self, rows: np.ndarray | None, first_row: int, told: Callable[[int], None]) -> Iterator[pa.RecordBatch]:
        if rows is None:
            yield from super()._lines(rows, first_row, told)
            return
        yield from batches_at(self.inputs, self._held.bounds.tolist(), self._places_of, rows[np.searchsorted(rows, first_row) :], told)

    def _places_of(self, source: int, rows: np.ndarray) -> Places:
        places = self._held.places[rows]
        line, start, size = (places[name].to_numpy() for name in ("line", "start", "size"))
        return line, start, size


class Kept:
    """The stored rollouts of earlier refreshes."""

    def __init__(self, folder: Path, fingerprints: Fingerprints, scratch: Path | None = None) -> None:
        self._store, self._fingerprints = Store(folder, scratch), fingerprints
        self._held: dict[tuple[str, ...], Held] = {}
        self._segments = self._store.segments()
        self._used: set[int] = set()

    def rollouts(
        self, paths: Paths, *, style: Style | None = None, lookup: Lookup | None = None, task_inputs: str | None = None, threads: int | None = None,
        memory: int | None = None,
    ) -> Rollouts:
        """Like `Rollouts`; segments that are not in the store are read into it. Remote files are not stored, so they are read as usual."""
        plain = Rollouts(paths, style=style, lookup=lookup, task_inputs=task_inputs, threads=threads, memory=memory)
        if any(item.is_remote for item in (*plain.inputs, *plain.task_inputs)):
            return plain
        origins = [origin_of(item, plain.style, plain.lookup, task_inputs, self._fingerprints) for item in plain.inputs]
        key = tuple(origin for origin in origins)
        if key not in self._held:
            self._held[key] = self._hold(plain, origins, task_inputs, threads)
        held = self._held[key]
        return StoredRollouts(paths, style=plain.style, lookup=plain.lookup, task_inputs=task_inputs, threads=threads, memory=memory, held=held)

    def _hold(self, like: Rollouts, origins: Sequence[str], task_inputs: str | None, threads: int | None) -> Held:
        def chains() -> list[list[Segment]]:
            return [chain_of(item, origin, self._segments, self._fingerprints) for item, origin in zip(like.inputs, origins, strict=True)]

        found = chains()
        new = [(item, of) for item, chain in zip(like.inputs, found, strict=True) for of in chain if of.number < 0]
        if new:
            number = max((of.number for of in self._segments), default=-1) + 1
            self._store.append(self._checked(SegmentReader(new, like, task_inputs, threads, number)))
            self._segments = self._store.segments()
            # A segment without any line has no rows, and nothing to store.
            found = [[of for of in chain if of.number >= 0] for chain in chains()]
        self._used |= {of.number for chain in found for of in chain}
        return Held(self._store, found, [item.path for item in like.inputs])

    def _checked(self, reader: SegmentReader) -> Iterator[pl.DataFrame]:
        yield from reader.rows()
        # The rows stored for a digest must stay valid.
        if moved := self._fingerprints.changed():
            raise UnreadableError(f"{moved[0]} changed while it was being read; nothing was published, refresh again")

    def tidy(self) -> None:
        """Remove segments from the store that no input has any more."""
        self._store.remove(sorted({of.number for of in self._segments} - self._used))
