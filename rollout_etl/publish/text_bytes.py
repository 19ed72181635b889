"""The bytes of texts, for writing them straight from memory."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa

_INLINE = 12
"""Arrow keeps texts of up to this many bytes inside their views."""
_PIECE_ROWS = 64
"""Smallest number of adjacent texts; for fewer, a copy is cheaper."""


def bytes_of(texts: pl.Series) -> list[memoryview]:
    """The bytes of all texts, none of them null, one after another: pieces of Polars' memory if possible, otherwise a copy."""
    arrow = texts.rechunk().to_arrow(compat_level=pl.CompatLevel.newest())
    if len(arrow) == 0:
        return []
    _, views, *buffers = arrow.buffers()
    # The layout of a view in Arrow: length, first four bytes, number of the buffer, position in it.
    size, _, buffer, start = np.frombuffer(views, dtype=np.int32).reshape(-1, 4)[arrow.offset : arrow.offset + len(arrow)].T
    ends = start.astype(np.int64) + size
    firsts = np.append(0, np.flatnonzero((buffer[1:] != buffer[:-1]) | (start[1:] != ends[:-1])) + 1)
    if size.min() <= _INLINE or len(firsts) > len(buffers) + len(arrow) // _PIECE_ROWS:
        return [_copied(texts)]
    lasts = np.append(firsts[1:], len(arrow)) - 1
    return [memoryview(buffers[buffer[first]])[start[first] : ends[last]] for first, last in zip(firsts, lasts, strict=True)]


def _copied(texts: pl.Series) -> memoryview:
    arrow = texts.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    assert isinstance(arrow, pa.LargeStringArray)
    _, offsets, data = arrow.buffers()
    bounds = memoryview(offsets).cast("q")[arrow.offset : arrow.offset + len(arrow) + 1]
    return memoryview(data)[bounds[0] : bounds[-1]]
