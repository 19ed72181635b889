"""Cutting a stream of rows by size, at the same rows whatever frames they arrive in."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl


class Cuts:
    """Cuts rows into stretches of at most `limit` bytes, and `rows` rows; a longer row forms a stretch of its own."""

    def __init__(self, limit: int, rows: int | None = None) -> None:
        self._limit, self._rows = limit, rows
        self._bytes = self._count = 0

    def pieces(self, sizes: pl.Series) -> Iterator[tuple[int, int, bool]]:
        """Start and length of pieces of the next rows, whose bytes are `sizes`, and whether a stretch begins with them."""
        ends = sizes.cast(pl.Int64).cum_sum().to_numpy()
        start, before = 0, 0
        while start < len(ends):
            fits = int(ends.searchsorted(before + self._limit - self._bytes, side="right"))
            if self._rows is not None:
                fits = min(fits, start + self._rows - self._count)
            begins = self._count == 0
            if fits <= start and not begins:
                self._bytes = self._count = 0
                continue
            stop = max(fits, start + 1)
            yield start, stop - start, begins
            self._count += stop - start
            self._bytes += int(ends[stop - 1]) - before
            start, before = stop, int(ends[stop - 1])
