"""The prompt in a real terminal: statements over lines, errors, completion, interrupts, history, leaving."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rollout_etl.explore.shell import is_complete
from tests.command import COMMAND, ROOT

pexpect = pytest.importorskip("pexpect")


class Terminal:
    """The command in a terminal of 100 columns."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        environment = {**os.environ, "XDG_STATE_HOME": str(folder / "state"), "TERM": "dumb", "INPUTRC": "/dev/null", "LC_ALL": "C.UTF-8"}
        self.child = pexpect.spawn(
            COMMAND, ["sql", "rollouts.jsonl", "--max-bad-fraction", "1"], cwd=str(folder), env=environment, encoding="utf-8", timeout=40, dimensions=(40, 100)
        )
        self.child.delaybeforesend = 0.2
        self.child.expect("sql> ")

    def ask(self, *lines: str) -> str:
        """What is shown after the lines were typed."""
        for line in lines:
            self.child.sendline(line)
        # The echo of what was typed goes first.
        self.child.expect_exact(lines[-1][-30:])
        self.child.expect("sql> ")
        shown: str = self.child.before
        return shown


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    shutil.copy(ROOT / "demo" / "rollouts.jsonl", tmp_path)
    terminal = Terminal(tmp_path)
    yield terminal
    terminal.child.close(force=True)


def test_a_session(terminal: Terminal) -> None:
    child, folder = terminal.child, terminal.folder
    assert terminal.ask("SELECT count(*) AS n", "FROM rollouts;").split() == ["n", "--", "48"]
    assert "error: " in (said := terminal.ask("SELECT nope FROM rollouts;"))
    assert "nope" in said
    assert "Traceback" not in said
    assert "COPY is refused" in terminal.ask("COPY rollouts TO 'out.csv';")
    (folder / "latin.sql").write_bytes(b"SELECT '\xe9';")
    assert "error: cannot read latin.sql: not UTF-8" in terminal.ask(".read latin.sql")
    terminal.ask("CREATE TEMP TABLE own AS SELECT 1 AS mine;")
    assert "mine" in terminal.ask(".columns own")
    shown = terminal.ask(".columns rollouts")
    assert "gym_row" in shown and "rows are shown" not in shown
    # Completion of a view, and of a column.
    child.send("FROM quar\t")
    child.expect_exact("antine")
    assert "not JSON" in terminal.ask(";")
    child.send("SELECT max(groups.num_rol\t")
    child.expect_exact("louts")
    assert "4" in terminal.ask(") AS most FROM groups;").split()
    # Ctrl-C stops a query, and the session goes on.
    child.sendline("SELECT count(*) FROM range(1000000000000) a, range(1000) b;")
    time.sleep(2)
    child.sendintr()
    child.expect("stopped")
    child.expect("sql> ")
    assert "42" in terminal.ask("SELECT 41 + 1 AS answer;")
    # Ctrl-C drops what is typed.
    child.sendline("SELECT broken")
    child.expect_exact("...> ")
    child.sendintr()
    child.expect("sql> ")
    assert "43" in terminal.ask("SELECT 42 + 1 AS answer;")
    assert ".columns VIEW" in terminal.ask(".help")
    assert "one row for each tool call" in terminal.ask(".views")
    assert "reward_gap" in terminal.ask(".columns pairs")
    assert "no command .nope" in terminal.ask(".nope")
    child.sendeof()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_history_and_limits(terminal: Terminal, tmp_path: Path) -> None:
    terminal.ask("SELECT 40 -- why", "+ 7 AS answer;")
    assert "only the first 2 rows are shown" in "".join([terminal.ask(".limit 2"), terminal.ask("SELECT row FROM rollouts;")])
    assert '{"a":1}' in "".join([terminal.ask(".format jsonl"), terminal.ask("SELECT 1 AS a;")])
    terminal.child.sendline(".quit")
    terminal.child.expect(pexpect.EOF)
    again = Terminal(tmp_path)
    again.child.send("\x10" * 6)
    again.child.expect_exact("SELECT 40")
    again.child.send("\n")
    again.child.expect("47")
    again.child.close(force=True)


@pytest.mark.parametrize(
    ("text", "complete"),
    [
        ("SELECT 1;", True),
        ("SELECT 1; -- done", True),
        ("SELECT 1; /* done */ ", True),
        ("SELECT ';'", False),
        ("SELECT ';", False),
        ("SELECT 'it''s;", False),
        ('SELECT ";"', False),
        ("SELECT 1 -- ;", False),
        ("SELECT 1 /* ;", False),
        ("SELECT $$;$$", False),
        ("SELECT $$'$$;", True),
        ("", False),
    ],
)
def test_is_complete(text: str, complete: bool) -> None:
    assert is_complete(text) is complete


def test_interrupting_the_command(tmp_path: Path) -> None:
    question = "SELECT count(*) FROM range(1000000000000) a, range(1000) b"
    command = [COMMAND, "sql", str(ROOT / "demo" / "rollouts.jsonl"), "--max-bad-fraction", "1", question]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(4)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=40)[1]
    assert process.returncode == 130
    assert said.splitlines()[-1] == "rollout-etl: interrupted; nothing was published"
    assert "Traceback" not in said
