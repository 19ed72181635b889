"""`validate` foresees what the JSON reader of `datasets` makes of rows after its first 10 MB. What is said to fail or to load here was
tried with `datasets` 5.2.0."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from rollout_etl.validate import first_block
from rollout_etl.validate.validate import validate

LOADS: list[tuple[Any, Any]] = [(1, 2.0), (1.5, 2), (None, None), ("a", 5), (True, 1), ([{"a": 1, "b": 2}], [{"a": 1}]), ([{"a": 1}], []), ([{"a": 1}, {"b": 1}], [{"a": 1, "c": 2}]),
                                ({}, {"a": 1}), ([1, [2]], [{"a": 1}]), ([1, "a"], [True])]
FAILS: list[tuple[Any, Any, str]] = [
    (1, 2.5, "value has its first fraction"), (5, "a", "value has a value of another type"), (1, True, "value has a value of another type"), (None, "a", "value has its first value"),
    ([{"a": 1}], [{"a": 1, "b": 2}], "value[].b first occurs"), ([{"a": 1}], [{"a": 1, "b": None}], "value[].b first occurs"), ([], [{"a": 1}], "value[] has its first value"),
    ({"a": {"b c": [1]}}, {"a": {"b c": [0.5]}}, "value.a.b c[] has its first fraction"), ([{"a": 1}], "a", "value has a value of another type"),
]


@pytest.fixture(autouse=True)
def small_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_block, "FIRST_BLOCK", 200)


def written(path: Path, values: list[Any]) -> Path:
    """Prompts of about 100 bytes, the first three of which are in the block."""
    lines = [json.dumps({"prompt": "x" * 80, "value": value}) + "\n" for value in values]
    text = "".join(lines).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def late(path: Path, shards: list[Path] | None = None) -> list[tuple[str, int, list[int]]]:
    return [(problem.meaning.split(" after ")[0], problem.rows, problem.lines) for problem in validate(path, "trl", "grpo", shards=shards).problems if problem.name == "late_type"]


@pytest.mark.parametrize(("early", "later"), LOADS)
def test_what_loads(tmp_path: Path, early: Any, later: Any) -> None:
    assert late(written(tmp_path / "rows.jsonl", [early] * 5 + [later])) == []


@pytest.mark.parametrize(("early", "later", "said"), FAILS)
def test_what_fails(tmp_path: Path, early: Any, later: Any, said: str) -> None:
    assert late(written(tmp_path / "rows.jsonl", [early] * 5 + [later, early, later])) == [(said, 2, [6, 8])]
    # What is within the block decides the type with the rest.
    assert late(written(tmp_path / "rows.jsonl", [early, later, *[early] * 5, later])) == []


def test_a_new_column_in_a_compressed_file(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl.gz", [1] * 20)
    with gzip.open(path, "at") as file:
        file.write(json.dumps({"prompt": "x", "value": 1, "new": None}) + "\n")
    assert late(path) == [("new first occurs", 1, [21])]


def test_the_first_shard_decides(tmp_path: Path) -> None:
    shards = [written(tmp_path / f"{name}.jsonl", [value]) for name, value in (("a", 1), ("b", 1), ("c", 1.5))]
    assert late(tmp_path, shards) == [("value has its first fraction", 1, [3])]
    assert late(tmp_path, [shards[2], *shards[:2]]) == []


def test_parquet_has_types(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pl.DataFrame({"prompt": ["x" * 80] * 6, "value": [None] * 5 + ["a"]}).write_parquet(path)
    assert late(path) == []
