"""Pairs in stretches, each with its rollouts as soon as they were read."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout_etl.run.stretches import as_they_come, rows_of, stretches


def pairs_of(rows: list[tuple[int, int]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"chosen_row": pl.Int64, "rejected_row": pl.Int64}, orient="row")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=40), st.integers(1, 60), st.data())
def test_each_stretch_has_its_rollouts(rows: list[tuple[int, int]], limit: int, data: st.DataObject) -> None:
    pairs = pairs_of(rows)
    sizes = pl.Series(data.draw(st.lists(st.integers(1, 30), min_size=len(rows), max_size=len(rows))), dtype=pl.UInt32)
    said = pl.DataFrame({"row": rows_of(pairs)}, schema={"row": pl.Int64}).with_columns(text=pl.format("said {}", "row"))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(said)), max_size=5)))
    frames = [said[start:end] for start, end in zip([0, *cuts], [*cuts, len(said)], strict=True)]
    found = list(as_they_come(stretches(pairs, sizes, limit), frames))
    assert [pair for part, _ in found for pair in part.rows()] == rows
    for part, table in found:
        assert table.equals(said.filter(pl.col("row").is_in(rows_of(part).tolist())))


def test_a_stretch_goes_out_before_everything_is_read() -> None:
    pairs = pairs_of([(0, 1), (3, 2), (4, 5)])
    read: list[int] = []

    def frames() -> Iterator[pl.DataFrame]:
        for row in (0, 2, 4):
            read.append(row)
            yield pl.DataFrame({"row": [row, row + 1]})

    held = []
    for part, table in as_they_come([pairs[:1], pairs[1:2], pairs[2:]], frames()):
        assert part["chosen_row"][0] in table["row"]
        held.append(list(read))
    assert held == [[0], [0, 2], [0, 2, 4]]


def test_rollouts_that_are_gone_are_left_out() -> None:
    pairs = pairs_of([(0, 1), (2, 3)])
    found = list(as_they_come([pairs[:1], pairs[1:]], [pl.DataFrame({"row": [0, 1]}), pl.DataFrame({"row": [2]}), pl.DataFrame({"row": [4]})]))
    assert [table["row"].to_list() for _, table in found] == [[0, 1], [2]]
