"""Rows that are read where the first pass found them."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout_etl.errors import UnreadableError
from rollout_etl.read import blocks, lines, places
from rollout_etl.read.inputs import Input
from rollout_etl.read.lines import line_batches
from rollout_etl.read.places import NotedPlaces, batches_at

LINE = st.sampled_from((b"", b" ", b"\r", b"a", b"longer line", b"x" * 60, b"y" * 400))


def found(batches: Iterable[pa.RecordBatch]) -> list[dict[str, Any]]:
    return [row for batch in batches for row in batch.to_pylist()]


def noted(inputs: list[Input]) -> tuple[NotedPlaces, list[dict[str, Any]]]:
    notes = NotedPlaces(inputs)
    return notes, found(line_batches(inputs, notes=notes))


@settings(max_examples=150, deadline=None)
@given(data=st.data(), block=st.integers(20, 300), near=st.integers(0, 200))
def test_rows_are_those_of_a_pass_over_everything(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, block: int, near: int) -> None:
    folder = tmp_path_factory.mktemp("places")
    inputs = []
    for number in range(data.draw(st.integers(1, 3))):
        text = b"\n".join(data.draw(st.lists(LINE, max_size=30))) + data.draw(st.sampled_from((b"", b"\n")))
        is_plain = data.draw(st.booleans())
        path = folder / (f"{number}.jsonl" if is_plain else f"{number}.jsonl.gz")
        path.write_bytes(text if is_plain else gzip.compress(text))
        inputs.append(Input(str(path)))
    with pytest.MonkeyPatch.context() as patch:
        for module in (blocks, lines, places):
            patch.setattr(module, "BLOCK_BYTES", block)
        patch.setattr(places, "_NEAR", near)
        notes, everything = noted(inputs)
        rows = np.array(sorted(data.draw(st.sets(st.integers(0, max(len(everything) - 1, 0))))), dtype=np.int64)[: len(everything)]
        assert found(batches_at(inputs, notes.bounds, notes.of, rows, lambda size: None)) == [everything[row] for row in rows]


def test_ranges_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"".join(b"line %d\n\n" % number for number in range(100)))
    inputs = [Input(str(path), start=16, end=90), Input(str(path), start=90, end=path.stat().st_size)]
    notes, everything = noted(inputs)
    rows = np.arange(1, len(everything), 3)
    assert found(batches_at(inputs, notes.bounds, notes.of, rows, lambda size: None)) == [everything[row] for row in rows]


def test_what_is_passed_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"".join(b"%06d\n" % number for number in range(1_000_000)))
    inputs = [Input(str(path))]
    notes, _ = noted(inputs)
    told: list[int] = []
    rows = np.arange(0, 1_000_000, 300_000)
    assert len(found(batches_at(inputs, notes.bounds, notes.of, rows, told.append))) == 4
    assert sum(told) == 900_000 * 7 + 7


def test_a_file_that_became_shorter(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"one\ntwo\nthree\n")
    inputs = [Input(str(path))]
    notes, _ = noted(inputs)
    path.write_bytes(b"one\ntwo\n")
    with pytest.raises(UnreadableError, match=r"a\.jsonl: it is shorter than it was"):
        found(batches_at(inputs, notes.bounds, notes.of, np.array([2]), lambda size: None))


def test_small_files_share_a_batch(tmp_path: Path) -> None:
    inputs = [Input(str(tmp_path / f"{number}.jsonl")) for number in range(50)]
    for item in inputs:
        Path(item.path).write_bytes(b"one\ntwo\n")
    notes, everything = noted(inputs)
    batches = list(batches_at(inputs, notes.bounds, notes.of, np.arange(1, 100, 2), lambda size: None))
    assert len(batches) == 1 and found(batches) == everything[1::2]
