"""Outputs appear whole or not at all: full disks, failures at every step of publishing."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rollout_etl.errors import RolloutETLError, WriteError
from rollout_etl.publish.outputs import RowsFile
from tests.command import COMMAND
from tests.publishing import OUTPUTS, Known, files, finished, outputs, rollouts, run, sft


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
    code, said = finished(sft(tmp_path, rows, output, ["sh", "-c", 'ulimit -f 8; exec "$@" --format simple', "sh", COMMAND]))
    assert code == 3
    assert said.startswith(f"rollout-etl: cannot write {output}: ")
    assert said.endswith("; what was there before is untouched\n")
    assert said.count("\n") == 1
    assert outputs(tmp_path) == {output: b"old"}


def test_missing_folder_is_made(tmp_path: Path) -> None:
    run(tmp_path, rollouts("new"), tmp_path / "a" / "b" / "out.jsonl")
    assert set(files(tmp_path / "a" / "b")) == set(OUTPUTS)


def test_manifest_is_last(laid_out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[tuple[str, bool]] = []
    replace = os.replace

    def recorded(source: Path, target: Path) -> None:
        whole = Path(source).stat().st_size > 0
        moved.append((Path(target).name, whole))
        replace(source, target)

    monkeypatch.setattr(os, "replace", recorded)
    run(laid_out, rollouts("new"))
    assert moved == [(name, True) for name in OUTPUTS]


@pytest.mark.parametrize("step", [1, 2, 3])
def test_moving_fails(step: int, laid_out: Path, monkeypatch: pytest.MonkeyPatch, known: Known) -> None:
    replace, calls = os.replace, 0

    def failing(source: Path, target: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == step:
            raise PermissionError(13, "Permission denied")
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(WriteError, match="Permission denied"):
        run(laid_out, rollouts("new"))
    found = outputs(laid_out)
    assert set(found) == set(OUTPUTS)
    assert [found[name] == known.old[name] for name in OUTPUTS[step - 1 :]] == [True] * (4 - step)


@pytest.mark.parametrize("name", ["fsync", "write"])
def test_writing_fails(name: str, laid_out: Path, monkeypatch: pytest.MonkeyPatch, known: Known) -> None:
    def failing(*arguments: Any, **options: Any) -> None:
        raise OSError(5, "Input/output error")

    if name == "fsync":
        monkeypatch.setattr(os, "fsync", failing)
    else:
        monkeypatch.setattr(RowsFile, "append", failing)
    with pytest.raises((WriteError, OSError), match="Input/output error"):
        run(laid_out, rollouts("new"))
    assert outputs(laid_out) == known.old


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_permission_denied(laid_out: Path) -> None:
    locked = laid_out / "locked"
    locked.mkdir(mode=0o500)
    with pytest.raises(WriteError, match="Permission denied") as caught:
        run(laid_out, rollouts("new"), locked / "out.jsonl")
    assert caught.value.exit_code == 3


def test_a_file_where_a_folder_should_be(laid_out: Path, known: Known) -> None:
    with pytest.raises(WriteError, match=r"Not a directory|File exists") as caught:
        run(laid_out, rollouts("new"), laid_out / "out.jsonl" / "deeper.jsonl")
    assert caught.value.exit_code == 3
    assert outputs(laid_out) == known.old


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
def test_failing_runs_leave_the_old_output(rows: str, options: dict[str, Any], code: int | None, laid_out: Path, known: Known) -> None:
    if code is None:
        run(laid_out, rows, **options)
    else:
        with pytest.raises(RolloutETLError) as caught:
            run(laid_out, rows, **options)
        assert caught.value.exit_code == code
    assert outputs(laid_out) == known.old


def test_the_manifest_tells_what_was_written(laid_out: Path) -> None:
    run(laid_out, rollouts("new"))
    manifest = json.loads((laid_out / OUTPUTS[2]).read_bytes())
    for written in manifest["outputs"]:
        data = Path(written["path"]).read_bytes()
        assert (written["bytes"], written["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert manifest["outputs"][0]["rows"] == 40
