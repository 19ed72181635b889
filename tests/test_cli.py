"""The command as a user meets it: start-up, exit codes, spellings, what goes to which stream."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import rollout_etl
from rollout_etl.errors import ExitCode
from tests.command import run, tree

RELAXED = ("--max-bad-fraction", "0.05")
"""One of the 49 lines of the demo is broken."""
TO = ("-o", "out.jsonl")


def test_help_is_quick() -> None:
    def once() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert run("--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    # Processor time: on a busy machine the clock tells how busy it is.
    assert min(once() for _ in range(5)) < 0.3


def test_nothing_heavy_is_imported_for_help() -> None:
    code = "import sys, rollout_etl.cli.main; print([name for name in ('polars', 'duckdb', 'pyarrow', 'numpy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["sft", "--help"], ["dpo", "--help"], ["grpo", "-h"]])
def test_help(arguments: Sequence[str]) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: rollout-etl")


@pytest.mark.parametrize(("name", "code"), [("v1.2", ExitCode.DONE), (".v1", ExitCode.USAGE)])
def test_folders_that_nemo_rl_cannot_name(name: str, code: ExitCode, folder: Path) -> None:
    (folder / name).mkdir()
    done = run("sft", "good.jsonl", "-o", f"{name}/out.jsonl", folder=folder)
    assert done.returncode == code
    assert "NeMo RL" in done.stderr
    assert run("sft", "good.jsonl", "-o", f"{name}/out.jsonl", "--no-config", folder=folder).returncode == ExitCode.DONE


def test_version() -> None:
    assert run("--version").stdout == f"rollout-etl {rollout_etl.__version__}\n"


@pytest.mark.parametrize("recipe", ["sft", "dpo", "grpo"])
def test_done(recipe: str, folder: Path) -> None:
    done = run(recipe, "rollouts.jsonl", "-o", "out.jsonl", *RELAXED, folder=folder)
    assert (done.returncode, done.stdout) == (ExitCode.DONE, "")
    assert "written" in done.stderr
    assert {"out.jsonl", "out.jsonl.nemo-rl.yaml", "out.jsonl.manifest.json"} < set(tree(folder))


def test_nothing_to_write_leaves_the_earlier_output(folder: Path) -> None:
    run("sft", "good.jsonl", "-o", "out.jsonl", folder=folder)
    before = tree(folder)
    done = run("sft", "good.jsonl", "-o", "out.jsonl", "--reward-threshold", "2", folder=folder)
    assert (done.returncode, done.stdout) == (ExitCode.NOTHING_TO_WRITE, "")
    assert done.stderr.endswith("rollout-etl: nothing to write; out.jsonl is unchanged\n")
    assert tree(folder) == before


def test_spellings_of_the_scripts(folder: Path) -> None:
    run("dpo", "good.jsonl", "-o", "new.jsonl", "--min-gap", "0.1", "--strategy", "stratified", "--high-threshold", "0.6", folder=folder)
    run("dpo", "--input", "good.jsonl", "--output", "old.jsonl", "--min_gap", "0.1", "--strategy=stratified", "--high_threshold=0.6", folder=folder)
    assert (folder / "old.jsonl").read_bytes() == (folder / "new.jsonl").read_bytes()


def test_values_keep_their_underscores(folder: Path) -> None:
    (folder / "good.jsonl").rename(folder / "my_rollouts.jsonl")
    done = run("grpo", "--input=my_rollouts.jsonl", "--output=my_output.jsonl", "--no_ground_truth", folder=folder)
    assert done.returncode == ExitCode.DONE
    assert (folder / "my_output.jsonl").exists()


@pytest.mark.parametrize("recipe", ["sft", "dpo", "grpo"])
def test_json_is_the_manifest(recipe: str, folder: Path) -> None:
    done = run(recipe, "rollouts.jsonl", *TO, *RELAXED, "--json", folder=folder)
    report = json.loads(done.stdout)
    assert report == json.loads((folder / "out.jsonl.manifest.json").read_bytes())
    assert done.stdout.count("\n") == 1
    rollouts, examples = report["rollouts"], report["examples"]
    assert rollouts["read"] == 49 == rollouts["quarantined"] + sum(rollouts["dropped"].values()) + rollouts["kept"]
    assert examples["built"] == sum(examples["dropped"].values()) + examples["written"]
    assert examples["written"] == report["outputs"][0]["rows"] == len((folder / "out.jsonl").read_bytes().splitlines())


def test_json_without_an_output(folder: Path) -> None:
    done = run("sft", "good.jsonl", *TO, "--reward-threshold", "2", "--json", folder=folder)
    assert done.returncode == ExitCode.NOTHING_TO_WRITE
    assert json.loads(done.stdout)["examples"]["written"] == 0


def test_quiet(folder: Path) -> None:
    done = run("sft", "good.jsonl", *TO, "--quiet", folder=folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("limit", ["0.05", "0"])
def test_quarantine(limit: str, folder: Path) -> None:
    done = run("sft", "rollouts.jsonl", *TO, "--quarantine", "bad.jsonl", "--max-bad-fraction", limit, folder=folder)
    assert done.returncode == (ExitCode.DONE if limit == "0.05" else ExitCode.UNREADABLE)
    (bad,) = map(json.loads, (folder / "bad.jsonl").read_text(encoding="utf-8").splitlines())
    assert bad == {
        "source": "rollouts.jsonl",
        "line": 31,
        "reason": "not JSON: Unterminated string starting at: line 1 column 145 (char 144)",
        "text": (folder / "rollouts.jsonl").read_text(encoding="utf-8").splitlines()[30],
    }


def test_no_config(folder: Path) -> None:
    run("sft", "good.jsonl", *TO, "--no-config", folder=folder)
    assert "out.jsonl.nemo-rl.yaml" not in tree(folder)


@pytest.mark.parametrize("recipe", ["sft", "dpo", "grpo"])
def test_the_summary_adds_up(recipe: str, folder: Path) -> None:
    done = run(recipe, "rollouts.jsonl", *TO, *RELAXED, folder=folder)
    sums: list[list[int]] = []
    for line in done.stderr.splitlines():
        words = line.split()
        if words[0] in ("read", "examples"):
            sums.append([int(words[1])])
        elif line.startswith("  ") and words[0] in ("quarantined", "dropped", "kept", "written"):
            sums[-1].append(int(words[1]))
    assert [total == sum(parts) for total, *parts in sums] == [True, True]


@pytest.mark.parametrize("arguments", [["--help"], ["sft", "--help"], ["dpo", "--help"], ["grpo", "--help"], ["sft", "rollouts.jsonl", *TO, *RELAXED]], ids=" ".join)
def test_nothing_is_cut_off_at_80_columns(arguments: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    done = run(*arguments, folder=folder)
    shown = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith(("launch", "output"))]
    assert max(map(len, shown)) <= 80
    assert not any(line.endswith(("...", "…")) for line in shown if not line.startswith("Usage: "))


@pytest.mark.parametrize(("without", "warns"), [(1, False), (3, True)])
def test_much_without_ground_truth_is_said(tmp_path: Path, without: int, warns: bool) -> None:
    rows = [{"messages": [{"role": "user", "content": f"q{number}"}], "response": {"output_text": "a"}, "reward": 1, "expected_answer": "4"} for number in range(6)]
    for row in rows[:without]:
        del row["expected_answer"]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = " ".join(run("grpo", "in.jsonl", "-o", "out.jsonl", folder=tmp_path).stderr.split())
    assert (f"{without} of 6 rollouts have no ground truth: name its field with --ground-truth-field" in said) is warns
