"""Fields that an option names but that have no value anywhere: a misspelt name would look as if it had worked.

Counts are kept in `Report.held`, by option and name as given.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

import polars as pl

from rollout_etl.curate import balance, rewards
from rollout_etl.curate.conditions import condition, metric
from rollout_etl.curate.options import Curation
from rollout_etl.nearest import did_you_mean
from rollout_etl.publish.rows import Field
from rollout_etl.read.scan import Rollouts
from rollout_etl.read.schema import SCHEMA
from rollout_etl.read.structure import OF_THE_RUN, VERIFIER_INPUT, VERIFIER_OUTPUT

_SCALE = "--reward-scale"
_WRITTEN_OUT = ("prompt", "completion", "prompt_text", "response_text")
"""Columns that a reader may leave null in rollouts that are dropped (see `Rollouts.batches`)."""


def of_curation(curation: Curation) -> dict[str, pl.Expr]:
    """For each column and metric that the options of a curation name, whether a rollout has it. Over canonical columns."""
    # A formula changes the reward later, so this is checked before.
    formula = [] if curation.reward is None else [name for name in rewards.formula(curation.reward).meta.root_names() if name != "reward"]
    sources = [scale.source for scale in rewards.scales(curation.reward_scale) if scale.source is not None]
    return {
        **of_condition(curation.where), **_of_columns("--cap", balance.caps(curation.cap)), **_of_columns("--reward", formula),
        **{f"{_SCALE} {source}": pl.col("task_name") == source for source in sources},
    }


def of_condition(where: str | None) -> dict[str, pl.Expr]:
    """The same for a condition on rollouts."""
    return {} if where is None else _of_columns("--where", [name for name in condition(where).meta.root_names() if name not in _WRITTEN_OUT])


def _of_columns(option: str, names: Iterable[str]) -> dict[str, pl.Expr]:
    return {
        f"{option} {name}": (metric(name.removeprefix("metrics."), pl.col("metrics")) if name.startswith("metrics.") else pl.col(name)).is_not_null()
        for name in names
    }


def of_rows(fields: Iterable[Field]) -> dict[str, pl.Expr]:
    """For each option that names fields of a row, whether an example has a value in one of them."""
    values: dict[str, list[pl.Expr]] = {}
    for field in _all(fields):
        if field.option is not None:
            values.setdefault(field.option, []).append(field.value.is_not_null())
    return {option: pl.any_horizontal(found) for option, found in values.items()}


def _all(fields: Iterable[Field]) -> Iterator[Field]:
    for field in fields:
        yield field
        yield from _all(field.members)


def count(frame: pl.DataFrame, named: Mapping[str, pl.Expr]) -> dict[str, int]:
    """How many rows of a frame have a value for each named field, if the frame has the columns for it."""
    answerable = {name: holds for name, holds in named.items() if set(holds.meta.root_names()) <= set(frame.columns)}
    sums = frame.select(holds.sum().alias(name) for name, holds in answerable.items())
    return {name: int(sums[name].item() or 0) for name in answerable}


def warnings(rollouts: Rollouts, held: Mapping[str, int], of: str = "rollout") -> list[str]:
    """A warning for each name in `held` that was found nowhere; `of` says what was searched."""
    missing = [option for option, count in held.items() if not count]
    names = rollouts.glimpse.field_names() if missing else []
    found = []
    for option in missing:
        if option.startswith(f"{_SCALE} "):
            found.append(f"{option}: no {of} has this task_name")
            continue
        name = option.partition(" ")[2].rpartition("=")[2]
        name, what = name.removeprefix("chosen.").removeprefix("rejected."), "metric" if "metrics." in name else "field"
        if what == "field" and "." in name and name in names:
            # A dot separates names, unless it is escaped.
            meant = "; did you mean " + name.replace(".", "\\.") + "?"
        else:
            # The name of a column is right even if the column is empty.
            meant = "" if name in SCHEMA else did_you_mean(name.removeprefix("metrics.").partition(".")[0], names)
        found.append(f"{option}: no {of} has this {what}{meant}")
    return found


def guessed(rollouts: Rollouts) -> list[str]:
    """A warning about fields that were left out of rows for Gym because of their names, if there are no task inputs to decide by."""
    if not rollouts.lacks_task_inputs:
        return []
    names = [name for name in rollouts.glimpse.field_names() if name not in OF_THE_RUN and not name.startswith(("_", "ng_"))]
    out = [name for name in names if re.fullmatch(VERIFIER_OUTPUT, name) and not re.fullmatch(VERIFIER_INPUT, name)]
    return [f"left out of the rows, as they look like verifier output: {', '.join(sorted(out))}; with --task-inputs FILE nothing is guessed"] if out else []


def looked_up(rollouts: Rollouts) -> list[str]:
    """`warnings` for the fields that identify tasks or hold ground truth, once all rollouts are read."""
    account, lookup = rollouts.account, rollouts.lookup
    if account is None or not account.rollouts:
        return []
    # Task inputs may use other names for the ground truth.
    truths = [lookup.ground_truth_field] if lookup.ground_truth_field is not None and not rollouts.task_inputs else []
    named = {**{f"--group-by {path}": path for path in lookup.group_by}, **{f"--ground-truth-field {path}": path for path in truths}}
    return warnings(rollouts, {option: account.found[path] for option, path in named.items()})
