"""pass@k and mean@k over groups of attempts at one task.

pass@k is the unbiased estimate 1 - C(n - c, k) / C(n, k) for n attempts of which c succeed (Chen et al. 2021, arXiv:2107.03374, and
`compute_pass_majority_metrics` of NeMo Gym, which writes it times 100); groups with fewer than k attempts are left out. mean@k is the
mean of the first k rewards, Gym's `pass@1[avg-of-k]`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from rollout_etl.curate.groups import share_of_failures
from rollout_etl.stats.scopes import by_scope, group_by_group

_ALL_UP_TO = 16


def sizes(largest: int) -> list[int]:
    """The values of k that are shown: all up to 16, then powers of two, and the size of the largest group."""
    if largest < 1:
        return []
    powers = [1 << i for i in range(5, max(largest.bit_length(), 5)) if 1 << i <= largest]
    return sorted({*range(1, min(largest, _ALL_UP_TO) + 1), *powers, largest})


def pass_at(groups: pl.DataFrame) -> dict[Any, dict[int, float]]:
    """pass@k by `scope`, for groups with `n` attempts (Int) of which `c` succeed (Int)."""
    result: dict[Any, dict[int, float]] = {}
    # Groups with the same n and c have the same estimate, and there are far fewer of those combinations than groups.
    alike = groups.group_by("scope", "n", "c").agg(times=pl.len()).sort("scope", "n", "c")
    for (scope,), part in alike.group_by(["scope"], maintain_order=True):
        n, c, times = (part[name].to_numpy().astype(np.float64) for name in ("n", "c", "times"))
        result[scope] = {}
        for k in sizes(int(n.max())):
            enough = n >= k
            estimates = 1.0 - share_of_failures(n[enough], c[enough], k)
            result[scope][k] = float(np.average(estimates, weights=times[enough]))
    return result


def mean_at(rewards: pl.DataFrame) -> dict[Any, dict[int, float]]:
    """mean@k by `scope`, for rows with `group`, `attempt` and `reward`; attempts that are not numbered keep the order of the rows."""
    if rewards.is_empty():
        return {}
    means = group_by_group(rewards.select("scope", "group", "attempt", "reward"), _means_of_first)
    means = by_scope(means, mean=pl.col("total").sum() / pl.col("groups").sum(), within=("k",)).sort("scope", "k")
    result: dict[Any, dict[int, float]] = {}
    for (scope,), part in means.group_by(["scope"], maintain_order=True):
        shown = sizes(len(part))
        result[scope] = {k: mean for k, mean in part.select("k", "mean").iter_rows() if k in shown}
    return result


def _means_of_first(rewards: pl.DataFrame) -> pl.DataFrame:
    """By `scope` and `k`: how many `groups` have k attempts, and the `total` of their means over the first k."""
    ordered = rewards.sort("scope", "group", "attempt", nulls_last=True, maintain_order=True)
    running = ordered.select(
        "scope", k=pl.int_range(1, pl.len() + 1).over("scope", "group"), first=pl.col("reward").cum_sum().over("scope", "group")
    )
    return by_scope(running, groups=pl.len(), total=(pl.col("first") / pl.col("k")).sum(), within=("k",))
