"""The input cut into ranges, and files whose rows are put apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout_etl.bounded.ranges import count_lines, cut
from rollout_etl.publish.partitioned import PART, PartitionedFile, PartitionedWriter
from rollout_etl.read.inputs import find_inputs
from rollout_etl.read.lines import line_batches


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from((b"", b" ", b"a", b"longer line", b"x" * 60)), max_size=30), st.integers(1, 100), st.booleans())
def test_ranges_are_all_lines_once(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], size: int, last: bool) -> None:
    folder = tmp_path_factory.mktemp("ranges")
    (folder / "a.jsonl").write_bytes(b"\n".join(lines) + (b"\n" if last else b""))
    (folder / "b.jsonl").write_bytes(b"b\n")
    inputs, _ = find_inputs([folder / "a.jsonl", folder / "b.jsonl"])

    def texts(items: Any) -> list[tuple[str, str]]:
        return [(items[batch.column(1)[at].as_py()].path, batch.column(3)[at].as_py().rstrip("\n")) for batch in line_batches(items) for at in range(len(batch))]

    ranges = cut(inputs, size)
    assert [found for each in ranges for found in texts(each)] == texts(inputs)
    pieces = [each[0] for each in ranges if each[0].end is not None]
    assert [piece.start for piece in pieces[1:]] == [piece.end for piece in pieces[:-1]]
    if pieces:
        assert sum(count_lines(piece) for piece in pieces) == (folder / "a.jsonl").read_bytes().count(b"\n")


def test_small_files_go_together(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number:02}.jsonl").write_text("0123456789\n")
    ranges = cut(find_inputs(tmp_path)[0], 50)
    assert [len(each) for each in ranges] == [5, 5, 5, 5]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(0, 3), st.text(max_size=3) | st.none()), min_size=1), max_size=4))
def test_parts_of_a_file(tmp_path_factory: pytest.TempPathFactory, frames: list[list[tuple[int, str | None]]]) -> None:
    path = tmp_path_factory.mktemp("parts") / "file.parquet"
    with PartitionedWriter(path) as file:
        for rows in frames:
            file.append(pl.DataFrame(rows, schema={PART: pl.Int64, "text": pl.String}, orient="row"))
        assert not path.exists()
        file.finish({"rows": 3})
    found = PartitionedFile(path)
    assert found.facts == {"rows": 3} and list(path.parent.iterdir()) == [path]
    for part in range(4):
        assert [text for frame in found.frames(part) for text in frame["text"]] == [text for rows in frames for at, text in rows if at == part]
