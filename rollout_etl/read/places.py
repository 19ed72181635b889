"""Reading lines at known places of a file, without what lies between them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

import numpy as np
import pyarrow as pa

from rollout_etl.errors import UnreadableError
from rollout_etl.read.blocks import BLOCK_BYTES
from rollout_etl.read.inputs import Input
from rollout_etl.read.lines import SCHEMA, integers, line_batches, together

_NEAR = 1 << 16
"""Up to so many bytes between two lines are read, because skipping them takes longer."""
Places = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Line numbers from 1, and where the lines begin and how long they are in bytes: parallel arrays of Int64."""


class NotedPlaces:
    """Where the rows of plain files stand, as a pass over all of them noted it (see `rollout_etl.read.lines.Notes`)."""

    def __init__(self, inputs: Sequence[Input]) -> None:
        self.bounds = [0]
        """The first row of each file, and the end."""
        self._layouts = [_Layout(item.start) for item in inputs]

    def block(self, source: int, offsets: np.ndarray, blank: np.ndarray) -> None:
        self._layouts[source].offsets.append(offsets)
        self._layouts[source].blank.append(blank)

    def end(self, row: int) -> None:
        self.bounds.append(row)

    def of(self, source: int, rows: np.ndarray) -> Places:
        """Places of rows of a plain file."""
        layout = self._layouts[source]
        lines = layout.lines(rows - self.bounds[source])
        return lines + 1, layout.starts[lines], layout.starts[lines + 1] - layout.starts[lines]


class _Layout:
    """Where the lines of one file stand, block by block."""

    def __init__(self, begin: int) -> None:
        self.offsets: list[np.ndarray] = []
        self.blank: list[np.ndarray] = []
        self._begin = begin

    @cached_property
    def starts(self) -> np.ndarray:
        """Where each line begins, blank ones too, and where the last one ends."""
        bounds = np.cumsum([self._begin, *(int(offsets[-1]) for offsets in self.offsets)], dtype=np.int64)
        return np.concatenate([*(offsets[:-1] + begin for offsets, begin in zip(self.offsets, bounds[:-1], strict=True)), bounds[-1:]])

    def lines(self, rows: np.ndarray) -> np.ndarray:
        """Which lines the rows are, counted from 0."""
        return rows if self._filled is None else self._filled[rows]

    @cached_property
    def _filled(self) -> np.ndarray | None:
        """Lines that are not blank; None for all."""
        if not any(len(blank) for blank in self.blank):
            return None
        firsts = np.cumsum([0, *(len(offsets) - 1 for offsets in self.offsets)])
        blank = np.concatenate([blank + first for blank, first in zip(self.blank, firsts[:-1], strict=True)])
        return np.delete(np.arange(len(self.starts) - 1), blank)


def batches_at(
    inputs: Sequence[Input], bounds: Sequence[int], places: Callable[[int, np.ndarray], Places], rows: np.ndarray, told: Callable[[int], None]
) -> Iterator[pa.RecordBatch]:
    """As `line_batches` for `rows` (sorted). Plain files are read where the rows stand.

    `bounds` are the first row of each input, and the end; `places` gives the places of rows of an input. `told` is called with the bytes
    that are passed, read or not. Raises `UnreadableError`.
    """
    return together(_batches_at(inputs, bounds, places, rows, told))


def _batches_at(
    inputs: Sequence[Input], bounds: Sequence[int], places: Callable[[int, np.ndarray], Places], rows: np.ndarray, told: Callable[[int], None]
) -> Iterator[pa.RecordBatch]:
    for source, item in enumerate(inputs):
        begin, end = bounds[source : source + 2]
        wanted = rows[slice(*np.searchsorted(rows, (begin, end)))]
        if len(wanted) and item.is_plain:
            lines, starts, sizes = places(source, wanted)
            yield from _lines_at(item.path, source, wanted, lines, starts, starts + sizes, told)
        elif len(wanted):
            for batch in line_batches([item], wanted - begin, told=told):
                columns = [integers(batch.column(0).to_numpy() + begin), integers(np.full(len(batch), source, dtype=np.int32)), *batch.columns[2:]]
                yield pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def _lines_at(
    path: str, source: int, rows: np.ndarray, lines: np.ndarray, starts: np.ndarray, ends: np.ndarray, told: Callable[[int], None]
) -> Iterator[pa.RecordBatch]:
    """Batches of `rollout_etl.read.lines.SCHEMA` for the lines of a file that stand from `starts` to `ends` and go by the numbers `rows` and `lines`."""
    gaps = np.append(0, starts[1:] - ends[:-1])
    is_far = gaps > _NEAR
    skipped = np.where(is_far, gaps, 0)
    # A batch ends where the bytes to read are enough.
    batches = np.cumsum(ends - starts + gaps - skipped) // BLOCK_BYTES
    room, passed = np.empty(0, dtype=np.uint8), int(starts[0])
    try:
        with open(path, "rb", buffering=0) as file:
            for batch in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(batches)) + 1):
                # Where lines stand in memory: what is skipped takes no room.
                shifts = starts[batch[0]] + np.cumsum(skipped[batch]) - skipped[batch[0]]
                begins, stops = starts[batch] - shifts, ends[batch] - shifts
                size = int(stops[-1])
                # Texts are copied out of what is read, so that the same memory serves for all of it.
                room = room if size <= len(room) else np.empty(max(size, BLOCK_BYTES), dtype=np.uint8)
                for run in np.split(np.arange(len(batch)), np.flatnonzero(is_far[batch[1:]]) + 1):
                    _read(file.fileno(), int(starts[batch[run[0]]]), room[begins[run[0]] : stops[run[-1]]].data)
                told(int(ends[batch[-1]]) - passed)
                passed = int(ends[batch[-1]])
                sources = np.full(len(batch), source, dtype=np.int32)
                columns = [integers(rows[batch]), integers(sources), integers(lines[batch]), _texts(room, begins, stops)]
                yield pa.RecordBatch.from_arrays(columns, schema=SCHEMA)
    except OSError as error:
        raise UnreadableError(f"cannot read {path}: {error.strerror or error}") from error


def _texts(room: np.ndarray, begins: np.ndarray, stops: np.ndarray) -> pa.StringArray:
    # Every second piece is a line, the others lie between lines.
    bounds = np.stack([begins, stops], axis=1).ravel().astype(np.int32)
    both = pa.StringArray.from_buffers(len(bounds) - 1, pa.py_buffer(bounds), pa.py_buffer(room))
    return both.take(integers(np.arange(0, len(bounds), 2, dtype=np.int64)))


def _read(file: int, start: int, room: memoryview) -> None:
    """Fill `room` with the bytes from `start` on."""
    while room:
        count = os.preadv(file, [room], start)
        if count == 0:
            raise OSError("it is shorter than it was")
        room, start = room[count:], start + count
