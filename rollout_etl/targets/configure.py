"""A run file for existing data. The data is checked first, so that a mismatch is found here and not in training."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import duckdb
import pyarrow.parquet as pq

from rollout_etl import targets
from rollout_etl.curate.rewards import scale_of
from rollout_etl.errors import UnreadableError, UsageError
from rollout_etl.option_values import check_arguments
from rollout_etl.own_files import begins_as
from rollout_etl.plain_text import quoted
from rollout_etl.publish.files import StagedFile
from rollout_etl.publish.folders import files_of
from rollout_etl.publish.manifests import purpose_of
from rollout_etl.recipes import kto
from rollout_etl.recipes.options import RECIPES, AnyOptions, check_recipe
from rollout_etl.targets.target import Job, Loader, Rows, Settings, Target, companion, loader_of

_ALIKE = ({"dpo", "rm"}, {"grpo", "ppo"})
"""Recipes that choose the same examples."""


@dataclass(frozen=True)
class Configured:
    """The written files, and the command that starts training with them."""

    run_file: Path
    files: Sequence[Path]
    rows: int
    launch: str
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class _Data:
    """A training file or a folder of shards: its columns (those that every row has), and its number of rows."""

    path: Path
    files: Sequence[Path]
    columns: Sequence[str]
    rows: int

    @property
    def container(self) -> str:
        """`.jsonl` or `.parquet`."""
        return self.files[0].suffix

    @property
    def is_folder(self) -> bool:
        """Whether the files are shards."""
        return [*self.files] != [self.path]


def configure(
    recipe: str,
    *,
    target: str,
    train: str | Path,
    validation: str | Path | None = None,
    run_file: str | Path | None = None,
    model: str | None = None,
    reward_scale: str | None = None,
    max_rollout_turns: int | None = None,
    batch: int | None = None,
    layout: Literal["current", "v0.5"] = "current",
) -> Configured:
    """Write the run file of `target` for the data of `recipe` in `train`, a file or a folder of shards. It is put next to the data, unless
    `run_file` is given.

    Raises `UsageError` if the trainer could not use the data.
    """
    check_arguments(configure, locals())
    train, validation = Path(train), None if validation is None else Path(validation)
    check_recipe(recipe)
    targets.check_layout(target, layout)
    scale = None if reward_scale is None else _scale(reward_scale)
    dialect = targets.load(target)
    loader = _loader(dialect, _job(RECIPES[recipe](), train))
    _refuse_settings(dialect, recipe, loader, {"reward_scale": reward_scale, "max_rollout_turns": max_rollout_turns})
    if loader.needs_validation and validation is None:
        raise UsageError(f"{dialect.TITLE} needs a validation file for {recipe}: name one with --val")
    notes = [dialect.check_path(path) for path in (train, validation) if path is not None]
    notes += [_foreign(recipe, path) for path in (train, validation) if path is not None]
    data = _look(train)
    job, rows = _recognised(dialect, recipe, data, layout)
    others = None if validation is None else _look(validation)
    if others is not None:
        if others.path.samefile(data.path):
            notes.append(f"{validation} is the training data as well: what it measures is not new to the model")
        _refuse_missing(dialect, loader, rows, others)
        if others.container != data.container:
            raise UsageError(f"{validation} must end with {data.container}, as {train} does")
    if batch is not None and data.rows < batch:
        raise UsageError(f"{train} has {data.rows} row(s), fewer than one batch of {batch}: lower --batch-size")
    settings = Settings(
        run_file=Path(run_file) if run_file else companion(train, dialect.RUN_SUFFIX),
        train=train,
        rows=data.rows,
        validation=validation,
        validation_rows=others.rows if others else 0,
        model=model,
        reward_scale=scale,
        max_rollout_turns=max_rollout_turns,
        batch=batch,
        shards={found.path: found.files for found in (data, others) if found is not None and found.is_folder},
        statistics=_statistics(job, rows, data),
    )
    return _write(dialect, job, settings, list(dict.fromkeys(note for note in notes if note)))


def _loader(target: Target, job: Job) -> Loader:
    """The loader, for data that exists: another name would not change its format."""
    found = target.LOADERS[job.recipe]
    if isinstance(found, Loader) and job.container in (".jsonl", ".parquet") and job.container not in found.containers:
        raise UsageError(f"{target.TITLE} loads {job.recipe} from {found.containers[0]} only, not {job.output}: write the data again as {found.containers[0]}")
    return loader_of(target, job)


def _foreign(recipe: str, file: Path) -> str | None:
    """A note for data that another recipe wrote: its columns may fit, but the answers in it were not chosen for this one."""
    wrote = purpose_of(file, None, None)[1]
    if wrote not in RECIPES or wrote == recipe or any({wrote, recipe} <= alike for alike in _ALIKE):
        return None
    return f"{file} was written by the recipe {wrote}, according to its manifest: `rollout-etl {recipe}` chooses other answers"


def _look(path: Path) -> _Data:
    """Raises `UsageError` or `UnreadableError` for a file without training rows."""
    files = files_of(path)
    if files[0].suffix not in (".jsonl", ".parquet"):
        raise UsageError(f"{path} must end with .jsonl or .parquet")
    try:
        if files[0].suffix == ".parquet":
            found = _Data(path, files, pq.read_schema(files[0]).names, sum(pq.read_metadata(file).num_rows for file in files))
        else:
            found = _look_at_lines(path, files)
    except (duckdb.Error, OSError, ValueError) as error:
        raise UnreadableError(f"cannot read {path}: {str(error).splitlines()[0].removeprefix('Invalid Input Error: ').strip()}") from error
    if not found.rows:
        raise UsageError(f"{path} has no rows")
    return found


def _job(options: AnyOptions, data: Path, **shape: Any) -> Job:
    return Job(options=options, output=data, shards=files_of(data)[0].suffix if data.is_dir() else None, **shape)  # type: ignore[arg-type]


def _listed(files: Sequence[Path]) -> str:
    return f"[{', '.join(quoted(str(file)) for file in files)}]"


def _look_at_lines(path: Path, files: Sequence[Path]) -> _Data:
    """The keys that all JSON lines have."""
    lines = f"read_json_objects({_listed(files)}, format='newline_delimited', maximum_object_size=1000000000)"
    with duckdb.connect() as connection:
        total = connection.sql(f"SELECT count(*) FROM {lines}").fetchall()[0][0]
        query = f"SELECT key, count(*) FROM (SELECT unnest(json_keys(json)) AS key FROM {lines}) GROUP BY key"
        keys = connection.sql(query).fetchall()
    return _Data(path, files, [key for key, count in keys if count == total], total)


def _recognised(target: Target, recipe: str, data: _Data, layout: Literal["current", "v0.5"]) -> tuple[Job, Rows]:
    """The job whose rows have the columns of the data. Raises `UsageError` if there is none."""
    first: tuple[Job, Rows] | None = None
    for variant in target.VARIANTS.get(recipe, ()):
        options: dict[str, Any] = {name: value for name, value in variant.items() if name not in ("form", "token_ids")}
        shape: dict[str, Any] = {name: value for name, value in variant.items() if name not in options}
        job = _job(RECIPES[recipe](**options), data.path, layout=layout, **shape)
        rows = target.rows(job, longer_prompts=False)
        if set(rows.required) <= set(data.columns):
            target.check(job)
            return job, rows
        first = first or (job, rows)
    if first is None:
        raise UsageError(f"there is no run file for {recipe} with --target {target.TITLE}")
    _refuse_missing(target, loader_of(target, first[0]), first[1], data)
    raise AssertionError("a column is missing")


def _refuse_missing(target: Target, loader: Loader, rows: Rows, data: _Data) -> None:
    missing = [name for name in rows.required if name not in data.columns]
    if missing:
        raise UsageError(
            f"{data.path} lacks {', '.join(missing)}, which {target.TITLE}'s {loader.name} needs; its columns are {', '.join(data.columns) or 'none'}"
        )


def _refuse_settings(target: Target, recipe: str, loader: Loader, asked: dict[str, object]) -> None:
    for name, value in asked.items():
        if value is not None and name not in loader.takes:
            raise UsageError(f"--{name.replace('_', '-')} does not apply to {recipe} with {target.TITLE}")


def _scale(text: str) -> tuple[float, float, float, float]:
    """`0,1:-1,1` as source minimum and maximum, target minimum and maximum. A run file has one scale for all rewards."""
    scale = scale_of(text)
    if scale.source is not None:
        raise UsageError(f"--reward-scale {text}: a run file has one scale for all sources; write {text.rpartition('=')[2]}, or give it to the recipe")
    return scale.low, scale.high, scale.to_low, scale.to_high


def _statistics(job: Job, rows: Rows, data: _Data) -> dict[str, float]:
    """What the run file depends on: how often the rows' `counts` are true, and the balance of labels."""
    files = _listed(data.files)
    source = f"read_parquet({files})" if data.container == ".parquet" else f"read_json({files}, {_schema(data)})"
    found: dict[str, float] = {}
    with duckdb.connect() as connection:
        for name, expression in rows.counts.items():
            columns = [column for column in expression.meta.root_names() if column in data.columns]
            # Lists of JSON are read as text, element by element, as this program writes them.
            texts = connection.sql(f"SELECT {', '.join(f'{column}::VARCHAR AS {column}' for column in columns)} FROM {source}").pl()
            found[name] = int(texts.select(expression.sum()).item())
        if job.recipe == "kto":
            good, bad = connection.sql(f"SELECT count(*) FILTER (label::BOOLEAN), count(*) FILTER (NOT label::BOOLEAN) FROM {source}").fetchall()[0]
            if not (good and bad):
                raise UsageError(f"all {data.rows} labels of {data.path} are {'true' if good else 'false'}, and KTO needs both")
            found["desirable_weight"], found["undesirable_weight"] = kto.weights(good, bad)
    return found


def _schema(data: _Data) -> str:
    columns = ", ".join(f"{quoted(name)}: 'JSON'" for name in data.columns)
    return f"format='newline_delimited', maximum_object_size=1000000000, columns={{{columns}}}"


def _refuse_replacing(path: Path) -> None:
    """Raise `UsageError` for a file that would be lost. A place that cannot be written is reported when writing."""
    if path.is_file():
        try:
            is_own = begins_as(path, "run file")
        except OSError as error:
            raise UnreadableError(f"cannot read {path}: {error.strerror}") from error
        if not is_own:
            raise UsageError(f"{path} already exists and is not a run file; give the run file another name")


def _write(target: Target, job: Job, settings: Settings, warnings: Sequence[str]) -> Configured:
    texts = dict(target.run_files(job, settings))
    if not texts:
        raise UsageError(f"there is no run file to write: no trainer of {target.TITLE} reads the rows of {job.recipe}")
    for suffix, text in target.beside(job).items():
        path = companion(settings.train, suffix)
        if not path.exists():
            texts[path] = text
    data = {path.resolve() for path in (settings.train, settings.validation) if path is not None}
    with ExitStack() as stack:
        staged = []
        for path, text in texts.items():
            if path.resolve() in data:
                raise UsageError(f"{path} is the data; give the run file another name")
            _refuse_replacing(path)
            file = stack.enter_context(StagedFile(path))
            file.write(text.encode())
            file.finish()
            staged.append(file)
        for file in staged:
            file.publish()
    return Configured(settings.run_file, list(texts), settings.rows, target.launch(job, settings), warnings)
