"""Rollouts that NeMo Gym ships, from `../shared/rollouts`: every file, every recipe, every format; skipped where they are absent.

By default each file goes through one recipe, in turn, and all files together through all; `EXHAUSTIVE=1` in the environment
takes every file through all. What is a rollout is decided a second time here, in plain Python, as docs/reading.md tells it.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rollout_etl.recipes.options import AnyOptions, DpoOptions, GrpoOptions, SftOptions
from rollout_etl.run.execute import Run, execute
from rollout_etl.run.report import Report

ROOT = Path(__file__).parent.parent
FOLDER = (ROOT.parent / "shared" / "rollouts").resolve()
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="../shared/rollouts is absent")

EXHAUSTIVE = bool(os.environ.get("EXHAUSTIVE"))
ROLLOUT_KEYS = ("responses_create_params", "response", "output", "messages", "reward", "_ng_rollout_index", "_ng_failure_class")
SUFFIXES = (".jsonl", ".json")
FILES = sorted(path for path in FOLDER.rglob("*") if path.suffix in SUFFIXES) if FOLDER.is_dir() else []
SIDECARS = ("_materialized_inputs", "_failures", "_reward_profiling", "_agent_metrics", "_aggregate_metrics", "_metrics")

OPTIONS: dict[str, AnyOptions] = {
    "sft openai": SftOptions(reward_threshold=0.5),
    "sft flat": SftOptions(tool_call_style="flat", keep=("below_threshold", "missing_reward")),
    "sft simple": SftOptions(format="simple", keep=("below_threshold", "flattened_completion")),
    "dpo binary": DpoOptions(with_rewards=True, min_gap=0.0, keep=("flattened_completion", "tool_prompt")),
    "dpo preference": DpoOptions(format="preference", strategy="stratified", cross_prompt=True, max_pairs=300),
    "grpo response": GrpoOptions(all_rollouts=True),
    "grpo gym": GrpoOptions(format="gym", agent_name="agent"),
}
COMMANDS = {
    "sft openai": ["sft", "--reward-threshold", "0.5"],
    "dpo preference": ["dpo", "--format", "preference", "--strategy", "stratified", "--cross-prompt", "--max-pairs", "300"],
    "grpo response": ["grpo", "--all-rollouts"],
}


def values_of(path: Path) -> list[tuple[int, str]]:
    """Number and text of each line that is not blank; of each element of a JSON file, which may hold several values or a list."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        value = json.loads(text)
        return [(number, json.dumps(part)) for number, part in enumerate(value if isinstance(value, list) else [value], 1)]
    return [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip(" \t\r\n")]


def is_rollout(text: str) -> bool:
    try:
        value = json.loads(text)
    except ValueError:
        return False
    return isinstance(value, dict) and any(value.get(key) is not None for key in ROLLOUT_KEYS)


def run(name: str, inputs: Sequence[Path], folder: Path, suffix: str = ".jsonl") -> Report:
    paths = [str(path) for path in inputs]
    quarantine = folder / "quarantine.jsonl"
    return execute(Run(inputs=paths, output=folder / f"out{suffix}", options=OPTIONS[name], quarantine=quarantine, max_bad_fraction=1.0))


def check(report: Report, inputs: Sequence[Path], folder: Path) -> None:
    lines = [(path, number, text) for path in inputs for number, text in values_of(path)]
    bad = [(str(path), number) for path, number, text in lines if not is_rollout(text)]
    assert report.read == len(lines)
    assert report.read == report.quarantined + sum(report.dropped.values()) + report.kept
    assert report.built == sum(report.examples_dropped.values()) + report.written
    found = [json.loads(line) for line in (folder / "quarantine.jsonl").read_bytes().split(b"\n")[:-1]]
    assert [(entry["source"], entry["line"]) for entry in found] == bad
    texts = {(str(path), number): text for path, number, text in lines if path.suffix == ".jsonl"}
    assert all(entry["text"] == texts.get((entry["source"], entry["line"]), entry["text"]).rstrip("\r\n") for entry in found)
    assert (folder / "out.jsonl").exists() == bool(report.written)


def rows_of(path: Path) -> Counter[str]:
    """Rows with how often each stands there, whatever their order; every row must be JSON."""
    if not path.exists():
        return Counter()
    lines = path.read_bytes().split(b"\n")[:-1]
    for line in lines:
        json.loads(line, parse_constant=refuse)
    return Counter(line.decode("utf-8") for line in lines)


def refuse(token: str) -> None:
    raise AssertionError(f"{token} is no JSON")


def in_turn(path: Path) -> list[str]:
    return list(OPTIONS) if EXHAUSTIVE else [list(OPTIONS)[FILES.index(path) % len(OPTIONS)]]


ONE_BY_ONE = FILES if EXHAUSTIVE else FILES[::4]


@pytest.mark.parametrize(
    ("path", "name"), [(path, name) for path in ONE_BY_ONE for name in in_turn(path)], ids=lambda value: value if isinstance(value, str) else value.parent.name
)
def test_one_by_one(path: Path, name: str, tmp_path: Path) -> None:
    report = run(name, [path], tmp_path)
    check(report, [path], tmp_path)
    assert rows_of(tmp_path / "out.jsonl").total() == report.written


@pytest.mark.parametrize("name", OPTIONS)
def test_all_at_once(name: str, tmp_path: Path) -> None:
    report = run(name, FILES, tmp_path)
    check(report, FILES, tmp_path)
    assert report.written
    assert rows_of(tmp_path / "out.jsonl").total() == report.written


def test_folder(tmp_path: Path) -> None:
    """The folder holds the same files, but for the sidecars."""
    report = run("sft openai", [FOLDER], tmp_path)
    kept = [path for path in FILES if not path.stem.endswith(SIDECARS)]
    assert sorted(report.inputs) == [str(path) for path in kept]
    check(report, [Path(path) for path in report.inputs], tmp_path)
    assert any(f"left out {len(FILES) - len(kept)} sidecar" in note for note in report.notes)


@pytest.mark.parametrize("name", COMMANDS)
def test_threads(name: str, tmp_path: Path) -> None:
    """The same bytes, whatever the number of threads."""
    written = []
    for threads in ("1", "2"):
        folder = tmp_path / threads
        folder.mkdir()
        command = [str(Path(sys.executable).with_name("rollout-etl")), *COMMANDS[name], *map(str, FILES), "-o", "out.jsonl"]
        command += ["--quarantine", "quarantine.jsonl", "--max-bad-fraction", "1", "--threads", threads, "--quiet", "--no-config"]
        done = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", timeout=120)
        assert (done.returncode, done.stderr) == (0, "")
        written.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert set(written[0]) == {"out.jsonl", "out.jsonl.manifest.json", "quarantine.jsonl"}
    assert written[0] == written[1]


@pytest.mark.parametrize("name", ["sft openai", "dpo binary", "dpo preference", "grpo response"])
def test_order_of_the_files(name: str, tmp_path: Path) -> None:
    found = []
    for order, files in (("forward", FILES), ("backward", FILES[::-1])):
        folder = tmp_path / order
        folder.mkdir()
        run(name, files, folder)
        found.append(rows_of(folder / "out.jsonl"))
    assert found[0] == found[1]


# Other containers


def whole_files() -> list[Path]:
    """Files of a fair size that hold nothing but rollouts, of different shapes. Their names differ, as keys depend on them."""
    found: dict[tuple[str, ...], Path] = {}
    for path in FILES:
        texts = [text for _, text in values_of(path)]
        if path.suffix == ".jsonl" and texts and all(map(is_rollout, texts)) and path.stat().st_size < 500_000:
            first = json.loads(texts[0])
            found.setdefault(tuple(sorted(key for key in first if key in ROLLOUT_KEYS)), path)
    return list(found.values())


def as_parquet(path: Path, target: Path) -> None:
    """Columns of JSON text for what is nested, plain ones for texts, numbers and truth values of one kind."""
    rows: list[dict[str, Any]] = [json.loads(text) for _, text in values_of(path)]
    columns: dict[str, list[Any]] = {}
    for name in dict.fromkeys(key for row in rows for key in row):
        values = [row.get(name) for row in rows]
        kinds = {type(value) for value in values if value is not None}
        nested = kinds & {dict, list} or len(kinds) > 1
        columns[name] = [None if value is None else json.dumps(value, ensure_ascii=False) for value in values] if nested else values
    pq.write_table(pa.table({name: values for name, values in columns.items() if any(value is not None for value in values)}), target)


def copied(path: Path, suffix: str, folder: Path) -> Path:
    data = path.read_bytes()
    target = folder / f"{path.parent.name}_{path.stem}{suffix}"
    if suffix == ".jsonl":
        target.write_bytes(data)
    elif suffix == ".jsonl.gz":
        target.write_bytes(gzip.compress(data))
    elif suffix == ".jsonl.zst":
        target.write_bytes(pa.Codec("zstd").compress(data, asbytes=True))
    elif suffix == ".json":
        target.write_text("[" + ",\n".join(text for _, text in values_of(path)) + "]\n", encoding="utf-8")
    else:
        as_parquet(path, target)
    return target


@pytest.mark.parametrize("name", ["sft openai", "grpo response"])
def test_containers(name: str, tmp_path: Path) -> None:
    """The same rollouts in another container give the same rows."""
    chosen = whole_files()
    assert len(chosen) > 3
    found = {}
    for suffix in (".jsonl", ".jsonl.gz", ".jsonl.zst", ".json", ".parquet"):
        folder = tmp_path / suffix[1:].replace(".", "_")
        folder.mkdir()
        report = run(name, [copied(path, suffix, folder) for path in chosen], folder)
        assert report.quarantined == 0
        found[suffix] = (folder / "out.jsonl").read_bytes()
    assert [suffix for suffix, data in found.items() if data != found[".jsonl"]] == []
