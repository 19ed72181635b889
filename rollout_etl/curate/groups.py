"""Statistics of the attempts at one task, and conditions on groups.

Only rollouts with a sound reward count: those that failed, were masked, or have no reward say nothing about the task.
"""

from __future__ import annotations

import re
from collections.abc import Collection

import numpy as np
import polars as pl

from rollout_etl.curate.conditions import condition
from rollout_etl.curate.options import check_options
from rollout_etl.curate.rules import TOLERANCE

GROUP = ("task_key", "prompt_key")
"""Canonical columns that the rollouts of a group share."""
SUCCESS = 0.5
"""Default of the smallest reward that counts as a success."""

STATISTICS: dict[str, tuple[type[pl.DataType], str]] = {
    "n": (pl.Int64, "rollouts with a sound reward"),
    "mean_reward": (pl.Float64, "mean of their rewards"),
    "min_reward": (pl.Float64, "smallest"),
    "max_reward": (pl.Float64, "largest"),
    "std_reward": (pl.Float64, "standard deviation (ddof 1); null for one rollout"),
    "pass_rate": (pl.Float64, "share whose reward is at least `--success`"),
    "has_spread": (pl.Boolean, "rewards differ, so there is something to learn"),
    "easy": (pl.Boolean, "`pass_rate` of 0.8 or more"),
    "medium": (pl.Boolean, "`pass_rate` from 0.2 up to 0.8"),
    "hard": (pl.Boolean, "`pass_rate` under 0.2"),
    "solved_by_all": (pl.Boolean, "`pass_rate` is 1"),
    "solved_by_some": (pl.Boolean, "`pass_rate` is neither 0 nor 1"),
    "solved_by_none": (pl.Boolean, "`pass_rate` is 0"),
}
"""Columns of `group_table`, their types and meanings; `pass_at_K` is added to these."""
_PASS_AT = re.compile(r"pass_at_([1-9]\d{0,3})")


def group_table(votes: pl.LazyFrame, success: float = SUCCESS, ks: Collection[int] = ()) -> pl.LazyFrame:
    """A row for each group of `votes` (columns `GROUP` and `reward`, not null), with `STATISTICS` and `pass_at_K` for each of `ks`.

    `pass_at_K` is the unbiased estimate (see `share_of_failures`), null for groups with fewer than K rollouts.
    """
    reward, rewards = pl.col("reward"), pl.col("rewards").list
    solved = reward >= success - TOLERANCE
    passed = pl.col("pass_rate")
    table = votes.group_by(GROUP, maintain_order=True).agg(
        n=pl.len().cast(pl.Int64), solved=solved.sum().cast(pl.Int64), rewards=reward.sort(), min_reward=reward.min(), max_reward=reward.max(),
        pass_rate=solved.mean(),
    )
    # Sums of floats depend on their order, and rows arrive in any order. Polars does not sort what it sums up, unless it is a list.
    table = table.with_columns(mean_reward=rewards.mean(), std_reward=rewards.std(ddof=1))
    return table.with_columns(
        has_spread=pl.col("max_reward") - pl.col("min_reward") > TOLERANCE,
        easy=passed >= 0.8 - TOLERANCE, medium=(passed >= 0.2 - TOLERANCE) & (passed < 0.8 - TOLERANCE), hard=passed < 0.2 - TOLERANCE,
        solved_by_all=passed == 1, solved_by_some=(passed > 0) & (passed < 1), solved_by_none=passed == 0,
        **{f"pass_at_{k}": _pass_at(k) for k in ks},
    ).drop("solved", "rewards")


def _pass_at(k: int) -> pl.Expr:
    def estimate(counts: pl.Series) -> pl.Series:
        n, c = (counts.struct.field(name).cast(pl.Float64).to_numpy() for name in ("n", "solved"))
        return pl.Series(1.0 - share_of_failures(n, c, k), dtype=pl.Float64)

    enough = pl.col("n") >= k
    return pl.when(enough).then(pl.struct(pl.max_horizontal("n", pl.lit(k)).alias("n"), "solved").map_batches(estimate, return_dtype=pl.Float64))


def share_of_failures(n: np.ndarray, c: np.ndarray, k: int) -> np.ndarray:
    """C(n - c, k) / C(n, k), the chance that k of n attempts, of which c succeed, all fail: 1 minus this is pass@k.

    It is computed as a product of fractions, none of which overflows.
    """
    share = np.ones_like(n)
    for i in range(k):
        share *= np.maximum(n - c - i, 0.0) / (n - i)
        if not share.any():
            break
    return share


def group_condition(text: str) -> pl.Expr:
    """`--where-group` as an expression over `group_table`. Raises `UsageError` for a text that is not a condition."""
    return condition(text, "--where-group", _dtype, [*STATISTICS, "pass_at_4"])


def ks_of(expression: pl.Expr) -> list[int]:
    """The K of each `pass_at_K` that a condition names."""
    return [int(found[1]) for name in expression.meta.root_names() if (found := _PASS_AT.fullmatch(name))]


def _dtype(name: str) -> pl.DataType | type[pl.DataType] | None:
    return pl.Float64 if _PASS_AT.fullmatch(name) else STATISTICS.get(name, (None,))[0]


def where_group(rollouts: pl.LazyFrame, text: str, votes: pl.LazyFrame | None = None, success: float = SUCCESS) -> pl.LazyFrame:
    """The rollouts of groups that satisfy a condition, such as `0 < mean_reward and n >= 4 and pass_at_4 >= 0.5`, in their order.

    `votes` holds the rewards that count (columns `GROUP` and `reward`); without it, those of `rollouts` count.
    """
    check_options(where_group=text, success=success)
    wanted = group_condition(text)
    voting = (rollouts if votes is None else votes).select(*GROUP, "reward").drop_nulls("reward")
    chosen = group_table(voting, success, ks_of(wanted)).filter(wanted).select(GROUP)
    return rollouts.join(chosen, on=GROUP, how="semi", maintain_order="left")
