"""Outputs appear whole or not at all: killed runs, full disks, failures at every step of publishing."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rollout_etl.errors import RolloutETLError, WriteError
from rollout_etl.publish.outputs import RowsFile
from rollout_etl.read.inputs import MANIFEST_SUFFIX
from rollout_etl.recipes.options import SftOptions
from rollout_etl.run import Run, execute

COMMAND = [str(Path(sys.executable).with_name("rollout-etl"))]
OUTPUTS = ("out.jsonl", "out.jsonl.nemo-rl.yaml", f"out.jsonl{MANIFEST_SUFFIX}")
KILLS = 14


def rollouts(word: str, count: int = 40) -> str:
    rows: list[dict[str, Any]] = [
        {
            "responses_create_params": {"input": f"Problem {number}?"},
            "response": {"output": [{"type": "message", "role": "assistant", "content": f"{word} {number} " * 20}]},
            "reward": 1.0,
        }
        for number in range(count)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def outputs(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in files(folder).items() if not name.startswith("in")}


def sft(folder: Path, rows: str, output: str = "out.jsonl", command: list[str] | None = None) -> subprocess.Popen[bytes]:
    """A run over `rows` that is under way in `folder`."""
    (folder / "in.jsonl").write_text(rows, encoding="utf-8")
    arguments = [*(command or COMMAND), "sft", "in.jsonl", "-o", output]
    return subprocess.Popen(arguments, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finished(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    _, said = process.communicate(timeout=120)
    return process.returncode, said.decode("utf-8")


@dataclass(frozen=True)
class Known:
    """What an old and a new run write into a folder, and how long a run takes."""

    folder: Path
    old: dict[str, bytes]
    new: dict[str, bytes]
    seconds: float


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Known:
    folder = tmp_path_factory.mktemp("publish")
    written = []
    for word in ("old", "new"):
        start = time.monotonic()
        assert finished(sft(folder, rollouts(word)))[0] == 0
        written.append(outputs(folder))
    assert set(written[0]) == set(written[1]) == set(OUTPUTS)
    return Known(folder, written[0], written[1], time.monotonic() - start)


@pytest.fixture
def folder(known: Known) -> Path:
    """A folder with the old output and nothing else."""
    shutil.rmtree(known.folder)
    known.folder.mkdir()
    for name, data in known.old.items():
        (known.folder / name).write_bytes(data)
    return known.folder


def run(folder: Path, rows: str, output: Path | None = None, **options: Any) -> None:
    source = folder / "in.jsonl"
    source.write_text(rows, encoding="utf-8")
    execute(Run(inputs=[str(source)], output=output or folder / "out.jsonl", options=SftOptions(**options)))


# Killed runs


def check_next_run(known: Known) -> None:
    """It sets everything right, and removes what was left over."""
    assert finished(sft(known.folder, rollouts("new")))[0] == 0
    assert outputs(known.folder) == known.new


def test_killed_at_any_moment(folder: Path, known: Known) -> None:
    rng = random.Random(0)
    killed = 0
    for number in range(KILLS):
        for name in OUTPUTS:
            (folder / name).write_bytes(known.old[name])
        process = sft(folder, rollouts("new"))
        time.sleep(known.seconds * (0.3 + 0.7 * rng.random()))
        process.send_signal(signal.SIGKILL)
        killed += finished(process)[0] == -signal.SIGKILL
        for name in OUTPUTS:
            assert (folder / name).read_bytes() in (known.old[name], known.new[name]), f"{name} after kill {number}"
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
def test_killed_while_publishing(step: int, when: str, moved: int, folder: Path, known: Known) -> None:
    code, _ = finished(sft(folder, rollouts("new"), command=[sys.executable, "-c", KILLED, str(step), when]))
    assert code == -signal.SIGKILL
    found = files(folder)
    assert [found[name] == known.new[name] for name in OUTPUTS[:moved]] == [True] * moved
    assert [found[name] == known.old[name] for name in OUTPUTS[moved:]] == [True] * (3 - moved)
    if when == "before":
        check_next_run(known)


def test_interrupted(folder: Path, known: Known) -> None:
    """Ctrl-C in the middle of the work."""
    (folder / "in.jsonl").write_text(rollouts("new", 60_000), encoding="utf-8")
    process = subprocess.Popen([*COMMAND, "sft", "in.jsonl", "-o", "out.jsonl"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not any(name.endswith(".partial") for name in os.listdir(folder)) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    assert finished(process) == (130, "rollout-etl: interrupted; nothing was published\n")
    assert outputs(folder) == known.old


def test_leftovers_of_the_dead_go(folder: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    stale, live, foreign = (folder / f".out.jsonl.{name}.partial" for name in (dead.pid, os.getppid(), "x"))
    other = folder / f".other.jsonl.{dead.pid}.partial"
    for path in (stale, live, foreign, other):
        path.touch()
    run(folder, rollouts("new"))
    assert [path.exists() for path in (stale, live, foreign, other)] == [False, True, True, True]


# Disks that are full


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, which can be made larger with `resize`."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def resize(disk: Path, kilobytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", str(disk)], check=True)


def test_full_disk(small_disk: Path, tmp_path: Path) -> None:
    """However full the disk is: one plain line and the old output, or the new one."""
    (tmp_path / "in.jsonl").write_text(rollouts("old"), encoding="utf-8")
    output = small_disk / "out.jsonl"
    run(tmp_path, rollouts("old", 10), output)
    old = files(small_disk)
    failed = 0
    for kilobytes in range(sum(-(-len(data) // 4096) * 4 for data in old.values()) + 4, 64, 4):
        resize(small_disk, kilobytes)
        try:
            run(tmp_path, rollouts("new", 20), output)
        except WriteError as error:
            failed += 1
            assert error.exit_code == 3
            assert "no space left on the disk; what was there before is untouched" in str(error)
            assert "\n" not in str(error)
            assert files(small_disk) == old
        else:
            break
    assert failed > 1
    assert set(files(small_disk)) == set(OUTPUTS)
    assert output.read_text(encoding="utf-8").count("new 19 ") == 20


@pytest.mark.parametrize("output", ["out.jsonl", "out.parquet"])
def test_files_that_may_not_grow(output: str, tmp_path: Path) -> None:
    """The limit of the shell stands in for a full disk where none can be made."""
    (tmp_path / output).write_text("old")
    rng = random.Random(0)
    rows = "".join(rollouts("".join(rng.choices("abcdefghij", k=500)), 1) for _ in range(60))
    code, said = finished(sft(tmp_path, rows, output, ["sh", "-c", 'ulimit -f 8; exec "$@" --format simple', "sh", *COMMAND]))
    assert code == 3
    assert said.startswith(f"rollout-etl: cannot write {output}: ")
    assert said.endswith("; what was there before is untouched\n")
    assert said.count("\n") == 1
    assert outputs(tmp_path) == {output: b"old"}


# Failures


def test_missing_folder_is_made(tmp_path: Path) -> None:
    run(tmp_path, rollouts("new"), tmp_path / "a" / "b" / "out.jsonl")
    assert set(files(tmp_path / "a" / "b")) == set(OUTPUTS)


def test_manifest_is_last(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[tuple[str, bool]] = []
    replace = os.replace

    def recorded(source: Path, target: Path) -> None:
        whole = Path(source).stat().st_size > 0
        moved.append((Path(target).name, whole))
        replace(source, target)

    monkeypatch.setattr(os, "replace", recorded)
    run(folder, rollouts("new"))
    assert moved == [(name, True) for name in OUTPUTS]


@pytest.mark.parametrize("step", [1, 2, 3])
def test_moving_fails(step: int, folder: Path, monkeypatch: pytest.MonkeyPatch, known: Known) -> None:
    replace, calls = os.replace, 0

    def failing(source: Path, target: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == step:
            raise PermissionError(13, "Permission denied")
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(WriteError, match="Permission denied"):
        run(folder, rollouts("new"))
    found = outputs(folder)
    assert set(found) == set(OUTPUTS)
    assert [found[name] == known.old[name] for name in OUTPUTS[step - 1 :]] == [True] * (4 - step)


@pytest.mark.parametrize("name", ["fsync", "write"])
def test_writing_fails(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, known: Known) -> None:
    def failing(*arguments: Any, **options: Any) -> None:
        raise OSError(5, "Input/output error")

    if name == "fsync":
        monkeypatch.setattr(os, "fsync", failing)
    else:
        monkeypatch.setattr(RowsFile, "append", failing)
    with pytest.raises((WriteError, OSError), match="Input/output error"):
        run(folder, rollouts("new"))
    assert outputs(folder) == known.old


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_permission_denied(folder: Path) -> None:
    locked = folder / "locked"
    locked.mkdir(mode=0o500)
    with pytest.raises(WriteError, match="Permission denied") as caught:
        run(folder, rollouts("new"), locked / "out.jsonl")
    assert caught.value.exit_code == 3


def test_a_file_where_a_folder_should_be(folder: Path, known: Known) -> None:
    with pytest.raises(WriteError, match=r"Not a directory|File exists") as caught:
        run(folder, rollouts("new"), folder / "out.jsonl" / "deeper.jsonl")
    assert caught.value.exit_code == 3
    assert outputs(folder) == known.old


@pytest.mark.parametrize(
    ("rows", "options", "code"),
    [
        (rollouts("new"), {"reward_threshold": 2.0}, None),
        ("", {}, None),
        (rollouts("new"), {"keep": ("nope",)}, 2),
        ("no rollout\n" * 5, {}, 3),
        (rollouts("new") + "no rollout\n", {}, 3),
    ],
    ids=["nothing is good enough", "nothing to read", "no such rule", "no rollouts", "too many bad lines"],
)
def test_failing_runs_leave_the_old_output(rows: str, options: dict[str, Any], code: int | None, folder: Path, known: Known) -> None:
    if code is None:
        run(folder, rows, **options)
    else:
        with pytest.raises(RolloutETLError) as caught:
            run(folder, rows, **options)
        assert caught.value.exit_code == code
    assert outputs(folder) == known.old


def test_the_manifest_tells_what_was_written(folder: Path) -> None:
    run(folder, rollouts("new"))
    manifest = json.loads((folder / OUTPUTS[2]).read_bytes())
    for written in manifest["outputs"]:
        data = Path(written["path"]).read_bytes()
        assert (written["bytes"], written["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert manifest["outputs"][0]["rows"] == 40
