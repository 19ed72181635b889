"""Statistics of the attempts at one task: if their rewards do not differ, there is nothing to learn."""

from __future__ import annotations

from typing import Any

import polars as pl

from rollout_etl.curate.rules import TOLERANCE
from rollout_etl.stats.scopes import by_scope, group_by_group


def scored_groups(sound: pl.DataFrame, success: float) -> pl.DataFrame:
    """A row for each `scope` and `group` of rollouts with a sound reward.

    `n` attempts, `c` successes (Int64), `unique` different completions, `mean`, `std` (ddof 1), `min`, `max` of rewards.
    """
    reward = pl.col("reward")
    return group_by_group(sound.select("scope", "group", "response", "reward"), lambda part: by_scope(
        part, within=("group",),
        n=pl.len().cast(pl.Int64), c=(reward >= success - TOLERANCE).sum().cast(pl.Int64), unique=pl.col("response").n_unique().cast(pl.Int64),
        mean=reward.mean(), std=reward.std(ddof=1), min=reward.min(), max=reward.max(),
    ))


def outcomes(groups: pl.DataFrame) -> dict[Any, dict[str, Any]]:
    """Outcomes of groups by `scope`. Shares refer to the groups with several attempts, and are null if there are none."""
    several = pl.col("n") > 1
    spread = pl.col("max") - pl.col("min")
    kinds = {
        "no_spread": spread <= TOLERANCE,
        "solved_by_all": pl.col("c") == pl.col("n"),
        "solved_by_none": pl.col("c") == 0,
        "solved_by_some": (pl.col("c") > 0) & (pl.col("c") < pl.col("n")),
    }
    found = by_scope(
        groups,
        pl.len().alias("groups"),
        several.sum().alias("several"),
        pl.col("n").mean().alias("mean_size"),
        pl.col("n").min().alias("smallest"),
        pl.col("n").max().alias("largest"),
        *((holds & several).sum().alias(name) for name, holds in kinds.items()),
        pl.col("std").filter(several).mean().alias("mean_std"),
        spread.filter(several).mean().alias("mean_range"),
        # Different completions in groups of several attempts; a single rollout has nothing to differ from.
        (pl.col("unique").filter(several).sum() / pl.col("n").filter(several).sum()).alias("unique_ratio"),
    )
    result = {}
    for row in found.iter_rows(named=True):
        scope, count = row.pop("scope"), row["several"]
        if not count:
            row["unique_ratio"] = None
        result[scope] = {**row, "shares": {name: row[name] / count if count else None for name in kinds}}
    return result
