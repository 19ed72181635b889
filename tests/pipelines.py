"""Pipelines that tests refresh, nights of rollouts for them, and what is looked at afterwards."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

from rollout_etl.cli.updating import _run_of
from rollout_etl.refresh import refresh as refreshing
from rollout_etl.refresh.pipeline import load
from rollout_etl.refresh.refresh import Refreshed
from tests.command import run

PIPELINE = """
inputs = ["rollouts"]
publish = "training"
keep-versions = 3

[options]
max-bad-fraction = 0.2

[[output]]
file = "sft.jsonl"
recipe = "sft"
reward-threshold = 0.5

[[output]]
file = "pairs.parquet"
recipe = "dpo"
target = "trl"
"""


def lines(seed: int, count: int = 24) -> bytes:
    """Four attempts at each of some prompts."""
    rng = random.Random(seed)
    made = []
    for number in range(count):
        answer = [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": f"answer {rng.random()}"}]}]
        rollout = {"responses_create_params": {"input": f"question {seed}-{number // 4}"}, "response": {"output": answer}, "reward": float(number % 4 > 1)}
        made.append(json.dumps({**rollout, "_ng_task_index": seed * 100 + number // 4, "_ng_rollout_index": number % 4}).encode() + b"\n")
    return b"".join(made)


def laid_out(folder: Path, pipeline: str) -> Path:
    """`folder` with a pipeline and one night of rollouts."""
    (folder / "rollouts").mkdir()
    (folder / "pipeline.toml").write_text(pipeline)
    (folder / "rollouts" / "night0.jsonl").write_bytes(lines(0))
    return folder


def refresh(folder: Path, *options: str) -> tuple[int, dict[str, Any]]:
    """Exit code and report."""
    done = run("refresh", "pipeline.toml", "--json", *options, folder=folder)
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout) if done.stdout else {}


def published(folder: Path) -> dict[str, bytes]:
    """Training files of the current version."""
    current = (folder / "training" / "current").resolve()
    return {str(path.relative_to(current)): path.read_bytes() for path in current.rglob("*") if path.is_file() and path.suffix in (".jsonl", ".parquet")}


def refreshed(folder: Path) -> Refreshed:
    """A refresh in this process."""
    pipeline = load(folder / "pipeline.toml")
    return refreshing.refresh(pipeline, _run_of(pipeline))


def counted(folder: Path) -> dict[str, Any]:
    """What the current version says of its outputs, without files that name their own place."""
    outputs = json.loads((folder / "training" / "current" / "version.json").read_text())["outputs"]
    return {name: {what: found for what, found in entry.items() if what != "files"} for name, entry in outputs.items()}


def hold_equal_to_a_rebuild(folder: Path, elsewhere: Path) -> None:
    """The current version is what a refresh from nothing makes, and says the same."""
    shutil.copytree(folder / "rollouts", elsewhere / "rollouts")
    shutil.copy(folder / "pipeline.toml", elsewhere)
    refreshed(elsewhere)
    assert published(folder) == published(elsewhere)
    assert counted(folder) == counted(elsewhere)


SHARDED = PIPELINE.split("\n[[output]]\nfile = \"pairs")[0] + """
[[output]]
file = "shards"
recipe = "sft"
target = "trl"
reward-threshold = 0.5
shard-rows = 5
extra = ["pass_rate", "line"]

[[output]]
file = "few.jsonl"
recipe = "dpo"
shard-rows = 3
shuffle = 1
val = 0.3
"""
