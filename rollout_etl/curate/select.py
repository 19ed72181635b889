"""Which rollouts of a group are used: the best, the shortest correct or the first correct ones, up to some number."""

from __future__ import annotations

import re
from typing import NamedTuple

import polars as pl

from rollout_etl.curate.groups import GROUP, SUCCESS
from rollout_etl.curate.options import check_options
from rollout_etl.curate.rules import TOLERANCE
from rollout_etl.errors import UsageError

TIES = ("attempt", "completion_key", "source", "line")
"""Canonical columns that break ties, in turn, so that the order in which files are given does not matter."""
COLUMNS = (*GROUP, "reward", *TIES, "completion_chars")
"""Canonical columns that a selection uses."""


class Order(NamedTuple):
    """The order of a group's rollouts, and how many are used from its beginning."""

    by: tuple[str, ...]
    descending: tuple[bool, ...]
    only_correct: bool
    limit: int | None


def order_of(select: str, per_group: int | None = None) -> Order:
    """What `select` means; `per_group` overrides its count. Raises `UsageError`."""
    best = re.fullmatch(r"best(?:-n=([1-9]\d*))?", select)
    if best is not None:
        if best[1] and per_group is not None:
            raise UsageError(f"--select {select} and --per-group {per_group} cannot be combined: both say how many rollouts to use")
        return Order(("reward",), (True,), False, per_group or int(best[1] or 1))
    if select == "all":
        return Order(("reward",), (True,), False, per_group)
    if select == "shortest-correct":
        return Order(("completion_chars",), (False,), True, per_group or 1)
    if select == "first-correct":
        return Order((), (), True, per_group or 1)
    raise UsageError(f"--select {select}: write all, best, best-n=N, shortest-correct or first-correct")


def selected(rollouts: pl.LazyFrame, select: str = "all", per_group: int | None = None, success: float = SUCCESS) -> pl.LazyFrame:
    """The rollouts of each group that `select` names, in their order. Needs `COLUMNS`.

    `best` takes the largest reward, `best-n=N` the N largest, `shortest-correct` the fewest characters and `first-correct` the first
    attempt among rewards of at least `success`; `all` takes all, or with `per_group` those with the largest rewards. `TIES` break ties.
    """
    check_options(select=select, per_group=per_group, success=success)
    order = order_of(select, per_group)
    if order.only_correct:
        rollouts = rollouts.filter(pl.col("reward") >= success - TOLERANCE)
    if order.limit is None:
        return rollouts
    numbered = rollouts.with_row_index("_at")
    ranked = numbered.sort(*order.by, *TIES, descending=[*order.descending, *[False] * len(TIES)], nulls_last=True)
    first = ranked.select("_at", *GROUP).group_by(GROUP).agg(pl.col("_at").head(order.limit)).select("_at").explode("_at")
    return numbered.join(first, on="_at", how="semi", maintain_order="left").drop("_at")
