"""What a query may do: read the rollouts, and nothing else.

There are two locks, either of which stops most misuse. The configuration of the database refuses files, the network, extensions and
changes of itself; and only statements that read, or that create something temporary for the session, are run.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rollout_etl.errors import UsageError
from rollout_etl.option_values import check_least, check_values
from rollout_etl.plain_text import quoted

_READING = {"SELECT", "MULTI"}
_EXPLAIN = re.compile(r"\s*EXPLAIN(?:\s+ANALYZE)?(?:\s*\([^()]*\))?\s", re.IGNORECASE)
_TEMPORARY = re.compile(r"\s*CREATE\s+(OR\s+REPLACE\s+)?TEMP(ORARY)?\s+(VIEW|TABLE|MACRO|FUNCTION)\s", re.IGNORECASE)
_COMMENTS = re.compile(r"\A(?:\s|--[^\n]*(?:\n|\Z)|/\*.*?\*/)+", re.DOTALL)
_FIRST_WORD = re.compile(r"[A-Za-z]+")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a session may use."""

    unsafe: bool = False
    """Run any statement, read and write any file, load extensions."""
    memory: str | None = None
    """Memory limit in DuckDB's notation, such as `4GB`; larger intermediate results go to temporary files. None: 80% of the machine's memory."""
    threads: int | None = None

    def __post_init__(self) -> None:
        check_values(self)
        check_least("threads", self.threads)


def statements(connection: Any, sql: str) -> list[Any]:
    """The statements of a text. Raises `duckdb.Error` for a text that is not SQL."""
    return list(connection.extract_statements(sql))


def check(connection: Any, statement: Any) -> None:
    """Raise `UsageError` for a statement that does more than read or create something temporary."""
    kind, text = statement.type.name, without_comments(statement.query)
    if kind in _READING or (kind == "CREATE" and _TEMPORARY.match(text)):
        return
    if kind == "EXPLAIN":
        explained = _EXPLAIN.match(text)
        for inner in statements(connection, text[explained.end() :]) if explained else ():
            check(connection, inner)
        if explained:
            return
    word = _FIRST_WORD.match(text)
    name = word[0].upper() if word else kind
    way = "CREATE TEMP VIEW, TABLE or MACRO creates one for this session" if kind == "CREATE" else "--unsafe allows it"
    raise UsageError(f"{name} is refused: queries only read the rollouts; {way}")


def without_comments(text: str) -> str:
    """The text without leading comments and white space."""
    return _COMMENTS.sub("", text)


def apply_limits(connection: Any, limits: Limits, temporary: str) -> None:
    """Set memory and threads. Raises `UsageError` for a size that DuckDB does not understand."""
    import duckdb

    connection.execute(f"SET temp_directory = {quoted(temporary)}")
    if limits.threads is not None:
        connection.execute(f"SET threads = {int(limits.threads)}")
    if limits.memory is not None:
        try:
            connection.execute(f"SET memory_limit = {quoted(limits.memory)}")
        except duckdb.Error as error:
            raise UsageError(f"--memory {limits.memory} is not a size; write it as in 4GB or 500MB") from error


def lock(connection: Any, readable: Sequence[str]) -> None:
    """Permanently lock the database, except for reading the files `readable`."""
    connection.execute("SET autoinstall_known_extensions = false")
    connection.execute("SET autoload_known_extensions = false")
    connection.execute("SET allow_community_extensions = false")
    if readable:
        connection.execute(f"SET allowed_paths = [{', '.join(quoted(path) for path in readable)}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
