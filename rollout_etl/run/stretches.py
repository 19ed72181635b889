"""Pairs in stretches of some bytes, and the rollouts that each stretch needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np
import polars as pl


def rows_of(pairs: pl.DataFrame) -> np.ndarray:
    """Rows of the rollouts of `pairs`, sorted, each once."""
    return pl.concat([pairs["chosen_row"], pairs["rejected_row"]]).unique().sort().to_numpy()


def as_they_come(parts: Iterable[pl.DataFrame], frames: Iterable[pl.DataFrame]) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Each of `parts` (pairs) with its rollouts out of `frames`, in the order of their column `row`, as soon as they are there."""
    waiting = [(part, rows_of(part)) for part in parts]
    # A frame can go when nothing that still waits needs its rows.
    firsts = np.minimum.accumulate([rows[0] for _, rows in waiting][::-1])[::-1]
    held: list[pl.DataFrame] = []
    done = 0
    for frame in frames:
        if done == len(waiting) or frame.is_empty():
            continue
        held.append(frame)
        if waiting[done][1][-1] > frame["row"][-1]:
            continue
        table = pl.concat(held)
        there = table["row"].to_numpy()
        while done < len(waiting) and waiting[done][1][-1] <= there[-1]:
            part, rows = waiting[done]
            yield part, table[_places(there, rows)]
            done += 1
        held = [frame for frame in held if done < len(waiting) and frame["row"][-1] >= firsts[done]]


def _places(there: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Where `rows` stand in `there`, both sorted. What is missing, as the input has changed, is told by whoever reads it."""
    places = np.searchsorted(there, rows)
    places = places[places < len(there)]
    return np.asarray(places[there[places] == rows[: len(places)]])


def stretches(examples: pl.DataFrame, sizes: pl.Series, limit: int) -> Iterator[pl.DataFrame]:
    """`examples` in stretches of some `limit` bytes, one example at least."""
    for start, end in pairwise(stretch_bounds(sizes, limit)):
        yield examples[start:end]


def stretch_bounds(sizes: pl.Series, limit: int) -> list[int]:
    """Where stretches of some `limit` bytes begin, and where the last ends."""
    ends = np.cumsum(sizes.to_numpy(), dtype=np.int64) - 1
    return [*np.unique(ends // limit, return_index=True)[1].tolist(), len(sizes)] if len(sizes) else []
