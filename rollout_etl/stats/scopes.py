"""What statistics are made by: everything, task name or agent (a scope), and within it group by group."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import polars as pl

Scope = Literal["overall", "task_name", "agent_name"]
_TOGETHER = 1 << 19
"""Rollouts whose groups are looked at together: sorting and hashing all of millions would take as much memory again as they do."""


def scoped(frame: pl.DataFrame, scope: Scope) -> pl.DataFrame:
    """`frame` with the column `scope` (Categorical)."""
    return frame.with_columns(scope=pl.lit("overall", dtype=pl.Categorical()) if scope == "overall" else pl.col(scope))


def by_scope(frame: pl.DataFrame, *measures: pl.Expr, within: tuple[str, ...] = (), **named: pl.Expr) -> pl.DataFrame:
    """Aggregations of `frame` by `scope` and the columns `within`, a row for each; `scope` comes first.

    Where there is one scope only, nothing has to be hashed and gathered for its sake.
    """
    scopes = frame["scope"].unique()
    # By plain columns each thread would add up a share: the last digits of sums would depend on how many threads there are.
    keys = [pl.coalesce(name) for name in within]
    if len(scopes) != 1:
        return frame.group_by(pl.coalesce("scope"), *keys, maintain_order=True).agg(*measures, **named)
    if within:
        found = frame.group_by(*keys, maintain_order=True).agg(*measures, **named)
    else:
        # In one piece each: how rollouts came in is chance, and sums of floats depend on it.
        roots = {name for measure in (*measures, *named.values()) for name in measure.meta.root_names()}
        found = frame.select("scope", *sorted(roots - {"scope"})).rechunk().select(*measures, **named)
    return found.select(pl.lit(scopes[0], dtype=pl.Categorical()).alias("scope"), pl.all())


def group_by_group(rollouts: pl.DataFrame, work: Callable[[pl.DataFrame], pl.DataFrame]) -> pl.DataFrame:
    """What `work` makes of all rollouts (columns `group` and others), given whole groups, some of them at a time."""
    parts = len(rollouts) // _TOGETHER + 1
    return work(rollouts) if parts == 1 else pl.concat([work(rollouts.filter(pl.col("group") % parts == part)) for part in range(parts)])
