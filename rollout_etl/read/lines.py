"""Files to Arrow batches of lines. Text is not parsed here: a line is whatever stands between two newline bytes."""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from rollout_etl.errors import UnreadableError
from rollout_etl.read import containers
from rollout_etl.read.inputs import Input
from rollout_etl.read.stored import lines_of

SCHEMA = pa.schema([("row", pa.int64()), ("source", pa.int32()), ("line", pa.int64()), ("text", pa.string())])
BLOCK_BYTES = 1 << 21
"""Small enough to stay in the processor's cache, large enough that Python's share is small."""
_LONGEST_LINE = (1 << 31) - 1
_OFFSET_BYTES = 4


class _Stream(Protocol):
    def readinto(self, buffer: memoryview, /) -> int | None: ...


def line_batches(
    inputs: Sequence[Input], rows: np.ndarray | None = None, first_row: int = 0, told: Callable[[int], None] = lambda size: None
) -> Iterator[pa.RecordBatch]:
    """Batches of `SCHEMA` for all lines that are not blank, in the order of the files; with `rows` (sorted), only those;
    with `first_row`, only rows from there on. `told` is called with the bytes of each block that was looked at.

    `row` counts lines that are not blank across the files, `line` counts all lines of a file from 1. Raises
    `UnreadableError` for files that cannot be opened or decompressed.
    """
    row = size = 0
    rows = None if rows is None else rows[np.searchsorted(rows, first_row) :]
    waiting: list[pa.RecordBatch] = []
    for source, item in enumerate(inputs):
        try:
            for numbers, texts in _texts(item):
                batch = _selected(row, source, numbers, texts, rows, first_row)
                row += len(texts)
                told(texts.nbytes - _OFFSET_BYTES * (len(texts) + 1))
                if batch.num_rows:
                    waiting.append(batch)
                    size += batch.nbytes
                # A few lines at a time are slow to work on: small batches go together.
                if size >= BLOCK_BYTES // 2:
                    yield pa.concat_batches(waiting) if len(waiting) > 1 else batch
                    waiting, size = [], 0
        except (OSError, EOFError, pa.ArrowInvalid, gzip.BadGzipFile) as error:
            raise UnreadableError(f"cannot read {item.path}: {_reason(error)}") from error
    if waiting:
        yield pa.concat_batches(waiting)


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


def _texts(item: Input) -> Iterator[tuple[np.ndarray, pa.StringArray]]:
    """Line numbers and texts of one file, block by block."""
    if item.stored is not None:
        return lines_of(item.stored, item.number)
    if item.suffix in (".json", ".parquet"):
        return containers.rows_of(item)
    if not item.is_remote:
        return _stored_lines(item, io.FileIO(item.path) if item.end is None else Section(item.path, item.start, item.end))
    # With it comes all that a network needs, which takes a tenth of a second where little is read.
    from rollout_etl.read import remote

    body = remote.opened(item.path)
    return remote.lines(item.path) if body is None else _stored_lines(item, body)


def _stored_lines(item: Input, file: Any) -> Iterator[tuple[np.ndarray, pa.StringArray]]:
    # Not every decompressor closes the file below it.
    with file, _decompressed(item, file) as stream:
        yield from _lines_of(_blocks(stream))


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
            for block in _blocks(file):
                starts.append(starts[-1][-1] + _offsets(block)[1:].astype(np.int64))
    except OSError as error:
        raise UnreadableError(f"cannot read {item.path}: {_reason(error)}") from error
    return np.concatenate(starts)


def _decompressed(item: Input, file: Any) -> Any:
    if item.suffix.endswith(".gz"):
        return gzip.open(file, "rb")
    if item.suffix.endswith(".zst"):
        return pa.CompressedInputStream(file, "zstd")
    return file


def _blocks(stream: _Stream) -> Iterator[np.ndarray]:
    """Blocks of whole lines; only the last may lack its newline."""
    carry = np.empty(0, dtype=np.uint8)
    size = BLOCK_BYTES
    while True:
        block = np.empty(len(carry) + size, dtype=np.uint8)
        block[: len(carry)] = carry
        view, filled = block.data, len(carry)
        while filled < len(block) and (count := stream.readinto(view[filled:])):
            filled += count
        if filled < len(block):
            if filled:
                yield block[:filled]
            return
        cut = _last_newline(block, len(carry)) + 1
        if cut:
            yield block[:cut]
            carry, size = block[cut:], BLOCK_BYTES
        else:
            carry, size = block, min(size * 2, 1 << 28)
            if len(carry) > _LONGEST_LINE:
                raise OSError("a line is longer than 2 GB")


def _last_newline(block: np.ndarray, start: int) -> int:
    """Position of the last newline at or after `start`, -1 without one. Looked for from the end: lines are shorter than blocks."""
    end, step = len(block), 1 << 14
    while end > start:
        low = max(start, end - step)
        found = np.flatnonzero(block[low:end] == 10)
        if len(found):
            return low + int(found[-1])
        end, step = low, step * 4
    return -1


def _newlines(block: np.ndarray) -> np.ndarray:
    """Positions of all newlines, in pieces that stay in the cache."""
    piece = 1 << 18
    return np.concatenate([np.flatnonzero(block[low : low + piece] == 10) + low for low in range(0, len(block), piece)])


def _lines_of(blocks: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, pa.StringArray]]:
    first = 1
    for block in blocks:
        offsets = _offsets(block)
        count = len(offsets) - 1
        texts = pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(block))
        numbers = np.arange(first, first + count, dtype=np.int64)
        first += count
        blank = _blank(block, offsets)
        if len(blank):
            kept = np.setdiff1d(np.arange(count), blank)
            numbers, texts = numbers[kept], texts.take(integers(kept))
        yield numbers, texts


def _offsets(block: np.ndarray) -> np.ndarray:
    """Where the lines of a block begin, and its end."""
    ends = _newlines(block) + 1
    if len(ends) == 0 or ends[-1] != len(block):
        ends = np.append(ends, len(block))
    offsets = np.zeros(len(ends) + 1, dtype=np.int32)
    offsets[1:] = ends
    return offsets


def _blank(block: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Positions of lines that hold nothing but white space. Few lines start with white space, so few are looked at."""
    starts = block[offsets[:-1]]
    suspects = np.flatnonzero((starts == 10) | (starts == 13) | (starts == 32) | (starts == 9))
    blank = [i for i in suspects if not block[offsets[i] : offsets[i + 1]].tobytes().strip(b" \t\r\n")]
    return np.array(blank, dtype=np.int64)
