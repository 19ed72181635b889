"""Lines by their places in a file: what lies between is not read."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from rollout_etl.errors import UnreadableError
from rollout_etl.read.lines import BLOCK_BYTES, SCHEMA, integers

_NEAR = 1 << 16
"""Bytes between two lines that are rather read than skipped."""


def lines_at(path: str, source: int, rows: np.ndarray, lines: np.ndarray, starts: np.ndarray, sizes: np.ndarray) -> Iterator[pa.RecordBatch]:
    """Batches of `rollout_etl.read.lines.SCHEMA` for lines of a plain file: parallel arrays of Int64, in the order of the file.

    `rows` and `lines` are the numbers that they go by, `starts` and `sizes` are in bytes. Raises `UnreadableError`.
    """
    ends = starts + sizes
    # A batch ends where its bytes are enough; a run of lines in it, where the next one is far away.
    batches = np.cumsum(sizes) // BLOCK_BYTES
    try:
        with open(path, "rb", buffering=0) as file:
            for batch in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(batches)) + 1):
                if len(batch):
                    texts = _texts(file.fileno(), starts[batch], ends[batch])
                    sources = np.full(len(batch), source, dtype=np.int32)
                    yield pa.RecordBatch.from_arrays([integers(rows[batch]), integers(sources), integers(lines[batch]), texts], schema=SCHEMA)
    except OSError as error:
        raise UnreadableError(f"cannot read {path}: {error.strerror or error}") from error


def _texts(file: int, starts: np.ndarray, ends: np.ndarray) -> pa.StringArray:
    cuts = np.flatnonzero(starts[1:] - ends[:-1] > _NEAR) + 1
    runs = np.split(np.arange(len(starts)), cuts)
    sizes = [int(ends[run[-1]] - starts[run[0]]) for run in runs]
    pieces = [os.pread(file, size, int(starts[run[0]])) for run, size in zip(runs, sizes, strict=True)]
    if [len(piece) for piece in pieces] != sizes:
        raise OSError("it is shorter than it was")
    # Where each run begins in the bytes that were read; lines and what lies between them take turns.
    shifts = np.repeat(np.cumsum([0, *sizes[:-1]]) - starts[[run[0] for run in runs]], [len(run) for run in runs])
    bounds = np.stack([starts + shifts, ends + shifts], axis=1).ravel().astype(np.int32)
    both = pa.StringArray.from_buffers(len(bounds) - 1, pa.py_buffer(bounds), pa.py_buffer(b"".join(pieces)))
    return both.take(integers(np.arange(0, len(bounds), 2, dtype=np.int64)))
