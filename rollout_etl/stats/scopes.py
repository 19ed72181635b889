"""Scopes of statistics (everything, a task name or an agent), and work group by group within them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import polars as pl

Scope = Literal["overall", "task_name", "agent_name"]
_TOGETHER = 1 << 19
"""Rollouts whose groups are processed together: sorting and hashing millions at once would double the memory."""


def scoped(frame: pl.DataFrame, scope: Scope) -> pl.DataFrame:
    """`frame` with the column `scope` (Categorical)."""
    return frame.with_columns(scope=pl.lit("overall", dtype=pl.Categorical()) if scope == "overall" else pl.col(scope))


def by_scope(frame: pl.DataFrame, *measures: pl.Expr, within: tuple[str, ...] = (), **named: pl.Expr) -> pl.DataFrame:
    """Aggregations of `frame` by `scope` and the columns `within`, a row for each; `scope` comes first.

    If there is only one scope, no hashing and gathering is needed for it.
    """
    scopes = frame["scope"].unique()
    # With plain columns each thread would sum a share, and the last digits of sums would depend on the number of threads.
    keys = [pl.coalesce(name) for name in within]
    if len(scopes) != 1:
        return frame.group_by(pl.coalesce("scope"), *keys, maintain_order=True).agg(*measures, **named)
    if within:
        found = frame.group_by(*keys, maintain_order=True).agg(*measures, **named)
    else:
        # In one piece each: rollouts arrive in varying chunks, and sums of floats depend on them.
        roots = {name for measure in (*measures, *named.values()) for name in measure.meta.root_names()}
        found = frame.select("scope", *sorted(roots - {"scope"})).rechunk().select(*measures, **named)
    return found.select(pl.lit(scopes[0], dtype=pl.Categorical()).alias("scope"), pl.all())


def group_by_group(rollouts: pl.DataFrame, work: Callable[[pl.DataFrame], pl.DataFrame]) -> pl.DataFrame:
    """The results of `work` for all rollouts (columns `group` and others); it is called with some whole groups at a time."""
    parts = len(rollouts) // _TOGETHER + 1
    return work(rollouts) if parts == 1 else pl.concat([work(rollouts.filter(pl.col("group") % parts == part)) for part in range(parts)])
