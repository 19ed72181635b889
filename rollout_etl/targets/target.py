"""The interface of a target, which writes for one trainer.

A target is a module of this folder that defines the names of `Target`, and a line of `REGISTRY`. Its docstring says which loaders of the
trainer it writes for, which versions were tested, and which columns it writes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import polars as pl

from rollout_etl.curate.rules import Rule
from rollout_etl.errors import UsageError
from rollout_etl.publish.rows import Field
from rollout_etl.read.canonical import Style
from rollout_etl.recipes.options import AnyOptions, DpoOptions, PpoOptions
from rollout_etl.targets.paths import as_glob

Form = Literal["messages", "text", "json"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a target has to write: a recipe, and how its rows look."""

    options: AnyOptions
    output: Path
    think: Literal["keep", "strip", "move"] = "keep"
    form: Form | None = None
    """Conversations as lists of messages, as the last question and the last answer, or as JSON text. None: the target's default."""
    arguments: Literal["object", "string"] | None = None
    """Form of tool call arguments. None: the target's default."""
    extra: tuple[str, ...] = ()
    """Canonical columns, metrics and group statistics that are also written."""
    mapping: tuple[str, ...] = ()
    """`FIELD=SOURCE`, for the target `custom`."""
    token_ids: bool = False
    """Write the sampled tokens instead of messages."""
    layout: Literal["current", "v0.5"] = "current"
    shards: Literal[".jsonl", ".parquet"] | None = None
    """File format of the shards if the output is a folder."""

    @property
    def recipe(self) -> str:
        """`sft`, `dpo`, `grpo`, `kto`, `rm` or `ppo`."""
        return self.options.recipe

    @property
    def container(self) -> str:
        """`.jsonl` or `.parquet`."""
        return self.shards or self.output.suffix

    @property
    def per(self) -> Literal["rollout", "pair", "prompt"]:
        """What a row represents."""
        if isinstance(self.options, DpoOptions):
            return "pair"
        if self.recipe in ("sft", "kto") or (isinstance(self.options, PpoOptions) and self.options.with_responses):
            return "rollout"
        return "prompt"


@dataclass(frozen=True)
class Rows:
    """The rows of a job, made from examples: canonical columns, for a pair those of both sides, prefixed `chosen_` and `rejected_`."""

    fields: Sequence[Field]
    cannot_hold: Sequence[str] | None = ()
    """Rules for what the rows cannot hold. None: the rules of the recipe's `format`."""
    example_rules: Sequence[Rule] = ()
    """Rules that drop examples."""
    prepare: Callable[[pl.DataFrame], pl.DataFrame] = lambda frame: frame
    """Columns that the fields need besides those of the examples."""
    prepared_from: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Those columns, and the columns of the examples that each is computed from."""
    reader: Literal["exact", "dates", "guesses"] = "exact"
    """How JSON lines are read: unchanged, with a reader that turns dates into timestamps, or with one that guesses all types."""
    counts: Mapping[str, pl.Expr] = field(default_factory=dict)
    """Boolean expressions over examples; the run file uses how often each is true."""
    flat: bool = False
    """Rows hold only the last question, without earlier turns and system text."""

    whole_row_has: Sequence[str] = ()
    """Keys of a row that is a single field without a name."""

    @property
    def required(self) -> list[str]:
        """Columns that every row has."""
        return [f.name for f in self.fields if f.name and not f.optional] + list(self.whole_row_has)

    @property
    def columns(self) -> list[str]:
        """Columns of the examples that the rows are made from, each once."""
        names = [name for f in self.fields for name in f.sources]
        names += [name for rule in self.example_rules for name in rule.columns]
        names += [name for expression in self.counts.values() for name in expression.meta.root_names()]
        return list(dict.fromkeys(source for name in names for source in self.prepared_from.get(name, (name,))))


@dataclass(frozen=True)
class Loader:
    """What loads the rows of a recipe, and from which file formats; the first is preferred."""

    name: str
    containers: tuple[str, ...]
    takes: tuple[str, ...] = ()
    """Optional settings that a run file can hold: `reward_scale`, `max_rollout_turns`."""
    needs_validation: bool = False
    """Whether training requires a validation file."""


@dataclass(frozen=True)
class Missing:
    """A recipe that a trainer has no loader for, and the alternative."""

    why: str


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of a run file."""

    run_file: Path
    train: Path
    rows: int
    validation: Path | None = None
    validation_rows: int = 0
    shards: Mapping[Path, Sequence[Path]] = field(default_factory=dict)
    """The files in `train` and `validation` if they are folders."""
    model: str | None = None
    reward_scale: tuple[float, float, float, float] | None = None
    """Source minimum and maximum, target minimum and maximum."""
    max_rollout_turns: int | None = None
    batch: int | None = None
    statistics: Mapping[str, float] = field(default_factory=dict)
    """Statistics of the report, and the `counts` of the rows."""

    @property
    def container(self) -> str:
        """`.jsonl` or `.parquet`."""
        return self.files_of(self.train)[0].suffix

    def files_of(self, data: Path) -> Sequence[Path]:
        """The files of `train` or `validation`."""
        return self.shards.get(data, [data])

    def pattern_of(self, data: Path, escaped: bool = False) -> Path:
        """The path or glob of `train` or `validation`, for loaders that accept globs.

        It is `escaped` for loaders that take every path for a glob: `[1]` in it is a name.
        """
        named = as_glob(data) if escaped else data
        return named / f"part-*{self.shards[data][0].suffix}" if data in self.shards else named

    def batch_of(self, usual: int) -> int:
        """The batch size: the requested one, or the trainer's default, or if there are fewer rows the largest power of two that they fill."""
        if self.batch is not None:
            return self.batch
        while usual > max(self.rows, 1):
            usual //= 2
        return usual


class Target(Protocol):
    """What the module of a target defines."""

    TITLE: str
    """The trainer's own name."""
    VERSIONS: str
    """The versions that were tested."""
    LOADERS: Mapping[str, Loader | Missing]
    """What loads each recipe."""
    VARIANTS: Mapping[str, Sequence[Mapping[str, object]]]
    """For each recipe, the options (and `form`, `token_ids`) that change the columns. A file is recognised by its columns; the first match wins."""
    RUN_SUFFIX: str
    """Suffix that is appended to the name of the data to name the run file."""

    def check(self, job: Job) -> None:
        """Raise `UsageError` for a job that the trainer cannot load."""

    def check_path(self, data: Path) -> str | None:
        """Raise `UsageError` for data that a run file cannot name; return a note if the trainer uses only a part of the name."""

    def style_of(self, job: Job) -> Style:
        """How messages are written."""

    def rows(self, job: Job, longer_prompts: bool) -> Rows:
        """The rows. `longer_prompts` says that at least one prompt is more than one question (known for pairs only)."""

    def beside(self, job: Job) -> Mapping[str, str]:
        """Files that loading the data requires: the suffix that is appended to its name, and the text."""

    def run_files(self, job: Job, settings: Settings) -> Mapping[Path, str]:
        """The run file, `settings.run_file`, and the files that it needs; empty if no trainer reads the rows."""

    def launch(self, job: Job, settings: Settings) -> str:
        """The command that starts the training with the run file."""


def loader_of(target: Target, job: Job) -> Loader:
    """The loader of the job. Raises `UsageError` if there is none, or none for this file format."""
    found = target.LOADERS[job.recipe]
    if isinstance(found, Missing):
        raise UsageError(found.why)
    if job.container in (".jsonl", ".parquet") and job.container not in found.containers:
        raise UsageError(f"{target.TITLE} loads {job.recipe} from {found.containers[0]} only; name the output {job.output.stem}{found.containers[0]}")
    return found


def companion(output: Path, suffix: str) -> Path:
    """Path of a file next to an output."""
    return output.with_name(output.name + suffix)


_LOST_IF_KEPT = ("tool_prompt", "tool_completion", "tool_schemas", "reasoning", "reasoning_prompt")


def refuse_kept(target: Target, job: Job) -> None:
    """Raise `UsageError` for a `--keep` that would silently lose calls, schemas or reasoning, or write media as text."""
    rows = target.rows(job, longer_prompts=False)
    if "media" in job.options.keep and (rows.flat or any(field.kind == "chat" for field in rows.fields)):
        raise UsageError("--keep media: these rows hold only text")
    for name in rows.cannot_hold or ():
        if name in _LOST_IF_KEPT and name in job.options.keep:
            raise UsageError(f"--keep {name}: these rows cannot hold such rollouts")
