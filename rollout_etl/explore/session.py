"""A DuckDB session over rollouts: the views of `sql/`, locked by default."""

from __future__ import annotations

import atexit
import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from rollout_etl.errors import UsageError
from rollout_etl.explore import ingested, library, safety
from rollout_etl.explore.safety import Limits
from rollout_etl.nearest import did_you_mean
from rollout_etl.option_values import check_fraction
from rollout_etl.plain_text import quoted_name
from rollout_etl.publish.files import refuse_place
from rollout_etl.read.inputs import each_path, find_inputs, searched_note
from rollout_etl.read.stored import is_stored

if TYPE_CHECKING:
    from rollout_etl.read.canonical import Lookup
    from rollout_etl.read.scan import Paths

NOT_READ = "was not read"
"""Part of the error for evaluating a column that was not read."""
_WITHOUT_RESULT = {"CREATE", "SET", "PREPARE", "LOAD"}
"""Types of statements without a result to fetch."""
_ZONED = "TIMESTAMP WITH TIME ZONE"
_FILE = re.compile(r"Table with name (\S*[/.]\S*) does not exist")


class Session:
    """A connection with the views over rollouts, and the rules for what queries may do.

    Folders that `ingest` wrote are queried in place. Other files are read once when the session opens: completely or, with `only_for`,
    only the columns that those statements need. Raises `RolloutETLError` for paths and files that cannot be read.
    """

    def __init__(
        self, paths: Paths, *, limits: Limits | None = None, only_for: str | None = None, values: Mapping[str, Any] | None = None,
        lookup: Lookup | None = None, task_inputs: str | None = None, max_bad_fraction: float = 0.01,
    ) -> None:
        self.limits = limits or Limits()
        self._paths, self._lookup, self._task_inputs = each_path(paths), lookup, task_inputs
        self._inputs, self.notes = find_inputs(self._paths)
        self._max_bad_fraction = max_bad_fraction
        self._stored = ingested.stored_in(self._inputs)
        if self._stored and (task_inputs is not None or (lookup is not None and lookup.paths)):
            raise UsageError("keys and ground truth of ingested rollouts are fixed: give --group-by, --ground-truth-field and --task-inputs to ingest")
        self._temporary = tempfile.mkdtemp(prefix="rollout-etl-")
        # Connections are handed to the caller, and may live as long as the process.
        atexit.register(shutil.rmtree, self._temporary, ignore_errors=True)
        try:
            self._open(None if only_for is None or self._stored else self._columns_for(only_for, values or {}))
        except BaseException:
            # The command ends without the clean-up at exit.
            shutil.rmtree(self._temporary, ignore_errors=True)
            raise

    def _columns_for(self, sql: str, values: Mapping[str, Any]) -> list[str] | None:
        from rollout_etl.explore.canonical_table import needed_columns

        with plain_errors():
            return needed_columns(safety.statements(duckdb, sql), values)

    def _open(self, columns: list[str] | None) -> None:
        self._narrow = columns is not None
        self.connection = duckdb.connect(config={"python_enable_replacements": self.limits.unsafe})
        safety.apply_limits(self.connection, self.limits, self._temporary)
        if self._stored:
            # The reader is neither needed nor imported: the answer is there before Polars would be loaded.
            ingested.create_tables(self.connection, self._stored)
        else:
            self._fill(columns)
        for name in library.VIEWS:
            self.connection.execute(library.view(name))
        if not self.limits.unsafe:
            safety.lock(self.connection, [path for folder in self._stored for path in folder.files])

    def _fill(self, columns: list[str] | None) -> None:
        from rollout_etl.explore.canonical_table import fill
        from rollout_etl.named_fields import looked_up
        from rollout_etl.read.scan import Rollouts

        rollouts = Rollouts(self._paths, lookup=self._lookup, task_inputs=self._task_inputs, threads=self.limits.threads)
        fill(self.connection, rollouts, columns, self._max_bad_fraction)
        self.notes = [*rollouts.notes, *looked_up(rollouts)]

    def run(self, sql: str, values: Mapping[str, Any] | None = None, *, as_relation: bool = False) -> Iterator[Any]:
        """Run the statements of a text in turn, and yield the connection after each that has a result to fetch; with `as_relation`
        a relation instead, which has not run yet and returns Arrow batches.

        `values` are bound to `$name` and to `getvariable('name')`. Raises `UsageError` for statements that are refused or are not SQL.
        """
        with plain_errors():
            parsed = safety.statements(self.connection, sql)
        for statement in parsed:
            if not self.limits.unsafe:
                with plain_errors():
                    safety.check(self.connection, statement)
            with plain_errors():
                self._set(values or {})
                bound = {name: value for name, value in (values or {}).items() if name in statement.named_parameters}
                missing = sorted(set(statement.named_parameters) - set(bound))
                if missing and not missing[0].isidentifier():
                    raise UsageError(f"no value for ${missing[0]}: name the parameter, as in $name, and give it with --set name=VALUE")
                if missing:
                    raise UsageError(f"no value for ${missing[0]}: give it with --set {missing[0]}=VALUE")
                if as_relation and statement.type.name in ("SELECT", "MULTI"):
                    yield self.connection.sql(statement, params=bound or None)
                    continue
                self._execute(statement, bound, values or {})
            if self.connection.description is not None and statement.type.name not in _WITHOUT_RESULT:
                yield self.connection

    def count_results(self, sql: str) -> int:
        """How many statements of a text have a result. Raises `UsageError` for a text that is not SQL."""
        with plain_errors():
            return sum(statement.type.name not in _WITHOUT_RESULT for statement in safety.statements(self.connection, sql))

    def _execute(self, statement: Any, bound: dict[str, Any], values: Mapping[str, Any]) -> None:
        try:
            self.connection.execute(self._with_zones_as_text(statement, bound), bound or None)
        except duckdb.Error as error:
            if not (self._narrow and NOT_READ in str(error)):
                raise
            # The plan over an empty table missed a column, so read all columns.
            self.connection.close()
            self._open(None)
            self._set(values)
            self.connection.execute(self._with_zones_as_text(statement, bound), bound or None)

    def _with_zones_as_text(self, statement: Any, bound: dict[str, Any]) -> Any:
        """The statement, with zoned timestamps of its result as text: their Python values would need an extra package."""
        if statement.type.name != "SELECT":
            return statement
        query = f"({statement.query.rstrip().rstrip(';')}\n)"
        try:
            described = self.connection.execute(f"DESCRIBE SELECT * FROM {query}", bound or None).fetchall()
        except (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException):
            # What is wrong with the statement itself is said when it runs.
            return statement
        kinds = [str(column[1]) for column in described]
        if not any(_ZONED in kind for kind in kinds):
            return statement
        casts = ["{}" if _ZONED not in kind else "{}::VARCHAR" if kind == _ZONED else "to_json({})" for kind in kinds]
        selected = ", ".join(f"{cast.format(f'v{number}')} AS {quoted_name(described[number][0])}" for number, cast in enumerate(casts))
        names = ", ".join(f"v{number}" for number in range(len(kinds)))
        return f"SELECT {selected} FROM {query} AS found({names})"

    def _set(self, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            if not name.isidentifier():
                raise UsageError(f"--set {name}: a parameter is a name of letters, digits and underscores")
            self.connection.execute(f"SET VARIABLE {name} = $value", {"value": value})

    def refuse_overwriting(self, path: Path) -> None:
        """Raise `UsageError` for an output that is an input, or is inside an ingested folder."""
        refuse_place(path, (item.local_path for item in self._inputs))
        if is_stored(str(path.parent)):
            raise UsageError(f"{path} would be inside an ingested folder; name another folder")

    def searched_note(self, output: Path) -> list[str]:
        """A note for an output that a search for the same inputs will find."""
        return searched_note(self._paths, output)

    def columns(self) -> dict[str, list[str]]:
        """Columns of each view, and of everything created in the session, for completion and `.columns`."""
        listed = """SELECT table_name, list(column_name ORDER BY column_index) FROM duckdb_columns()
            WHERE NOT internal AND table_name NOT IN ('canonical', 'canonical_read', 'quarantined') GROUP BY table_name"""
        # A cursor would not see temporary ones.
        return dict(self.connection.execute(listed).fetchall())

    def close(self) -> None:
        """Close the connection and remove temporary files."""
        self.connection.close()
        shutil.rmtree(self._temporary, ignore_errors=True)


def refuse_unused(sql: str, values: Mapping[str, Any]) -> None:
    """Raise `UsageError` for a value that the statements do not use."""
    with plain_errors():
        used = {name for statement in safety.statements(duckdb, sql) for name in statement.named_parameters}
    for name in values:
        if name not in used and not ("getvariable" in sql.lower() and name in sql):
            raise UsageError(f"--set {name}: the query has no ${name}{did_you_mean(name, used)}")


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """Turns DuckDB's errors into `UsageError` with one plain line, and an interrupted query into `KeyboardInterrupt`."""
    try:
        yield
    except duckdb.InterruptException as error:
        raise KeyboardInterrupt from error
    except duckdb.Error as error:
        raise UsageError(plain_message(error)) from error
    except RuntimeError as error:
        # What DuckDB raises after Ctrl-C.
        if "interrupted" in str(error).lower():
            raise KeyboardInterrupt from error
        raise


def plain_message(error: Exception) -> str:
    """DuckDB's message in one line, with the way out if the lock refused."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.lstrip().startswith(("LINE ", "^"))]
    message = " ".join(lines) or type(error).__name__
    file = _FILE.search(message)
    if file:
        return f"refused: {file[1]} is not a view, and only the inputs can be read; --unsafe allows other files"
    if "disabled by configuration" in message or "disabled through configuration" in message or "has been locked" in message:
        return f"refused: {message.split(': ', 1)[-1]}; queries only read the rollouts; --unsafe allows it"
    return message


def connect(
    paths: Paths, *, unsafe: bool = False, memory: str | None = None, threads: int | None = None, max_bad_fraction: float = 0.01
) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection with the views over rollouts: `rollouts`, `groups`, `messages`, `tool_calls`, `metrics`, `pairs`, ...

    Use DuckDB's own methods on the results: `.pl()`, `.to_arrow_table()`, `.df()`. Folders that `rollout-etl ingest` wrote are queried in
    place; other inputs are read once, now. Queries cannot use other files, the network, extensions and settings unless `unsafe`, which
    queries over data frames of a notebook also need. Raises `UsageError` and `UnreadableError` as the command line does.
    """
    check_fraction("max_bad_fraction", max_bad_fraction)
    return Session(paths, limits=Limits(unsafe=unsafe, memory=memory, threads=threads), max_bad_fraction=max_bad_fraction).connection
