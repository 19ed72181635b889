"""From files to Arrow batches of lines. Nothing is parsed here: a line is whatever stands between two newline bytes."""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from rollout_etl.errors import UnreadableError
from rollout_etl.read import containers
from rollout_etl.read.blocks import BLOCK_BYTES, blank_lines, blocks, offsets_of
from rollout_etl.read.inputs import Input
from rollout_etl.read.stored import lines_of

SCHEMA = pa.schema([("row", pa.int64()), ("source", pa.int32()), ("line", pa.int64()), ("text", pa.string())])
_OFFSET_BYTES = 4
_Noted = Callable[[np.ndarray, np.ndarray], None]


class Notes(Protocol):
    """What a pass over whole files is asked to write down."""

    def block(self, source: int, offsets: np.ndarray, blank: np.ndarray) -> None:
        """Where the lines of a block of a plain file begin, blank ones too, and its end; and which lines are blank."""

    def end(self, row: int) -> None:
        """A file has ended before that row."""


def line_batches(
    inputs: Sequence[Input], rows: np.ndarray | None = None, first_row: int = 0, told: Callable[[int], None] = lambda size: None,
    notes: Notes | None = None,
) -> Iterator[pa.RecordBatch]:
    """Batches of `SCHEMA` for all lines that are not blank, in the order of the files; with `rows` (sorted), only those;
    with `first_row`, only rows from there on. `told` is called with the bytes of each block that was looked at.

    `row` counts lines that are not blank across the files, `line` counts all lines of a file from 1. Raises
    `UnreadableError` for files that cannot be opened or decompressed.
    """
    return together(_line_batches(inputs, None if rows is None else rows[np.searchsorted(rows, first_row) :], first_row, told, notes))


def together(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows in larger batches: small ones are slow to work on."""
    waiting: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        waiting.append(batch)
        size += batch.nbytes
        if size >= BLOCK_BYTES // 2:
            yield pa.concat_batches(waiting) if len(waiting) > 1 else batch
            waiting, size = [], 0
    if waiting:
        yield pa.concat_batches(waiting)


def _line_batches(
    inputs: Sequence[Input], rows: np.ndarray | None, first_row: int, told: Callable[[int], None], notes: Notes | None
) -> Iterator[pa.RecordBatch]:
    row = 0
    for source, item in enumerate(inputs):
        try:
            for numbers, texts in _texts(item, source, notes):
                batch = _selected(row, source, numbers, texts, rows, first_row)
                row += len(texts)
                told(texts.nbytes - _OFFSET_BYTES * (len(texts) + 1))
                if batch.num_rows:
                    yield batch
        except (OSError, EOFError, pa.ArrowInvalid, gzip.BadGzipFile) as error:
            raise UnreadableError(f"cannot read {item.path}: {_reason(error)}") from error
        if notes is not None:
            notes.end(row)


def _reason(error: BaseException) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]


def _selected(row: int, source: int, numbers: np.ndarray, texts: pa.StringArray, rows: np.ndarray | None, first_row: int) -> pa.RecordBatch:
    ids = np.arange(row, row + len(texts), dtype=np.int64)
    if rows is not None or row < first_row:
        if rows is None:
            picked = np.arange(min(first_row - row, len(texts)), len(texts))
        else:
            low, high = np.searchsorted(rows, (row, row + len(texts)))
            picked = rows[low:high] - row
        ids, numbers, texts = ids[picked], numbers[picked], texts.take(integers(picked))
    sources = np.full(len(ids), source, dtype=np.int32)
    return pa.RecordBatch.from_arrays([integers(ids), integers(sources), integers(numbers), texts], schema=SCHEMA)


def integers(values: np.ndarray) -> pa.Array:
    """Integers as Arrow sees them in place. `pa.array` would import pandas first, where it is installed."""
    values = np.ascontiguousarray(values)
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(values)])


def _texts(item: Input, source: int, notes: Notes | None) -> Iterator[tuple[np.ndarray, pa.StringArray]]:
    """Line numbers and texts of one file, block by block."""
    if item.stored is not None:
        return lines_of(item.stored, item.number)
    if item.suffix in (".json", ".parquet"):
        return containers.rows_of(item)
    if not item.is_remote:
        file = io.FileIO(item.path) if item.end is None else Section(item.path, item.start, item.end)
        return _stored_lines(item, file, partial(notes.block, source) if notes is not None and item.is_plain else None)
    # Imported here, because it takes a tenth of a second.
    from rollout_etl.read import remote

    body = remote.opened(item.path)
    return remote.lines(item.path) if body is None else _stored_lines(item, body)


def _stored_lines(item: Input, file: Any, noted: _Noted | None = None) -> Iterator[tuple[np.ndarray, pa.StringArray]]:
    # Not every decompressor closes the file below it.
    with file, _decompressed(item, file) as stream:
        yield from _lines_of(blocks(stream), noted)


class Section(io.FileIO):
    """The bytes of a file from `start` up to `end`."""

    def __init__(self, path: str, start: int, end: int) -> None:
        super().__init__(path)
        self._left = end - start
        self.seek(start)

    def readinto(self, buffer: Any, /) -> int:
        count = super().readinto(memoryview(buffer)[: self._left]) if self._left else 0
        self._left -= count
        return count


def line_starts(item: Input) -> np.ndarray:
    """Where each line of a plain file begins, blank ones too, and where the last one ends: bytes, Int64. `UnreadableError` as for lines."""
    try:
        end = os.path.getsize(item.path) if item.end is None else item.end
        starts = [np.array([item.start], dtype=np.int64)]
        with Section(item.path, item.start, end) as file:
            for block in blocks(file):
                starts.append(starts[-1][-1] + offsets_of(block)[1:].astype(np.int64))
    except OSError as error:
        raise UnreadableError(f"cannot read {item.path}: {_reason(error)}") from error
    return np.concatenate(starts)


def _decompressed(item: Input, file: Any) -> Any:
    if item.suffix.endswith(".gz"):
        return gzip.open(file, "rb")
    if item.suffix.endswith(".zst"):
        return pa.CompressedInputStream(file, "zstd")
    return file


def _lines_of(found: Iterable[np.ndarray], noted: _Noted | None) -> Iterator[tuple[np.ndarray, pa.StringArray]]:
    first = 1
    for block in found:
        offsets = offsets_of(block)
        count = len(offsets) - 1
        texts = pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(block))
        numbers = np.arange(first, first + count, dtype=np.int64)
        first += count
        blank = blank_lines(block, offsets)
        if noted is not None:
            noted(offsets, blank)
        if len(blank):
            kept = np.setdiff1d(np.arange(count), blank)
            numbers, texts = numbers[kept], texts.take(integers(kept))
        yield numbers, texts
