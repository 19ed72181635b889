"""The SQL files of the project: the views and the named queries of `sql/`, with their headers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from rollout_etl.errors import UsageError
from rollout_etl.nearest import nearest

VIEWS = ("rollouts", "verdicts", "groups", "messages", "tool_calls", "metrics", "pairs", "drops", "quarantine")
"""The views, each after those that it uses."""
_PARAMETER = re.compile(r"^--   (\w+) = (\S+): (.*)$", re.MULTILINE)


@cache
def folder() -> Path:
    """The folder `sql`: inside the package if installed, next to it in a checkout."""
    installed = Path(__file__).parent.parent / "sql"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "sql"


def view(name: str) -> str:
    """The statement that creates a view, with its header."""
    return (folder() / "views" / f"{name}.sql").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Parameter:
    """A parameter of a named query, which reads it with `getvariable`, and its default."""

    name: str
    default: str
    meaning: str

    def value_of(self, given: str) -> Any:
        """The value of a text, with the type of the default. Raises `UsageError` for a text that is not a number, or a count below 1."""
        default, value = value_of(self.default), value_of(given)
        if isinstance(default, str):
            return given
        if isinstance(value, bool) or not isinstance(value, int | float) or (isinstance(default, int) and not isinstance(value, int)):
            raise UsageError(f"--set {self.name}={given}: {self.name} is {'a whole number' if isinstance(default, int) else 'a number'}, as in {self.default}")
        if isinstance(default, int) and value < 1:
            raise UsageError(f"--set {self.name}={given}: {self.name} is a count, so it must be 1 or more")
        return value


@dataclass(frozen=True)
class Query:
    """A named query."""

    name: str
    answers: str
    parameters: tuple[Parameter, ...]
    sql: str

    def values_of(self, given: dict[str, str]) -> dict[str, Any]:
        """The values of the given parameters. Raises `UsageError` for a name that is not a parameter."""
        known = {parameter.name: parameter for parameter in self.parameters}
        for name in given:
            if name not in known:
                raise UsageError(f"--set {name}: {self.name} has no such parameter; it has {', '.join(known) or 'none'}")
        return {name: known[name].value_of(text) for name, text in given.items()}


def query_names() -> list[str]:
    """Names of the queries, sorted."""
    return sorted(path.stem for path in (folder() / "queries").glob("*.sql"))


def query(name: str) -> Query:
    """A query by its name. Raises `UsageError` for an unknown name, suggesting the nearest."""
    names = query_names()
    if name not in names:
        raise UsageError(f"no query '{name}'; the nearest is {nearest(name, names)}, --queries lists all")
    sql = (folder() / "queries" / f"{name}.sql").read_text(encoding="utf-8")
    title = re.match(rf"-- {name}: (.*)\n", sql)
    if title is None:
        raise UsageError(f"sql/queries/{name}.sql does not begin with '-- {name}: ' and what it answers")
    return Query(name, title[1], tuple(Parameter(*found) for found in _PARAMETER.findall(sql)), sql)


def value_of(text: str) -> Any:
    """A text as a value: integer, number, true, false, null, or the text itself."""
    if re.fullmatch(r"[-+]?\d{1,18}", text):
        return int(text)
    if re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", text):
        return float(text)
    return {"true": True, "false": False, "null": None}.get(text.lower(), text)
