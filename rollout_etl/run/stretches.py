"""Pairs in stretches of limited size, and the rollouts that each stretch needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np
import polars as pl


def rows_of(pairs: pl.DataFrame) -> np.ndarray:
    """Rows of the rollouts of `pairs`, sorted, each once."""
    return pl.concat([pairs["chosen_row"], pairs["rejected_row"]]).unique().sort().to_numpy()


def as_they_come(parts: Iterable[pl.DataFrame], frames: Iterable[pl.DataFrame]) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Each of `parts` (pairs) with its rollouts from `frames`, in the order of their column `row`, as soon as they have arrived."""
    waiting = [(part, rows_of(part)) for part in parts]
    # A frame can be freed when no waiting part needs its rows.
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
    """Positions of `rows` in `there`, both sorted. If rows are missing because the input changed, the reader reports it."""
    places = np.searchsorted(there, rows)
    places = places[places < len(there)]
    return np.asarray(places[there[places] == rows[: len(places)]])


def stretches(examples: pl.DataFrame, sizes: pl.Series, limit: int) -> Iterator[pl.DataFrame]:
    """`examples` in stretches of about `limit` bytes, with at least one example each."""
    for start, end in pairwise(stretch_bounds(sizes, limit)):
        yield examples[start:end]


def stretch_bounds(sizes: pl.Series, limit: int) -> list[int]:
    """Where stretches of about `limit` bytes begin, and where the last one ends."""
    ends = np.cumsum(sizes.to_numpy(), dtype=np.int64) - 1
    return [*np.unique(ends // limit, return_index=True)[1].tolist(), len(sizes)] if len(sizes) else []
