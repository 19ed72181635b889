"""Gates: a version that misses a bound is not published, and says by how much."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.command import run
from tests.pipelines import PIPELINE, laid_out, lines, published, refresh


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return laid_out(tmp_path, PIPELINE)


def test_gates(folder: Path) -> None:
    assert refresh(folder)[0] == 0
    (folder / "pipeline.toml").write_text(PIPELINE + "[gates]\nmin-rows = 13\nmax-reward-drift = 0.1\nmax-mean-reward = 0.6\n")
    before = published(folder)
    code, report = refresh(folder)
    assert code == 4
    assert report["error"] == "not published: min-rows of sft.jsonl: 12, bound 13, by 1; min-rows of pairs.parquet: 6, bound 13, by 7"
    assert published(folder) == before
    assert "the last refresh failed" in run("status", "pipeline.toml", folder=folder).stdout
    code, report = refresh(folder, "--force", "min-rows")
    assert (code, report["version"]) == (0, 2)
    record = json.loads((folder / "training" / "current" / "version.json").read_text())
    assert [gate["gate"] for gate in record["gates"] if gate["forced"]] == ["min-rows", "min-rows"]
    assert record["statistics"]["mean_reward"] == 0.5
    assert "forced: min-rows" in run("status", "pipeline.toml", folder=folder).stdout
    # Drift is held against the version before.
    text = lines(7).replace(b'"reward": 0.0', b'"reward": 1.0')
    (folder / "rollouts" / "night7.jsonl").write_bytes(text)
    code, report = refresh(folder, "--force", "min-rows")
    assert code == 4
    assert "max-reward-drift of sft.jsonl: 0.25, bound 0.1, by 0.15; max-mean-reward of sft.jsonl: 0.75" in report["error"]


def test_gates_on_what_rollouts_hold(folder: Path) -> None:
    """Bad lines, copies, length and leaks: each says which number missed which bound by how much."""
    gates = "[gates]\nmax-bad-fraction = 0.01\nmax-duplicates = 0.02\nmax-length-bias = 0.1\nmax-leakage = 0\n"
    split = PIPELINE.replace('recipe = "sft"', 'recipe = "sft"\nval = 0.5') + gates
    (folder / "pipeline.toml").write_text(split)
    copies = lines(2, 4)
    long = [line.replace(b'"answer', b'"a much longer answer' + b" and so on" * 50) for line in lines(1, 40).splitlines(keepends=True) if b'"reward": 1.0' in line]
    (folder / "rollouts" / "night0.jsonl").write_bytes(lines(0, 80))
    (folder / "rollouts" / "night1.jsonl").write_bytes(b"".join([copies, copies, *long, b"[1]\n[2]\n"]))

    def failed() -> dict[str, str]:
        code, report = refresh(folder)
        assert code == 4
        assert report["error"].startswith("not published: ")
        said = [part.split(" of sft.jsonl: ") for part in report["error"].removeprefix("not published: ").split("; ")]
        return {part[0]: part[1] for part in said if len(part) == 2}

    found = failed()
    assert list(found) == ["max-bad-fraction", "max-duplicates", "max-length-bias", "max-leakage"]
    assert found["max-bad-fraction"] == "0.0181818, bound 0.01, by 0.00818182"
    assert found["max-duplicates"] == "0.037037, bound 0.02, by 0.017037"
    assert re.fullmatch(r"0\.\d+, bound 0\.1, by 0\.\d+", found["max-length-bias"])
    assert re.fullmatch(r"0\.\d+, bound 0, by 0\.\d+", found["max-leakage"])
    # Outputs that are split alike do not leak.
    (folder / "pipeline.toml").write_text(split.replace('recipe = "dpo"', 'recipe = "dpo"\nval = 0.5\nshard-rows = 2'))
    assert list(failed()) == ["max-bad-fraction", "max-duplicates", "max-length-bias"]


@pytest.mark.parametrize(
    ("gate", "wanted"),
    [("min-rows = 1.5", "a whole number of 0 or more"), ("min-mean-reward = nan", "a number"), ('max-mean-reward = "0.5"', "a number"), ("max-row-change = -0.1", "a number of 0 or more"),
     ("max-leakage = nan", "a number of 0 or more"), ('flags = "all"', "error or warning"), ("validate = 1", "true or false")],
)
def test_bounds_of_a_wrong_kind(folder: Path, gate: str, wanted: str) -> None:
    (folder / "pipeline.toml").write_text(f"{PIPELINE}[gates]\n{gate}\n")
    ran = run("refresh", "pipeline.toml", folder=folder)
    assert (ran.returncode, ran.stderr) == (2, f"rollout-etl: pipeline.toml: gate {gate.split(' ')[0]} must be {wanted}\n")


def test_no_examples_is_a_gate(folder: Path) -> None:
    (folder / "pipeline.toml").write_text(PIPELINE.replace("reward-threshold = 0.5", "reward-threshold = 2"))
    code, report = refresh(folder)
    assert (code, report["error"]) == (4, "not published: min-rows of sft.jsonl: 0, bound 1, by 1")
    assert not (folder / "training" / "current").exists()
