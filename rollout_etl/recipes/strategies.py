"""Which rollouts each strategy pairs: for each one that can be chosen, the stretch of worse ones that it is paired with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from rollout_etl.curate.groups import GROUP
from rollout_etl.curate.rules import TOLERANCE
from rollout_etl.curate.select import TIES
from rollout_etl.recipes.options import DpoOptions

CHARS = "completion_chars"
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Orders:
    """Rollouts from best to worst, group by group, and from worst to best: each group has the same stretch in both orders."""

    best: pl.DataFrame
    worst: pl.DataFrame
    group: Ints
    """Number of each rollout's group; the next fields are that group's stretch."""
    start: Ints
    size: Ints
    place: Ints
    """Position within the group, from 0 for the best."""
    in_worst: Ints
    """Positions in `worst` of the rollouts of `best`."""
    reward: npt.NDArray[np.float64]
    ascending: npt.NDArray[np.float64]
    """Rewards of `worst`."""


def orders_of(kept: pl.DataFrame, options: DpoOptions) -> Orders:
    """The orders of rollouts with the columns of `pairing.narrow_columns`."""
    first = [] if options.ties == "first" else [CHARS]
    ties, descending = [*first, *TIES], [*([options.ties == "longer"] if first else []), *[False] * len(TIES)]
    keys = [] if options.cross_prompt else GROUP
    ordered = kept.sort(*keys, "reward", *ties, descending=[*[False] * len(keys), True, *descending], nulls_last=True)
    changes = pl.any_horizontal(pl.lit(False), *(pl.col(key) != pl.col(key).shift() for key in keys)).fill_null(False)
    best = ordered.with_columns(group=changes.cum_sum().cast(pl.Int64))
    group, reward = best["group"].to_numpy(), best["reward"].to_numpy()
    sizes = np.bincount(group) if len(group) else np.empty(0, dtype=np.int64)
    starts = np.cumsum(sizes) - sizes
    start, size, at = starts[group].astype(np.int64), sizes[group].astype(np.int64), np.arange(len(group), dtype=np.int64)
    # From worst to best, stretches of equal rewards are reversed within their group; within such a stretch the order of ties is the same.
    runs = np.flatnonzero(np.r_[True, (reward[1:] != reward[:-1]) | (group[1:] != group[:-1])]) if len(group) else at
    lengths = np.diff(runs, append=len(group))
    run = np.repeat(runs, lengths)
    in_worst = start + (start + size - run - np.repeat(lengths, lengths)) + (at - run)
    places = np.empty_like(at)
    places[in_worst] = at
    worst = best[places]
    return Orders(best, worst, group, start, size, at - start, in_worst, reward, worst["reward"].to_numpy())


def stretches(o: Orders, options: DpoOptions) -> tuple[Ints, Ints, Ints]:
    """The positions in `best` that are chosen, and for each the stretch of `worst` that it is paired with."""
    every = np.arange(len(o.group), dtype=np.int64)
    several, end = o.size > 1, o.start + o.size
    strategy = options.strategy
    if strategy in ("same_prompt", "best-worst"):
        at = every[several & (o.place == 0)]
        return at, o.start[at], o.start[at] + 1
    if strategy == "best-second":
        at = every[several & (o.place == 0)]
        return at, o.in_worst[at + 1], o.in_worst[at + 1] + 1
    if strategy == "adjacent":
        at = every[o.place + 1 < o.size]
        return at, o.in_worst[at + 1], o.in_worst[at + 1] + 1
    if strategy == "ranked":
        at = every[o.place < o.size // 2]
        return at, o.start[at] + o.place[at], o.start[at] + o.place[at] + 1
    if strategy == "top-k-bottom-k":
        # Small groups are halved, so that no rollout is on both sides.
        k = np.minimum(options.top_k, o.size // 2)
        at = every[o.place < k]
        return at, o.start[at], o.start[at] + k[at]
    if strategy == "best-vs-mean-minus-2-sigma":
        at = every[several & (o.place == 0)]
        there = _nearest_to_mean_minus_2_sigma(o)[o.group[at]]
        return at, there, there + 1
    if strategy == "stratified":
        low = o.start + _at_most(o, np.full(len(every), options.low_threshold + TOLERANCE))
        at = every[o.reward >= options.high_threshold - TOLERANCE]
        return at, o.start[at], low[at]
    # all and random-negative: every rollout that is worse by the gap, or by any amount if the gap is 0.
    gap = max(options.min_gap - TOLERANCE, TOLERANCE)
    worse = o.start + _at_most(o, o.reward - gap)
    at = every[(worse > o.start) & ((o.place == 0) if strategy == "random-negative" else (end > 0))]
    return at, o.start[at], worse[at]


def _at_most(o: Orders, limits: npt.NDArray[np.float64]) -> Ints:
    """For each rollout, how many rewards of its group are at most its limit."""
    # With ranks for rewards, all groups form one sorted array: the rank of the limit is looked up in the stretch of the group.
    values = np.unique(o.ascending)
    ranks = np.searchsorted(values, o.ascending) + 1
    limit = np.searchsorted(values, limits, side="right")
    width = len(values) + 2
    return np.searchsorted(o.group * width + ranks, o.group * width + limit, side="right") - o.start


def _nearest_to_mean_minus_2_sigma(o: Orders) -> Ints:
    """For each group the position in `worst` of the reward nearest to mean - 2 standard deviations; the first of several.

    This is the rejected side of Xiao et al. 2025 (arXiv:2502.16825), who find that it trains better than the very worst.
    """
    frame = o.worst.select("group", "reward", at=pl.int_range(pl.len()))
    aim = pl.col("reward").mean().over("group") - 2 * pl.col("reward").std(ddof=0).over("group")
    apart = frame.with_columns(apart=((pl.col("reward") - aim).abs() / TOLERANCE).round())
    return apart.group_by("group").agg(pl.col("at").sort_by("apart", "at").first()).sort("group")["at"].to_numpy().astype(np.int64)
