"""Killed and interrupted runs leave the old output or the new one, and the next run tidies up."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rollout_etl.explore.ingest import ingest
from tests import command
from tests.command import COMMAND, DEMO, tree
from tests.publishing import OUTPUTS, Known, files, finished, outputs, rollouts, run, sft

KILLS = 14


def check_next_run(known: Known) -> None:
    """It sets everything right, and removes what was left over."""
    assert finished(sft(known.folder, rollouts("new")))[0] == 0
    assert outputs(known.folder) == known.new


def test_killed_at_any_moment(laid_out: Path, known: Known) -> None:
    rng = random.Random(0)
    killed = 0
    for number in range(KILLS):
        for name in OUTPUTS:
            (laid_out / name).write_bytes(known.old[name])
        process = sft(laid_out, rollouts("new"))
        time.sleep(known.seconds * (0.3 + 0.7 * rng.random()))
        process.send_signal(signal.SIGKILL)
        killed += finished(process)[0] == -signal.SIGKILL
        for name in OUTPUTS:
            assert (laid_out / name).read_bytes() in (known.old[name], known.new[name]), f"{name} after kill {number}"
    assert killed
    check_next_run(known)


# The command, killed just before or after the n-th time that a file goes to its place.
KILLED = """
import os, signal, sys

step, after = int(sys.argv[1]), sys.argv[2] == "after"
calls, replace = [], os.replace

def dying(source, target):
    calls.append(target)
    if len(calls) == step and not after:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
    if len(calls) == step:
        os.kill(os.getpid(), signal.SIGKILL)

os.replace = dying
from rollout_etl.cli.main import main
main(sys.argv[3:])
"""


@pytest.mark.parametrize(("step", "when", "moved"), [(1, "before", 0), (1, "after", 1), (2, "after", 2), (3, "before", 2), (3, "after", 3)])
def test_killed_while_publishing(step: int, when: str, moved: int, laid_out: Path, known: Known) -> None:
    code, _ = finished(sft(laid_out, rollouts("new"), command=[sys.executable, "-c", KILLED, str(step), when]))
    assert code == -signal.SIGKILL
    found = files(laid_out)
    assert [found[name] == known.new[name] for name in OUTPUTS[:moved]] == [True] * moved
    assert [found[name] == known.old[name] for name in OUTPUTS[moved:]] == [True] * (3 - moved)
    if when == "before":
        check_next_run(known)


# The command, killed when it has set aside the rows that it is going to shuffle.
KILLED_SHUFFLING = """
import os, signal, sys
from rollout_etl.publish.partitioned import PartitionedWriter

PartitionedWriter.finish = lambda *facts: os.kill(os.getpid(), signal.SIGKILL)
from rollout_etl.cli.main import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize("output", ["out.jsonl", "out/"])
@pytest.mark.parametrize("options", [("--shuffle", "1"), ()])
def test_killed_while_shuffling(output: str, options: tuple[str, ...], tmp_path: Path) -> None:
    """Rows that were set aside go with the next run, shuffled or not."""
    (tmp_path / "in.jsonl").write_text(rollouts("new"), encoding="utf-8")
    asked = ["sft", "in.jsonl", "--format", "simple", "-o", output]
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", KILLED_SHUFFLING, *asked, "--shuffle", "1"], cwd=tmp_path, capture_output=True)
        assert done.returncode == -signal.SIGKILL
        assert [path for path in tmp_path.iterdir() if "shuffle" in path.name]
    assert command.run(*asked, *options, folder=tmp_path).returncode == 0
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_interrupted(laid_out: Path, known: Known) -> None:
    """Ctrl-C in the middle of the work."""
    (laid_out / "in.jsonl").write_text(rollouts("new", 60_000), encoding="utf-8")
    process = subprocess.Popen([COMMAND, "sft", "in.jsonl", "-o", "out.jsonl"], cwd=laid_out, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not any(name.endswith(".partial") for name in os.listdir(laid_out)) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    assert finished(process) == (130, "rollout-etl: interrupted; nothing was published\n")
    assert outputs(laid_out) == known.old


INTERRUPTED_OPENING = """
import os, signal, sys
from rollout_etl.publish import files, folders

def interrupted(descriptor):
    os.kill(os.getpid(), signal.SIGINT)

files.hold = folders.hold = interrupted
from rollout_etl.cli.main import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize("output", ["out.jsonl", "shards/"])
def test_interrupted_when_a_file_was_just_made(output: str, laid_out: Path, known: Known) -> None:
    (laid_out / "in.jsonl").write_text(rollouts("new"), encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", INTERRUPTED_OPENING, "sft", "in.jsonl", "--format", "simple", "-o", output], cwd=laid_out, capture_output=True, encoding="utf-8")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (130, "rollout-etl: interrupted; nothing was published")
    assert outputs(laid_out) == known.old


STARTED = "import sys; from rollout_etl.cli.main import main; print('started', flush=True); main(sys.argv[1:])"


@pytest.mark.parametrize(
    "asked",
    [
        ["sft", "in.jsonl", "-o", "new.jsonl"],
        ["dpo", "in.jsonl", "-o", "new.jsonl", "--memory-limit", "512MB"],
        ["stats", "in.jsonl"],
        ["ingest", "in.jsonl", "-o", "new"],
        ["ingest", "in.jsonl", "--database", "new.duckdb"],
        ["merge", "in.jsonl", "-o", "new.jsonl"],
        ["sql", "in.jsonl", "SELECT sum(a.row * b.row) FROM rollouts a, rollouts b, rollouts c"],
        ["validate", "pairs.jsonl", "--target", "trl", "--recipe", "dpo"],
    ],
    ids=lambda asked: " ".join(word for word in asked if "." not in word),
)
def test_interrupted_at_any_moment(asked: list[str], tmp_path: Path) -> None:
    """Ctrl-C is one line and exit code 130 whatever is under way: imports, reading, queries, writing. It leaves nothing that looks like an output."""
    # Two attempts at each problem, so that `dpo` has something to write as well.
    worse = rollouts("worse", 75_000).replace('"reward": 1.0', '"reward": 0.0')
    (tmp_path / "in.jsonl").write_text(rollouts("new", 75_000) + worse, encoding="utf-8")
    (tmp_path / "pairs.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n' * 1_500_000, encoding="utf-8")
    interrupted = 0
    for seconds in (0.1, 0.6, 1.2):
        process = subprocess.Popen([sys.executable, "-c", STARTED, *asked], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None and process.stdout.readline() == b"started\n"
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        code, said = finished(process)
        made = [path for path in tmp_path.iterdir() if path.name.startswith("new")]
        if code == 0:
            # A fast machine was done before, or Python lost the signal among its imports.
            for path in made:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            continue
        interrupted += 1
        assert (code, said) == (130, "rollout-etl: interrupted; nothing was published\n"), seconds
        assert not made
    assert interrupted


WRAPPED = """
import os, signal
from rollout_etl.cli.runner import guarded

def run():
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt as error:
        raise {error}("Query interrupted") from error

guarded(run)
"""


@pytest.mark.parametrize("error", ["RuntimeError", "ImportError", "OSError"])
def test_interrupted_inside_of_a_library(error: str) -> None:
    """Libraries turn Ctrl-C into errors of their own."""
    done = subprocess.run([sys.executable, "-c", WRAPPED.format(error=error)], capture_output=True, encoding="utf-8")
    assert (done.returncode, done.stderr) == (130, "rollout-etl: interrupted; nothing was published\n")


def test_leftovers_of_the_dead_go(laid_out: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    stale, live, foreign = (laid_out / f".out.jsonl.{name}.partial" for name in (dead.pid, os.getppid(), "x"))
    other = laid_out / f".other.jsonl.{dead.pid}.partial"
    for path in (stale, live, foreign, other):
        path.touch()
    run(laid_out, rollouts("new"))
    assert [path.exists() for path in (stale, live, foreign, other)] == [False, True, True, True]


def test_leftovers_of_a_database_go(tmp_path: Path) -> None:
    """DuckDB has files of its own next to a database that it writes."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / "in.jsonl").write_text(rollouts("new"), encoding="utf-8")
    for end in ("", ".wal"):
        (tmp_path / f".out.duckdb.{dead.pid}.partial{end}").touch()
    (tmp_path / f".out.duckdb.{dead.pid}.partial.tmp").mkdir()
    ingest([tmp_path / "in.jsonl"], database=tmp_path / "out.duckdb")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.duckdb"]


@pytest.mark.parametrize("output", ["out.jsonl", "out/"])
def test_two_runs_into_one_output(output: str, laid_out: Path) -> None:
    """The second says so, and touches nothing; it can run when the first is done."""
    (laid_out / "busy.py").write_text(
        "import sys; from pathlib import Path\nfrom rollout_etl.publish.files import StagedFile\nfrom rollout_etl.publish.folders import StagedFolder\n"
        f"with {'StagedFolder' if output.endswith('/') else 'StagedFile'}(Path({output!r})):\n    print('at work', flush=True); sys.stdin.read()\n"
    )
    (laid_out / "in.jsonl").write_bytes(DEMO.read_bytes())
    asked = ["sft", "in.jsonl", "--format", "simple", "-o", output, "--max-bad-fraction", "1", "--quiet"]
    with subprocess.Popen([sys.executable, "busy.py"], cwd=laid_out, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as busy:
        assert busy.stdout is not None and busy.stdout.readline() == b"at work\n"
        before = tree(laid_out)
        done = command.run(*asked, folder=laid_out)
        assert (done.returncode, done.stderr) == (5, f"rollout-etl: another run is writing {output.rstrip('/')}; wait for it, or give the output another name\n")
        assert tree(laid_out) == before
        busy.communicate()
    assert command.run(*asked, folder=laid_out).returncode == 0


def test_folders_that_a_run_made_for_nothing_go(laid_out: Path) -> None:
    (laid_out / "in.jsonl").write_bytes(DEMO.read_bytes())
    for output in ("new/deep/out.jsonl", "new/deep/out/"):
        done = command.run("sft", "in.jsonl", "--format", "simple", "-o", output, "--reward-threshold", "9", "--max-bad-fraction", "1", "--quiet", folder=laid_out)
        assert done.returncode == 1 and not (laid_out / "new").exists()
    assert command.run("ingest", "in.jsonl", "-o", "new/deep/out", "--max-bad-fraction", "0", folder=laid_out).returncode == 3
    assert command.run("ingest", "in.jsonl", "--database", "new/deep/out.duckdb", "--max-bad-fraction", "0", folder=laid_out).returncode == 3
    assert not (laid_out / "new").exists()
