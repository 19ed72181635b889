"""Any other trainer: `--map FIELD=SOURCE` defines the columns, for JSON lines and Parquet.

    --map prompt=input --map completion=output --map score=reward

FIELD is the column to write. SOURCE is a canonical column, `metrics.NAME`, a statistic of the group, or one of

| source | `--as messages` | `--as text` | `--as json` |
|---|---|---|---|
| `input`, `prompt` | messages before the answer | the last question | the messages as JSON text |
| `output`, `response`, `completion` | messages of the answer | the last answer | the messages as JSON text |
| `messages` | both | | both, as JSON text |

For pairs, sources that differ between the sides have a prefix, as in `chosen.output` and `rejected.reward`, and there is `margin`; `kto`
has `label`. Messages are JSON in JSON lines and lists of `arrow.json` in Parquet. No run file is written, and any column name is allowed.

Tested: rows for TRL and for OpenRLHF 0.9.5 (its KTO trainer), written with `--map`, load in their own loaders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from rollout_etl.errors import UsageError
from rollout_etl.nearest import meant_or_all
from rollout_etl.publish.rows import Field
from rollout_etl.read.canonical import Style
from rollout_etl.read.schema import SCHEMA
from rollout_etl.recipes.dpo import identical_sides
from rollout_etl.targets.columns import OF_THE_GROUP, STATISTICS, column, extras, refuse_names
from rollout_etl.targets.messages import joined
from rollout_etl.targets.target import Job, Loader, Missing, Rows, Settings

TITLE = "custom"
VERSIONS = "any"
VARIANTS: dict[str, Sequence[Mapping[str, object]]] = {}
RUN_SUFFIX = ".custom"
LOADERS: dict[str, Loader | Missing] = {recipe: Loader("your own", (".jsonl", ".parquet")) for recipe in ("sft", "dpo", "grpo", "kto", "rm", "ppo")}
_SAID = {"input": "prompt", "prompt": "prompt", "output": "completion", "response": "completion", "completion": "completion"}
_TEXTS = {"prompt": "prompt_text", "completion": "response_text", "ground_truth": "ground_truth_text"}
_LISTS = ("tools",)
_OBJECTS = ("ground_truth", "metrics", "extra", "statics", "gym_row")
_OF_PAIRS = {"margin": "reward_gap", "reward_gap": "reward_gap"}


def check(job: Job) -> None:
    """Raise `UsageError` for an invalid mapping."""
    if not job.mapping:
        raise UsageError("--target custom needs --map FIELD=SOURCE, as in --map prompt=input --map completion=output")
    names = [field.name for field in _fields(job)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"--map names the column '{twice[0]}' twice")
    refuse_names(extras(job), names, (), "custom")


def check_path(data: Path) -> str | None:
    """Nothing: there is no run file."""
    return None


def style_of(job: Job) -> Style:
    """How messages are written."""
    return Style(think=job.think, arguments=job.arguments or "object", developer="system")


def rows(job: Job, longer_prompts: bool) -> Rows:
    """The rows of a job."""
    text = job.form == "text"
    cannot_hold = () if not text else ("tool_prompt",) if job.per == "prompt" else ("flattened_completion", "tool_prompt")
    rules = [identical_sides("response_text" if text else "completion")] if job.per == "pair" else []
    return Rows([*_fields(job), *extras(job)], cannot_hold, rules, flat=text)


def _fields(job: Job) -> list[Field]:
    return [replace(_field(job, *_split(entry)), option=f"--map {entry}") for entry in job.mapping]


def _split(entry: str) -> tuple[str, str]:
    name, equals, source = entry.partition("=")
    if not (name and equals and source):
        raise UsageError(f"--map {entry} is not FIELD=SOURCE; write it as in --map prompt=input")
    return name, source


def _field(job: Job, name: str, source: str) -> Field:
    """The field for one `--map`. Raises `UsageError` for an unknown source."""
    if job.recipe == "kto" and source == "label":
        return Field(name, "flag", pl.col("label"))
    side, prefix = "", ""
    if job.per == "pair":
        if source in _OF_PAIRS:
            return Field(name, "number", pl.col(_OF_PAIRS[source]))
        first, dot, rest = source.partition(".")
        side, source = (first, rest) if dot and first in ("chosen", "rejected") else ("", source)
        if not side and _SAID.get(source, source) not in OF_THE_GROUP:
            raise UsageError(f"--map {name}={source}: the sides of a pair differ in it; use chosen.{source} or rejected.{source}")
        prefix = f"{side or 'chosen'}_"
    wanted = _SAID.get(source, source)
    form = job.form or "messages"
    if source == "messages":
        if form == "text":
            raise UsageError(f"--map {name}=messages is not available with --as text; use --as messages or --as json, or map input and output")
        return Field(name, "json" if form == "messages" else "text", joined(pl.col(f"{prefix}prompt"), pl.col(f"{prefix}completion")))
    if form == "text" and wanted in _TEXTS:
        return Field(name, "text", pl.col(prefix + _TEXTS[wanted]))
    spliced = wanted in ("prompt", "completion", *_LISTS) or (wanted in _OBJECTS and job.container == ".jsonl")
    if form == "messages" and spliced:
        return Field(name, "json", pl.col(prefix + wanted))
    try:
        found = column(wanted, prefix)
    except UsageError as error:
        known = ["input", "output", "messages", "response", *(n for n in [*SCHEMA, *STATISTICS] if n != "row")]
        raise UsageError(f"--map {name}={source}: no such source{meant_or_all(source, known, 'sources', ' and metrics.NAME')}") from error
    return Field(name, found.kind, found.value)


def beside(job: Job) -> dict[str, str]:
    """Nothing."""
    return {}


def run_files(job: Job, settings: Settings) -> dict[Path, str]:
    """None, because the trainer is unknown."""
    return {}


def launch(job: Job, settings: Settings) -> str:
    """No command, because the trainer is unknown."""
    raise UsageError("there is no run file for --target custom: its trainer is your own")
