"""The prompt of `rollout-etl sql INPUT...`: statements over several lines, history, completion, commands that begin with a dot.

Ctrl-C discards the current input or stops the running query; Ctrl-D leaves.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import sys
from pathlib import Path
from typing import Any

from rollout_etl.errors import ExitCode, RolloutETLError, UsageError
from rollout_etl.explore import library
from rollout_etl.explore.interrupt import Interrupts
from rollout_etl.explore.output import Shown, show
from rollout_etl.explore.session import Session, plain_errors
from rollout_etl.plain_text import counted, plain

PROMPT, CONTINUED = "sql> ", "...> "
_CLOSED = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/|\$(\w*)\$.*?\$\1\$", re.DOTALL)
_KEYWORDS = (  # noqa: SIM905
    "SELECT FROM WHERE GROUP BY ALL ORDER LIMIT HAVING QUALIFY JOIN LEFT USING ON AS AND OR NOT NULL IS IN BETWEEN LIKE CASE WHEN THEN ELSE END WITH UNION "
    "DISTINCT DESC ASC count avg sum min max median quantile_cont stddev_samp corr list unnest regexp_matches json_extract DESCRIBE SUMMARIZE EXPLAIN"
).split()
_HELP = """\
A statement ends with ; and may span several lines. Tab completes views, columns and keywords; up and down recall earlier statements.
Ctrl-C discards the input or stops the query, Ctrl-D leaves.
  .views              the views, and what one row of each is
  .columns VIEW       columns of a view
  .queries            named queries and their parameters
  .query NAME [P=V]   run a named query
  .read FILE          run the statements of a file
  .format FORMAT      table, markdown, csv or jsonl
  .limit ROWS         rows to show; 0: all
  .quit               leave"""


class Shell:
    """The interactive prompt of a session."""

    def __init__(self, session: Session, how: Shown, interrupts: Interrupts) -> None:
        self._session, self._how, self._interrupts = session, how, interrupts
        self._columns = session.columns()

    def run(self) -> ExitCode:
        """Run statements until the user leaves."""
        readline = _line_editor(self._complete)
        rollouts, files = self._session.connection.execute("SELECT count(*), count(DISTINCT source) FROM rollouts").fetchall()[0]
        print(f"{counted(rollouts, 'rollout')} of {counted(files, 'file')}. Views: {', '.join(library.VIEWS)}. .help lists commands.")
        for note in self._session.notes:
            print(plain(f"note: {note}"))
        typed = ""
        while True:
            try:
                with self._interrupts.let_through():
                    line = input(CONTINUED if typed else PROMPT)
            except EOFError:
                print()
                break
            except KeyboardInterrupt:
                print("^C")
                typed = ""
                continue
            if not typed and line.lstrip().startswith("."):
                _remember(readline, line)
                if line.split()[0] in (".quit", ".exit"):
                    break
                self._guarded(self._command, line)
                continue
            typed = f"{typed}\n{line}" if typed else line
            if not typed.strip():
                typed = ""
            elif is_complete(typed):
                _remember(readline, typed)
                self._guarded(self._ask, typed)
                typed = ""
        _save_history(readline)
        return ExitCode.DONE

    def _guarded(self, action: Any, text: str) -> None:
        try:
            action(text)
        except RolloutETLError as error:
            print(plain(f"error: {error}"))
        except KeyboardInterrupt:
            print("stopped")
        except OSError as error:
            print(plain(f"error: {error.strerror or error}"))

    def _ask(self, sql: str, values: dict[str, Any] | None = None, *, whole: bool = False) -> None:
        width = os.get_terminal_size().columns if sys.stdout.isatty() else None
        how = dataclasses.replace(self._how, width=width, rows=None if whole else self._how.rows)
        for result in self._session.run(sql, values):
            with plain_errors():
                note = show(result, sys.stdout, how)
            if note:
                print(f"({note.replace('--limit', '.limit')})")
        self._columns = self._session.columns()

    def _command(self, line: str) -> None:
        name, *words = line.split()
        commands = {
            ".help": self._help, ".views": self._views, ".columns": self._describe, ".queries": self._queries, ".query": self._query,
            ".read": self._read, ".format": self._format, ".limit": self._limit,
        }  # fmt: skip
        if name not in commands:
            raise UsageError(f"no command {name}; .help lists them")
        commands[name](words)

    def _help(self, words: list[str]) -> None:
        print(_HELP)

    def _views(self, words: list[str]) -> None:
        for name in library.VIEWS:
            print(library.view(name).split("\n", 1)[0].removeprefix("-- "))

    def _describe(self, words: list[str]) -> None:
        if not words or words[0] not in self._columns:
            raise UsageError(f"name a view: .columns {'|'.join(library.VIEWS)}")
        print(library.view(words[0]).split("CREATE ", 1)[0] if words[0] in library.VIEWS else "", end="")
        self._ask(f'DESCRIBE "{words[0]}"', whole=True)

    def _queries(self, words: list[str]) -> None:
        for name in library.query_names():
            query = library.query(name)
            given = " ".join(f"{parameter.name}={parameter.default}" for parameter in query.parameters)
            print(f"{name:22} {query.answers}" + (f" ({given})" if given else ""))

    def _query(self, words: list[str]) -> None:
        if not words or not all("=" in word for word in words[1:]):
            raise UsageError("name a query, then its parameters: .query pass_at_k k=4")
        query = library.query(words[0])
        self._ask(query.sql, query.values_of(dict(word.split("=", 1) for word in words[1:])))

    def _read(self, words: list[str]) -> None:
        if len(words) != 1:
            raise UsageError("name a file: .read my.sql")
        try:
            text = Path(words[0]).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise UsageError(f"cannot read {words[0]}: not UTF-8") from error
        self._ask(text)

    def _format(self, words: list[str]) -> None:
        if len(words) != 1 or words[0] not in ("table", "markdown", "csv", "jsonl"):
            raise UsageError("formats are table, markdown, csv and jsonl")
        self._how = dataclasses.replace(self._how, format=words[0])

    def _limit(self, words: list[str]) -> None:
        if len(words) != 1 or not words[0].isdecimal():
            raise UsageError("name a number of rows: .limit 100; 0 shows all")
        self._how = dataclasses.replace(self._how, rows=int(words[0]) or None)

    def _complete(self, text: str) -> list[str]:
        """Possible completions of `text`."""
        view, dot, start = text.rpartition(".")
        if text.startswith("."):
            names = [".help", ".views", ".columns", ".queries", ".query", ".read", ".format", ".limit", ".quit"]
        elif dot:
            names = [f"{view}.{name}" for name in self._columns.get(view, [])]
        else:
            names = [*self._columns, *(name for columns in self._columns.values() for name in columns), *library.query_names()]
            names += [word if start[:1].isupper() else word.lower() for word in _KEYWORDS]
        return sorted({name for name in names if name.startswith(text)})


def is_complete(text: str) -> bool:
    """Whether the last statement of a text is complete: it ends with a semicolon outside of strings and comments."""
    rest = _CLOSED.sub(lambda closed: "" if closed[0].startswith(("--", "/*")) else "x", text)
    return rest.rstrip().endswith(";") and not re.search(r"['\"]|/\*", rest)


def _history_file() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "rollout-etl" / "sql_history"


def _line_editor(complete: Any) -> Any:
    """The readline module with history and completion, None if Python has none."""
    try:
        import readline
    except ImportError:
        return None
    matches: list[str] = []

    def next_match(text: str, state: int) -> str | None:
        if state == 0:
            matches[:] = complete(text)
        return matches[state] if state < len(matches) else None

    readline.set_completer(next_match)
    readline.set_completer_delims(" \t\n,;()[]=<>+-*/'\"|")
    readline.parse_and_bind("bind ^I rl_complete" if "libedit" in (readline.__doc__ or "") else "tab: complete")
    readline.set_auto_history(False)
    with contextlib.suppress(OSError):
        readline.read_history_file(_history_file())
    return readline


def _remember(readline: Any, text: str) -> None:
    """Add a statement to the history as one entry: a line of the history file."""
    if readline is not None:
        without = _CLOSED.sub(lambda closed: "" if closed[0].startswith("--") else closed[0], text)
        readline.add_history(" ".join(without.split("\n")))


def _save_history(readline: Any) -> None:
    if readline is not None:
        with contextlib.suppress(OSError):
            _history_file().parent.mkdir(parents=True, exist_ok=True)
            readline.set_history_length(10_000)
            readline.write_history_file(_history_file())
