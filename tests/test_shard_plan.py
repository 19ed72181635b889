"""Shards that are cut where their content says so: the rows are those of one file, and a change stays where it is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout_etl.publish.shard_plan import content_cuts
from tests import command
from tests.test_shards import run, shards


def plain_ends(keys: list[int], rows: int) -> list[int]:
    """Where shards end, one example at a time."""
    ends, held = [], 0
    for number, key in enumerate(keys, start=1):
        held += 1
        if held == 2 * rows or (held >= max(rows // 2, 1) and key < (2**64 - 1) // max(rows // 2, 1)):
            ends.append(number)
            held = 0
    return [*ends, len(keys)] if held else ends


KEYS = st.lists(st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 2**62)), max_size=80)


@given(KEYS, st.integers(1, 12))
def test_cuts(keys: list[int], rows: int) -> None:
    assert content_cuts(np.array(keys, dtype=np.uint64), rows) == plain_ends(keys, rows)


def test_a_change_in_the_middle_stays_there() -> None:
    keys = np.random.default_rng(0).integers(0, 2**64 - 1, 50_000, dtype=np.uint64)
    before = content_cuts(keys, 100)
    after = content_cuts(np.insert(keys, 25_000, 7), 100)
    sizes = np.diff([0, *before])
    assert 80 < sizes.mean() < 120
    moved = {end if end <= 25_000 else end + 1 for end in before}
    assert len(moved - set(after)) <= 3


@pytest.mark.parametrize(
    "arguments",
    [
        ("sft", "--format", "simple"), ("dpo",), ("grpo",), ("sft", "--target", "trl", "--extra", "mean_reward"), ("kto", "--target", "trl"),
        ("dpo", "--target", "openrlhf", "--shuffle", "3"), ("grpo", "--split", "train=0.7,val=0.3", "--where", "reward > 0.5"),
    ],
)
def test_shards_are_the_file_in_pieces(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    code, whole = run(tmp_path, *arguments, "in.jsonl", "-o", "whole.jsonl", "--no-config")
    assert code == 0
    code, cut = run(tmp_path, *arguments, "in.jsonl", "-o", "cut.jsonl", "--shard-rows", "8", "--no-config")
    assert code == 0
    for name in ("", ".val") if "--split" in arguments else ("",):
        found = shards(tmp_path / f"cut{name}.jsonl")
        assert [path.name for path in found] == [f"part-{number:05}.jsonl" for number in range(len(found))] and len(found) > 1
        assert b"".join(path.read_bytes() for path in found) == (tmp_path / f"whole{name}.jsonl").read_bytes()
    assert [line for line in cut.splitlines() if not line.startswith("output")] == [line for line in whole.splitlines() if not line.startswith("output")]


@pytest.mark.parametrize("arguments", [["dpo"], ["sft", "--reward-threshold", "2", "--val", "0.1"], ["dpo", "--shuffle", "3"], ["grpo", "--extra", "mean_reward"]], ids=" ".join)
def test_no_rows_are_nothing_to_write(tmp_path: Path, arguments: list[str]) -> None:
    output = [{"type": "message", "role": "assistant", "content": "a"}]
    (tmp_path / "in.jsonl").write_text(json.dumps({"responses_create_params": {"input": "q"}, "response": {"output": output}, "reward": 1.0}) + "\n")
    recipe, *options = arguments
    done = command.run(recipe, "in.jsonl", "-o", "out/", "--target", "trl", "--shard-rows", "3", *options, "--quiet", folder=tmp_path)
    assert (done.returncode, done.stderr) == (1, "rollout-etl: nothing to write; out was not created\n")
