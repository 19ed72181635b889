"""What the system refuses is one plain line, and what was there before stays: open files, permissions, vanished and growing inputs."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rollout_etl.errors import UnreadableError
from rollout_etl.read import scan
from rollout_etl.recipes.options import DpoOptions
from rollout_etl.run.execute import Run, execute
from tests.command import COMMAND


def row(prompt: int, attempt: int) -> str:
    found: dict[str, Any] = {
        "responses_create_params": {"input": f"Problem {prompt}?"},
        "response": {"output": [{"type": "message", "role": "assistant", "content": f"Answer {attempt}"}]},
        "reward": float(attempt % 2),
    }
    return json.dumps(found) + "\n"


def limited(folder: Path, files: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A run that may have so many files open."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    return subprocess.run(
        [COMMAND, *arguments], cwd=folder, capture_output=True, text=True, timeout=300,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, min(files, before[1]))),
    )


@pytest.mark.parametrize("recipe", ["sft", "dpo"])
def test_thousands_of_files_need_few_open_at_a_time(recipe: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(5000):
        (tmp_path / "in" / f"{number:04}.jsonl").write_text(row(number // 2, number))
    done = limited(tmp_path, 256, recipe, "in", "-o", "out.jsonl", "--group-by", "responses_create_params.input", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 2500


def test_too_many_shards_for_the_system(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text("".join(row(number, 1) for number in range(400)))
    assert limited(tmp_path, 1000, "sft", "in.jsonl", "--format", "simple", "-o", "out/", "--shards", "2", "--quiet").returncode == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    done = limited(tmp_path, 128, "sft", "in.jsonl", "--format", "simple", "-o", "out/", "--shards", "300", "--quiet")
    assert done.returncode == 3
    assert done.stderr.startswith("rollout-etl: cannot write ") and "Too many open files" in done.stderr and done.stderr.count("\n") == 1
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="this system has no folder that nobody can write to")
@pytest.mark.parametrize(
    ("command", "place"),
    [
        (["sft", "-o"], "/proc/out.jsonl"), (["sft", "-o", "ok.jsonl", "--profile"], "/proc/profile.json"), (["sft", "-o", "ok.jsonl", "--quarantine"], "/proc/bad.jsonl"),
        (["ingest", "-o"], "/proc/out"), (["ingest", "--database"], "/proc/out.duckdb"), (["stats", "--html"], "/proc/out.html"), (["merge", "-o"], "/proc/out.jsonl"),
        (["sql", "SELECT 1", "-o"], "/proc/out.csv"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_place_that_cannot_be_written_to(command: list[str], place: str, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(row(0, 1))
    name, *options = command
    done = subprocess.run([COMMAND, name, "in.jsonl", *options, place], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 3
    assert done.stderr.startswith(f"rollout-etl: cannot write {place}: No such file or directory") and done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def shorten(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def garble(path: Path) -> None:
    """The last rows are no JSON any more."""
    text = path.read_bytes()
    path.write_bytes(text[:-2000] + b"x" * 1999 + b"\n")


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_text("not JSON\n" * 4000)
    os.replace(other, path)


@pytest.mark.parametrize(("change", "said"), [(Path.unlink, "in.jsonl"), (shorten, "changed while it was being read"), (garble, "changed while it was being read"), (replace, "changed while it was being read")])
def test_inputs_that_change_between_two_passes_are_named(
    change: Callable[[Path], None], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(row(prompt, attempt) for prompt in range(500) for attempt in range(4)))
    output.write_text("old")
    second_pass, once = scan.batches_at, threading.Event()

    def changing(*arguments: Any) -> Any:
        if not once.is_set():
            once.set()
            change(source)
        return second_pass(*arguments)

    monkeypatch.setattr(scan, "batches_at", changing)
    with pytest.raises(UnreadableError, match=said):
        execute(Run(inputs=[str(source)], output=output, options=DpoOptions()))
    assert output.read_text() == "old"
