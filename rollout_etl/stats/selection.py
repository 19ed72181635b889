"""Choosing rollouts to show: all are considered on narrow columns, and only a few are fetched."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from rollout_etl import named_fields
from rollout_etl.curate.conditions import condition, source_columns, with_metrics
from rollout_etl.read.scan import Rollouts
from rollout_etl.read.schema import SCHEMA

_NARROW = ("row", "source", "line", "reward", "task_key", "prompt_key", "task_index")
SHOWN = ("row", "source", "line", "task_name", "agent_name", "task_key", "attempt", "reward", "is_masked", "is_failure", "is_truncated", "prompt", "completion")


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which rollouts to show."""

    where: str | None = None
    """A condition over canonical columns, in the SQL of Polars."""
    order: Literal["first", "best", "worst", "random"] = "first"
    group: str | None = None
    """A whole `_ng_task_index`; if no rollout has it, the beginning of a `task_key` or `prompt_key`."""
    count: int = 5
    seed: int = 0


@dataclass(frozen=True)
class Picked:
    """Rollouts with the columns `SHOWN`, in the requested order, and how many there were to choose from."""

    rollouts: pl.DataFrame
    matching: int
    read: int
    warnings: list[str]
    """Warnings about names that no rollout has."""


def pick(rollouts: Rollouts, asked: Selection) -> Picked:
    """Read the narrow columns of all rollouts, choose, and fetch the texts of the chosen ones."""
    wanted = pl.lit(True) if asked.where is None else condition(asked.where)
    if asked.group is not None:
        key = asked.group
        wanted &= pl.col("task_key").str.starts_with(key) | pl.col("prompt_key").str.starts_with(key) | (pl.col("task_index") == key)
    names = wanted.meta.root_names()
    named, held, frames = named_fields.of_condition(asked.where), Counter[str](), [SCHEMA.to_frame().select(_NARROW)]
    for frame in rollouts.batches(list(dict.fromkeys([*_NARROW, *source_columns(names)]))):
        held.update(named_fields.count(frame, named))
        frames.append(with_metrics(frame, names).filter(wanted).select(_NARROW))
    found = pl.concat(frames)
    if asked.group is not None and (numbered := found.filter(pl.col("task_index") == asked.group)).height:
        found = numbered
    account = rollouts.account
    assert account is not None
    warnings = [*named_fields.looked_up(rollouts), *(named_fields.warnings(rollouts, held) if account.rollouts else [])]
    ordered = _ordered(found, asked)
    # All attempts of a group belong together.
    chosen = ordered if asked.group is not None else ordered.head(asked.count)
    if chosen.is_empty():
        return Picked(SCHEMA.to_frame().select(SHOWN), 0, account.rollouts, warnings)
    fetched = pl.concat(list(rollouts.batches(SHOWN, rows=chosen["row"].sort().to_numpy())))
    return Picked(chosen.select("row").join(fetched, on="row", how="left", maintain_order="left"), len(found), account.rollouts, warnings)


def _ordered(found: pl.DataFrame, asked: Selection) -> pl.DataFrame:
    if asked.order == "random":
        places = np.random.Generator(np.random.PCG64(asked.seed)).permutation(len(found))
        return found[places[: asked.count].tolist()].sort("row") if asked.group is None else found
    if asked.order == "first":
        return found
    return found.drop_nulls("reward").sort("reward", "source", "line", descending=[asked.order == "best", False, False])
