"""The command as a user meets it: start-up, exit codes, spellings, what goes to which stream."""

from __future__ import annotations

import gzip
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import rollout_etl
from rollout_etl.errors import ExitCode, UnreadableError
from rollout_etl.read.inputs import find_inputs

ROOT = Path(__file__).parent.parent
COMMAND = str(Path(sys.executable).with_name("rollout-etl"))
RELAXED = ("--max-bad-fraction", "0.05")
"""One of the 49 lines of the demo is broken."""


def run(*arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *arguments], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", timeout=120)


def tree(folder: Path) -> dict[str, bytes]:
    """All files of a folder by name, with what they hold."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`rollouts.jsonl` as in the demo, `good.jsonl` without its broken line, and inputs that cannot be read."""
    shutil.copy(ROOT / "demo" / "rollouts.jsonl", tmp_path)
    lines = (tmp_path / "rollouts.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "good.jsonl").write_bytes(b"".join(line for line in lines if line.endswith(b"}\n")))
    (tmp_path / "text.jsonl").write_text("no rollout\n")
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b"".join(lines))[:-100])
    (tmp_path / "text.parquet").write_text("no rollout\n")
    (tmp_path / "folder").mkdir()
    for name in ("tasks.jsonl", "tasks_materialized_inputs.jsonl", "list.jsonl.manifest.json"):
        (tmp_path / name).write_text('{"expected_answer": "4"}\n')
    return tmp_path


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
    assert done.stderr.endswith("rollout-etl: nothing to write; out.jsonl is as it was\n")
    assert tree(folder) == before


TO = ("-o", "out.jsonl")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nope"], 2, "nope"),
        (["sft"], 2, "no input given"),
        (["sft", "good.jsonl"], 2, "no output given"),
        (["sft", "good.jsonl", *TO, "--nope"], 2, "--nope"),
        (["sft", "nope.jsonl", *TO], 2, "no such file or folder: nope.jsonl"),
        (["sft", "*.nope", *TO], 2, "nothing to read in *.nope"),
        (["sft", "folder", *TO], 2, "nothing to read in folder"),
        (["sft", "good.jsonl", "-o", "out.txt"], 2, "must end with .jsonl or .parquet"),
        (["sft", "good.jsonl", "-o", "folder"], 2, "folder is a folder"),
        (["sft", "good.jsonl", "-o", "good.jsonl"], 2, "good.jsonl is an input"),
        (["sft", "good.jsonl", "-o", "folder/../good.jsonl"], 2, "is an input"),
        (["sft", "good.jsonl", *TO, "--quarantine", "good.jsonl"], 2, "good.jsonl is an input"),
        (["sft", "good.jsonl", *TO, "--quarantine", "out.jsonl"], 2, "both the output and the quarantine"),
        (["sft", "good.jsonl", *TO, "--quarantine", "out.jsonl.manifest.json"], 2, "both the output and the quarantine"),
        (["sft", "good.jsonl", "-o", "tasks.jsonl", "--task-inputs", "tasks.jsonl"], 2, "tasks.jsonl is an input"),
        (["sft", "tasks.jsonl", "-o", "tasks_materialized_inputs.jsonl"], 2, "tasks_materialized_inputs.jsonl is an input"),
        (["sft", "list.jsonl.manifest.json", "-o", "list.jsonl"], 2, "list.jsonl.manifest.json is an input"),
        (["sft", "good.jsonl", "-o", "out.parquet"], 2, "from JSONL only"),
        (["grpo", "good.jsonl", "-o", "out.parquet", "--format", "gym"], 2, "from JSONL only"),
        (["sft", "good.jsonl", *TO, "--keep", "nope"], 2, "no rule 'nope'; rules are failure_row, masked"),
        (["sft", "good.jsonl", *TO, "--drop", "nope"], 2, "no rule 'nope'"),
        (["sft", "good.jsonl", *TO, "--keep", "empty_answer"], 2, "cannot hold such rollouts"),
        (["sft", "good.jsonl", *TO, "--think", "nope"], 2, "'keep', 'strip', 'move'"),
        (["sft", "good.jsonl", *TO, "--reward-threshold", "nope"], 2, "--reward-threshold"),
        (["sft", "good.jsonl", *TO, "--max-bad-fraction", "2"], 2, "--max-bad-fraction"),
        (["dpo", "good.jsonl", *TO, "--min-gap", "-1"], 2, "must not be negative"),
        (["dpo", "good.jsonl", *TO, "--cross-prompt"], 2, "needs --strategy stratified"),
        (["dpo", "good.jsonl", *TO, "--strategy", "stratified", "--low-threshold", "0.9"], 2, "must be under --high-threshold"),
        (["dpo", "good.jsonl", *TO, "--max-pairs", "0"], 2, "at least 1"),
        (["sft", "rollouts.jsonl", *TO], 3, "1 of 49 lines are no rollouts, more than --max-bad-fraction 0.01"),
        (["sft", "text.jsonl", *TO], 3, "text.jsonl:1 (not JSON"),
        (["sft", "cut.jsonl.gz", *TO], 3, "cannot read cut.jsonl.gz"),
        (["sft", "text.parquet", *TO], 3, "cannot read text.parquet"),
        (["sft", "good.jsonl", "-o", "text.jsonl/out.jsonl"], 3, "cannot write text.jsonl/out.jsonl"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_errors(arguments: list[str], code: int, said: str, folder: Path) -> None:
    before = tree(folder)
    done = run(*arguments, folder=folder)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("rollout-etl: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
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


BROKEN = """
import sys
from rollout_etl.cli.main import main
from rollout_etl.read.scan import Rollouts

def broken(*arguments, **options):
    raise TypeError("first line" + chr(10) + "second line")

Rollouts.batches = broken
main(sys.argv[1:])
"""


def test_a_bug_is_one_line_and_not_the_code_of_nothing_to_write(folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", BROKEN, "sft", "good.jsonl", *TO], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == ExitCode.INTERNAL
    assert done.stderr == "rollout-etl: internal error, please report it: TypeError at <string>:7: first line\n"


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


def test_a_bad_option_is_told_what_was_meant(folder: Path) -> None:
    done = run("grpo", "good.jsonl", *TO, "--group-by", "expected_answr,nosuch", "--json", folder=folder)
    assert json.loads(done.stdout)["warnings"][-2:] == [
        "--group-by expected_answr: no rollout has this field; did you mean expected_answer?",
        "--group-by nosuch: no rollout has this field",
    ]
    done = run("sft", "good.jsonl", *TO, "--ground-truth-field", "expected_answer", "--group-by", "agent_ref.name", "--json", folder=folder)
    assert not any("no rollout has this field" in warning for warning in json.loads(done.stdout)["warnings"])
    done = run("grpo", "good.jsonl", *TO, "--ground-truth-field", "verifier_metadata.nope", "--json", folder=folder)
    assert "--ground-truth-field verifier_metadata.nope: no rollout has this field" in json.loads(done.stdout)["warnings"]


def test_a_file_url_is_an_input_too(folder: Path) -> None:
    done = run("sft", (folder / "good.jsonl").as_uri(), "-o", "good.jsonl", folder=folder)
    assert (done.returncode, done.stderr) == (ExitCode.USAGE, "rollout-etl: good.jsonl is an input; give the output another name\n")


def test_a_folder_that_cannot_be_searched_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "folder" / "deeper").mkdir()
    scandir = os.scandir

    def refusing(path: str) -> object:
        if str(path).endswith("deeper"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(UnreadableError, match=r"cannot read .*deeper: Permission denied"):
        find_inputs(folder)
