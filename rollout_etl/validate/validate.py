"""Checking every row of a training file against what its trainer loads."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from rollout_etl import targets
from rollout_etl.errors import UnreadableError, UsageError
from rollout_etl.publish.folders import files_of
from rollout_etl.recipes.options import RECIPES, check_recipe
from rollout_etl.targets.target import Missing
from rollout_etl.validate.arrow_types import repeated, type_names, wrong_types
from rollout_etl.validate.checks import checks, checks_together
from rollout_etl.validate.conditions import FIRST, MACROS, Check, Problem, messages_of
from rollout_etl.validate.first_block import first_block, misfits
from rollout_etl.validate.layouts import LAYOUTS, Layout
from rollout_etl.validate.rows import queried


@dataclass
class Verdict:
    """The problems of a file."""

    path: str
    layout: str | None
    rows: int
    problems: list[Problem] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The verdict as JSON values."""
        return asdict(self)


def layouts_of(target: str, recipe: str) -> list[Layout]:
    """Layouts to check a file against. Raises `UsageError` for a trainer that does not load the recipe."""
    dialect = targets.load(target)
    # Older releases of trainers load files that current ones do not, and that no recipe writes.
    check_recipe(recipe, list(dict.fromkeys([*RECIPES, *(name for _, name in LAYOUTS)])))
    found = dialect.LOADERS.get(recipe)
    if (target, recipe) not in LAYOUTS and isinstance(found, Missing):
        raise UsageError(found.why)
    if (target, recipe) not in LAYOUTS and recipe not in RECIPES:
        raise UsageError(f"rollout-etl knows no files for {recipe} of --target {target}")
    if (target, recipe) not in LAYOUTS:
        raise UsageError(f"--target {target} has rows that you define: there is nothing to check them against")
    return list(LAYOUTS[target, recipe])


def validate(path: Path, target: str, recipe: str, templated: bool | None = None, shards: Sequence[Path] | None = None) -> Verdict:
    """Check every row of a file, or of the shards in a folder; with `shards`, only of these shards.

    `templated`: whether OpenRLHF applies a chat template, if that is known. Lines are counted across all shards.
    Raises `UsageError` or `UnreadableError` if the file cannot be read at all.
    """
    layouts = layouts_of(target, recipe)
    if templated is not None and target != "openrlhf":
        raise UsageError("--chat-template is for --target openrlhf: the other trainers always apply one")
    paths = files_of(path) if shards is None else list(shards)
    if not paths[0].name.endswith((".jsonl", ".json", ".jsonl.gz", ".parquet")):
        raise UsageError(f"{paths[0]} must end with .jsonl or .parquet")
    with duckdb.connect() as connection:
        connection.execute(MACROS)
        try:
            return _validated(connection, path, paths, layouts, templated)
        except duckdb.Error as error:
            raise UnreadableError(f"cannot read {path}: {str(error).splitlines()[0]}") from error


def _validated(connection: duckdb.DuckDBPyConnection, path: Path, paths: Sequence[Path], layouts: list[Layout], templated: bool | None) -> Verdict:
    schema = _schema(paths[0]) if paths[0].suffix == ".parquet" else pa.schema([])
    columns, rows, broken = _columns(connection, paths, kinds := type_names(schema))
    verdict = Verdict(str(path), None, rows)
    if broken.rows:
        verdict.problems.append(broken)
    if not rows:
        verdict.problems.append(Problem("no_rows", "the file has no rows", 0))
        return verdict
    layout = _recognised(layouts, columns, kinds)
    if layout is None:
        wanted = " or ".join(", ".join(layout.required) for layout in layouts)
        verdict.problems.append(Problem("columns", f"columns are {', '.join(columns) or 'none'}; wanted: {wanted}", rows))
        return verdict
    verdict.layout = layout.name
    verdict.problems += [Problem("duplicate_key", f"the column {name} occurs more than once", rows) for name in repeated(schema)]
    verdict.problems += [Problem("type", wrong, rows) for wrong in wrong_types(schema, layout)]
    block = first_block(paths) if layout.guessed and paths[0].suffix != ".parquet" else None
    verdict.problems += _of_the_file(connection, paths, layout, columns, kinds, rows, None if block is None else block.last)
    if block is not None:
        verdict.problems += misfits(connection, paths, block)
    asked = list(checks(layout, columns, paths[0].suffix, kinds, templated))
    verdict.problems += _counted(connection, paths, asked)
    return verdict


def _schema(path: Path) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise UnreadableError(f"cannot read {path}: {str(error).splitlines()[0]}") from error


def _columns(connection: duckdb.DuckDBPyConnection, paths: Sequence[Path], kinds: dict[str, str]) -> tuple[list[str], int, Problem]:
    """Columns that at least one row has, the number of rows, and the rows that are not JSON objects."""
    names: dict[str, None] = dict.fromkeys(kinds)
    bad: list[int] = []
    rows = count = 0
    for frame in queried(connection, paths, "SELECT line, json_keys(j) AS keys, j IS NULL AS bad FROM rows"):
        rows += len(frame)
        wrong = frame.filter("bad")["line"]
        count += len(wrong)
        bad += wrong.head(FIRST - len(bad)).to_list()
        names |= dict.fromkeys(frame["keys"].explode().drop_nulls().unique(maintain_order=True).to_list())
    return list(names), rows, Problem("not_json", "is not a JSON object, or holds half of a surrogate pair", count, bad)


def _recognised(layouts: list[Layout], columns: list[str], kinds: dict[str, str]) -> Layout | None:
    for layout in layouts:
        fits = set(layout.required) <= set(columns)
        texts = [column for column in layout.columns if column.kind == "json_messages"]
        if fits and all(kinds.get(column.name) == "string" for column in texts):
            return layout
    return None


def _of_the_file(
    connection: duckdb.DuckDBPyConnection, paths: Sequence[Path], layout: Layout, columns: list[str], kinds: dict[str, str], rows: int,
    last: int | None,
) -> Iterator[Problem]:
    """Problems of the whole file, whose first block ends with line `last`."""
    suffix = paths[0].suffix
    if suffix not in layout.containers:
        yield Problem("container", f"{layout.name} does not load {suffix} files", rows)
    if layout.name == "RolloutSFTDataset" and "tools" not in columns:
        yield Problem("columns", f"there is no column tools, which {layout.name} needs; it may be null", rows)
    for name in columns:
        if name in layout.refused:
            yield Problem("reserved", f"{layout.name}: a column must not be named {name}", rows)
    for name, kind in kinds.items():
        if layout.name == "MultiTurnSFTDataset" and "arrow.json" in kind:
            yield Problem("type", f"{name} is of the type arrow.json, which {layout.name} reads as text", rows)
    if not layout.blank_lines and suffix == ".jsonl":
        with ExitStack() as stack:
            lines = (line for path in paths for line in stack.enter_context(path.open("rb")))
            blank = [number for number, line in enumerate(lines, start=1) if not line.strip()]
        if blank:
            yield Problem("blank_line", "blank lines stop the loader", len(blank), blank[:FIRST])
    asked = list(checks_together(layout, columns, suffix, last))
    if asked:
        conditions = ", ".join(f"coalesce({check.offends}, false) AS c{i}, ({check.place})::BIGINT AS line{i}" for i, check in enumerate(asked))
        found = next(queried(connection, paths, f"SELECT {conditions} FROM rows")).row(0)
        for check, offends, line in zip(asked, found[::2], found[1::2], strict=True):
            if offends:
                yield Problem(check.name, check.meaning, rows, [] if line is None else [line])


def _counted(connection: duckdb.DuckDBPyConnection, paths: Sequence[Path], asked: list[Check]) -> list[Problem]:
    """The problems that at least one row has."""
    conditions = ", ".join(f"coalesce({check.offends}, false) AS c{i}" for i, check in enumerate(asked))
    problems = [Problem(check.name, check.meaning, 0) for check in asked]
    for frame in queried(connection, paths, f"SELECT line, {conditions} FROM rows WHERE j IS NOT NULL"):
        for i, problem in enumerate(problems):
            lines = frame.filter(f"c{i}")["line"].sort()
            problem.rows += len(lines)
            problem.lines = sorted([*problem.lines, *lines.head(FIRST)])[:FIRST]
    return [problem for problem in problems if problem.rows]


def leaked(train: Sequence[Path], validation: Path, layout: Layout) -> Problem:
    """Prompts of the validation file that a training file has as well; lines are those of the validation file."""
    part = messages_of(layout.prompt)
    # In a whole conversation, the prompt is everything before the first answer.
    prompt = f"""CASE WHEN json_type({part}, '$[0]') = 'OBJECT' THEN array_to_string(list_transform(
        list_filter(msgs({part}), lambda m: role(m) IN ('system', 'user', 'developer')), lambda m: concat(m.role, m.content)), ' ') ELSE {part}::VARCHAR END"""
    with duckdb.connect() as connection:
        connection.execute(MACROS)
        query = f"SELECT line, md5({prompt}) AS prompt FROM rows WHERE j IS NOT NULL"
        none = pl.DataFrame(schema={"line": pl.Int64, "prompt": pl.String})
        asked, *seen = (pl.concat([none, *queried(connection, [path], query)]) for path in (validation, *train))
    both = asked.join(pl.concat(seen).select("prompt").unique(), on="prompt", how="semi").sort("line")
    named = train[0] if len(train) == 1 else train[0].parent
    return Problem("leak", f"the prompt also occurs in {named}", len(both), both["line"].head(FIRST).to_list())


def to_text(verdict: Verdict) -> str:
    """The verdict as text."""
    lines = [f"{verdict.path}: {verdict.rows:,} rows, {verdict.layout or 'no known layout'}: {'wrong' if verdict.problems else 'fine'}"]
    for problem in verdict.problems:
        where = f" (first: {', '.join(f'{verdict.path}:{line}' for line in problem.lines[:3])})" if problem.lines else ""
        lines.append(f"  {problem.name}: {problem.meaning}; {problem.rows:,} rows{where}")
    return "\n".join(lines)


def as_json(verdicts: list[Verdict]) -> str:
    """All verdicts as one line of JSON."""
    return json.dumps([verdict.to_json() for verdict in verdicts], ensure_ascii=False)
