"""The command `sql`, which queries rollouts."""

from __future__ import annotations

import os
import re
import shutil
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rollout_etl.cli import options as o
from rollout_etl.cli.runner import guarded, use_threads
from rollout_etl.cli.talk import TALK, heard
from rollout_etl.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from rollout_etl.explore.output import Shown
    from rollout_etl.explore.session import Session
    from rollout_etl.read.canonical import Lookup

_STATEMENT = re.compile(
    r"(\s|--[^\n]*\n|/\*(?s:.*?)\*/)*\(*\s*(select|from|with|values|explain|describe|desc|show|summarize|pivot|unpivot|create|copy|attach|detach|install|load|set|reset|pragma|"
    r"call|insert|update|delete|drop|alter|export|import|use|vacuum|checkpoint|begin|prepare|execute|merge|truncate|comment|analyze|table)\b(?![./\\])",
    re.IGNORECASE,
)


class FormatName(StrEnum):
    table = "table"
    csv = "csv"
    jsonl = "jsonl"
    parquet = "parquet"
    markdown = "markdown"


Memory = Annotated[
    str | None, typer.Option("--memory", metavar="SIZE", help="Use at most this much memory, as in 4GB; the rest goes to disk.", show_default="80% of all")
]


def sql(
    inputs: Annotated[
        list[str] | None, typer.Argument(metavar="INPUT... ['SELECT ...']", help="Files, folders, globs or URLs, followed by the query.", show_default=False)
    ] = None,
    file: Annotated[str | None, typer.Option("-f", "--file", metavar="FILE", help="Read the query from a file; - is standard input.")] = None,
    query: Annotated[str | None, typer.Option("--query", metavar="NAME", help="Run a named query.")] = None,
    values: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Set the parameter $NAME.", show_default=False)] = None,
    queries: Annotated[bool, typer.Option("--queries", help="List the named queries.")] = False,
    format: Annotated[FormatName | None, typer.Option("--format", help="Format of the result.", show_default="table, or by the suffix of FILE")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write the result here.", show_default=False)] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=0, help="Rows to show in a table or markdown; 0: all.", show_default="40")] = None,
    group_by: o.GroupBy = None,
    ground_truth_field: o.GroundTruthField = None,
    task_inputs: o.TaskInputs = None,
    memory: Memory = None,
    threads: o.Threads = None,
    max_bad_fraction: o.MaxBadFraction = 0.01,
    unsafe: Annotated[bool, typer.Option("--unsafe", help="Let queries read and write any file, load extensions and change settings.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Do not print notes, only results and errors.")] = False,
) -> None:
    """Query rollouts with SQL; without a query, open a prompt."""

    def run() -> ExitCode:
        if queries:
            if inputs or any(one is not None for one in (file, query, values, format, output, limit)):
                raise UsageError("--queries only lists the named queries: leave everything else out, and run one with --query NAME")
            _list_queries()
            return ExitCode.DONE
        paths, question = _divided(inputs or [], file, query)
        use_threads(threads)

        from rollout_etl.explore import library
        from rollout_etl.explore.interrupt import Interrupts
        from rollout_etl.explore.safety import Limits
        from rollout_etl.explore.session import Session, refuse_unused
        from rollout_etl.read.inputs import find_inputs

        given = _pairs(values or [])
        if query is not None:
            named = library.query(query)
            question, bound = named.sql, named.values_of(given)
        else:
            bound = {name: library.value_of(text) for name, text in given.items()}
        if question is None:
            # A misspelt query looks like another path.
            find_inputs(paths)
        if question is None and not sys.stdin.isatty():
            question = sys.stdin.read()
            if not question.strip():
                raise UsageError("no query: give it after the inputs, with -f FILE or --query NAME, or on standard input")
        how = _shown(format, output, limit)
        if question is None and (output is not None or given):
            raise UsageError(f"{'-o' if output is not None else '--set'} is for a query: give it after the inputs, with -f FILE or --query NAME")
        if unsafe and not quiet:
            TALK.note("--unsafe: queries can read and write any of your files")
        limits = Limits(unsafe=unsafe, memory=memory, threads=threads)
        # DuckDB starts threads when it is first used. A thread from before this would get Ctrl-C, and the query would not hear of it.
        with Interrupts() as interrupts:
            if question is not None:
                refuse_unused(question, bound)
            session = Session(
                paths, limits=limits, only_for=question, values=bound, lookup=_lookup(ground_truth_field, group_by), task_inputs=task_inputs,
                max_bad_fraction=max_bad_fraction,
            )
            interrupts.session = session
            session.notes = [] if quiet else session.notes
            try:
                if question is None:
                    from rollout_etl.explore.shell import Shell

                    return Shell(session, how, interrupts).run()
                return _answer(session, question, bound, how, output, quiet)
            finally:
                session.close()

    guarded(run)


def _divided(inputs: list[str], file: str | None, query: str | None) -> tuple[list[str], str | None]:
    """Paths, and the query if there is one among the arguments or in a file."""
    if inputs and not inputs[-1].strip():
        raise UsageError("the query is empty")
    asked = inputs[-1] if inputs and _STATEMENT.match(inputs[-1]) and not os.path.exists(inputs[-1]) else None
    if sum(one is not None for one in (asked, file, query)) > 1:
        raise UsageError("more than one query: give it after the inputs, with -f FILE, or with --query NAME")
    paths = inputs if asked is None else inputs[:-1]
    if not paths:
        raise UsageError("no input given: name files, folders or globs before the query")
    if file == "-":
        return paths, sys.stdin.read()
    if file is not None:
        try:
            return paths, Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"cannot read {file}: {getattr(error, 'strerror', None) or 'not UTF-8'}") from error
    return paths, asked


def _lookup(ground_truth_field: str | None, group_by: str | None) -> Lookup | None:
    """None if no option asks for it: ingested folders are queried without the reader, which takes a while to import."""
    if ground_truth_field is None and group_by is None:
        return None
    from rollout_etl.read.canonical import Lookup

    return Lookup.spelt(ground_truth_field, group_by)


def _pairs(values: list[str]) -> dict[str, str]:
    for value in values:
        if "=" not in value:
            raise UsageError(f"--set {value}: write NAME=VALUE")
    return dict(value.split("=", 1) for value in values)


def _shown(format: str | None, output: Path | None, limit: int | None) -> Shown:
    from rollout_etl.explore.output import CUT, SUFFIXES, Shown

    name = str(format) if format else SUFFIXES.get(output.suffix, "") if output else "table"
    if not name:
        raise UsageError(f"{output}: name the format with --format, or end the file name with {', '.join(SUFFIXES)}")
    if limit is not None and name not in CUT:
        raise UsageError(f"--limit is for {' and '.join(CUT)}, and {name} holds all rows: write LIMIT in the query")
    screen = output is None and sys.stdout.isatty()
    return Shown(name, rows=Shown.rows if limit is None else limit or None, width=shutil.get_terminal_size().columns if screen else None, screen=screen)


def _answer(session: Session, question: str, bound: dict[str, Any], how: Shown, output: Path | None, quiet: bool) -> ExitCode:
    from rollout_etl.explore.output import CUT, show, write
    from rollout_etl.explore.session import plain_errors

    if output is not None:
        session.refuse_overwriting(output)
    if output is not None or how.format not in CUT:
        _refuse_other_than_one(session.count_results(question), str(output or how.format))
    notes = list(session.notes)
    results = session.run(question, bound, as_relation=how.format == "parquet" and output is not None)
    for number, result in enumerate(results):
        if number:
            print()
        # Most of a result is computed while it is fetched.
        with plain_errors():
            if output is None:
                note = show(result, sys.stdout, how)
            else:
                size, note = write(result, output, how)
                notes += [] if quiet else [f"wrote {output} ({size:,} bytes)", *session.searched_note(output)]
        # A truncated result must not look complete, even with --quiet.
        notes += [note] if note else []
    sys.stdout.flush()
    for note in notes:
        TALK.note(note)
    return ExitCode.DONE


def _refuse_other_than_one(results: int, place: str) -> None:
    """Check before any query runs, so that an existing file stays unchanged."""
    if results > 1:
        raise UsageError(f"the query has several results, but {place} holds one: run them one by one")
    if not results:
        raise UsageError(f"the query has no result to write to {place}")


def _list_queries() -> None:
    from rollout_etl.explore import library

    for name in library.query_names():
        query = library.query(name)
        print(f"{name:22} {query.answers}")
        for parameter in query.parameters:
            print(f"{'':22}   --set {parameter.name}={parameter.default}: {parameter.meaning}")


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("sql")(heard(sql))
