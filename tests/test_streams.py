"""What is said reaches whoever listens, whatever the standard streams are: of another encoding, closed, full, or read to no end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

from tests.command import COMMAND, DEMO

LOOKING = [["stats", "in.jsonl"], ["show", "in.jsonl"], ["sql", "in.jsonl", "SELECT 'é → 几' AS said"], ["stats", "in.jsonl", "--json"]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lines = [line for line in DEMO.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("}\n")]
    (tmp_path / "in.jsonl").write_text("".join(line.replace("What is", "Qué es → 几") for line in lines), encoding="utf-8")
    return tmp_path


def shell(command: str, folder: Path, **settings: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of a shell in which `rollout-etl` is this one, and which fails where any part of a pipe does."""
    line = f'set -o pipefail; rollout-etl() {{ "{COMMAND}" "$@"; }}; {command}'
    return subprocess.run(["bash", "-c", line], cwd=folder, capture_output=True, timeout=120, env={**os.environ, **settings})


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
@pytest.mark.parametrize("command", LOOKING, ids=" ".join)
def test_a_program_that_reads_gets_utf_8(command: list[str], encoding: str, folder: Path) -> None:
    told = [
        subprocess.run([COMMAND, *command], cwd=folder, capture_output=True, timeout=120, env={**os.environ, "PYTHONIOENCODING": of}) for of in ("utf-8", encoding)
    ]
    assert [done.returncode for done in told] == [0, 0]
    assert told[0].stdout == told[1].stdout and told[0].stdout.isascii() == ("--json" in command)


@pytest.mark.parametrize("command", LOOKING[:3], ids=" ".join)
def test_a_terminal_gets_what_it_has_characters_for(command: list[str], folder: Path) -> None:
    child = pexpect.spawn(COMMAND, command, cwd=str(folder), env={**os.environ, "PYTHONIOENCODING": "ascii"}, timeout=120)
    said, code = child.read(), child.wait()
    assert (code, said.isascii(), b"?" in said) == (0, True, True), (child.signalstatus, said)


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("command", ["stats in.jsonl", "sql in.jsonl 'SELECT 1'", "sft in.jsonl -o out.jsonl", "show in.jsonl", "validate in.jsonl", "--help"])
def test_closed_streams(command: str, closed: str, folder: Path) -> None:
    done = shell(f"rollout-etl {command} {closed}", folder)
    told = shell(f"rollout-etl {command}", folder)
    assert done.returncode == told.returncode
    assert done.stdout == (b"" if ">&-" in closed.split() else told.stdout)
    assert b"Traceback" not in done.stderr and b"internal" not in done.stderr


@pytest.mark.parametrize("command", ["--help", "sft --help", "stats in.jsonl", "stats in.jsonl --json", "show in.jsonl", "sql in.jsonl 'FROM rollouts' --format jsonl"])
def test_a_reader_that_has_seen_enough(command: str, folder: Path) -> None:
    done = shell(f"rollout-etl {command} | true", folder)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
@pytest.mark.parametrize("command", ["--help", "stats in.jsonl", "stats in.jsonl --json", "show in.jsonl", "sql in.jsonl 'SELECT 1'", "sft in.jsonl -o out.jsonl --json -q"])
def test_no_room_for_what_is_said(command: str, folder: Path) -> None:
    done = shell(f"rollout-etl {command} > /dev/full", folder)
    assert done.returncode == 3
    assert done.stderr.startswith(b"rollout-etl: ") and b"No space left on device" in done.stderr and done.stderr.count(b"\n") == 1


def test_streams_of_others_are_left_alone(folder: Path) -> None:
    script = "import io, sys; from rollout_etl.cli import streams; sys.stdout = io.StringIO(); streams.prepare(); streams.flush()"
    assert subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, timeout=60).stderr == b""
