"""Which rollouts are paired: strategies, in time and memory linear in rollouts and pairs.

A group's rollouts stand in two rows: from the best (`best` order) and from the worst (`worst` order). For each rollout that can be
chosen, a strategy names the stretch of the worst order that it is paired with, [start, end). So pairs are counted before any is
made, and a sample of them is drawn without making the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import polars as pl

from rollout_etl.curate.groups import GROUP
from rollout_etl.curate.order import mixed, of_key
from rollout_etl.curate.rules import TOLERANCE
from rollout_etl.recipes.options import DpoOptions

NARROW = ("row", "task_key", "prompt_key", "reward", "attempt", "completion_key", "source", "line", "completion_chars")
"""Canonical columns that pairing can look at. Lengths take a look at what was said: `narrow_columns` has them where they decide."""
_CHARS = "completion_chars"
_TIES = ("attempt", "completion_key", "source", "line")
Ints = npt.NDArray[np.int64]
Drawn = Callable[[int], Ints]
"""Given a number of pairs, the places of those that are made, in order."""


@dataclass(frozen=True)
class _Orders:
    """Rollouts from best to worst, group after group, and the same from worst to best: each group has the same stretch of both."""

    best: pl.DataFrame
    worst: pl.DataFrame
    group: Ints
    """Number of each rollout's group; below, what that group's stretch is."""
    start: Ints
    size: Ints
    place: Ints
    """Place within the group, from 0 for the best."""
    in_worst: Ints
    """Where the rollouts of `best` stand in `worst`."""
    reward: npt.NDArray[np.float64]
    ascending: npt.NDArray[np.float64]
    """Rewards of `worst`."""


def narrow_columns(options: DpoOptions) -> list[str]:
    """The columns of `NARROW` that these options need."""
    by_length = options.match_length is not None or options.ties != "first"
    return [name for name in NARROW if name != _CHARS or by_length]


def pair_rollouts(kept: pl.DataFrame, options: DpoOptions, drawn: Drawn | None = None) -> tuple[pl.DataFrame, int]:
    """Pairs of `kept` rollouts (see `narrow_columns`), and how many there were to draw from.

    The pairs have `chosen_row`, `rejected_row`, `chosen_reward`, `rejected_reward`, `reward_gap`, the lengths `chosen_chars` and
    `rejected_chars` where `kept` has them, and `is_overused` (see `--max-uses`); none is dropped for its gap. They are in the order of the chosen
    rollouts. Ties go by `--ties`, then by attempt, content, file and line, so the order of the files does not matter. `drawn` is given a
    number of pairs, and says which of them are made; without it, all are or as many as `--max-pairs` says.
    """
    orders = _orders(kept, options)
    chosen, start, end = _stretches(orders, options)
    sizes = np.maximum(end - start, 0)
    combinations = int(sizes.sum())
    picked = _picked(orders, chosen, sizes, options, drawn or partial(sample, options))
    which = np.searchsorted(np.cumsum(sizes), picked, side="right")
    within = picked - (np.cumsum(sizes) - sizes)[which]
    sides = {"chosen": orders.best[chosen[which]], "rejected": orders.worst[(start[which] + within)]}
    pairs = pl.DataFrame({f"{side}_{short}": frame[name] for side, frame in sides.items() for short, name in _KEPT.items() if name in frame.columns})
    pairs = _overused(pairs.with_columns(reward_gap=pl.col("chosen_reward") - pl.col("rejected_reward")), options.max_uses)
    return pairs.sort("chosen_row", "rejected_row"), combinations


_KEPT = {"row": "row", "reward": "reward", "chars": _CHARS}


def _orders(kept: pl.DataFrame, options: DpoOptions) -> _Orders:
    first = [] if options.ties == "first" else [_CHARS]
    ties, descending = [*first, *_TIES], [*([options.ties == "longer"] if first else []), *[False] * len(_TIES)]
    keyed = kept.with_columns(group=pl.lit(0, dtype=pl.Int64) if options.cross_prompt else pl.struct(GROUP).rank("dense").cast(pl.Int64) - 1)
    best = keyed.sort("group", "reward", *ties, descending=[False, True, *descending], nulls_last=True)
    worst = keyed.sort("group", "reward", *ties, descending=[False, False, *descending], nulls_last=True)
    group = best["group"].to_numpy().astype(np.int64)
    sizes = np.bincount(group) if len(group) else np.empty(0, dtype=np.int64)
    starts = np.cumsum(sizes) - sizes
    places = worst.select("row", at=pl.int_range(pl.len()))
    in_worst = best.select("row").join(places, on="row", how="left", maintain_order="left")["at"].to_numpy().astype(np.int64)
    return _Orders(
        best, worst, group, starts[group].astype(np.int64), sizes[group].astype(np.int64), np.arange(len(group)) - starts[group], in_worst,
        best["reward"].to_numpy(), worst["reward"].to_numpy(),
    )


def _stretches(o: _Orders, options: DpoOptions) -> tuple[Ints, Ints, Ints]:
    """Positions in `best` that are chosen, and for each the stretch of `worst` that it is paired with."""
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
        # Small groups are halved, so that no rollout is in both.
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
    # all and random-negative: every rollout that is worse by the gap, or by anything where no gap is asked for.
    gap = max(options.min_gap - TOLERANCE, TOLERANCE)
    worse = o.start + _at_most(o, o.reward - gap)
    at = every[(worse > o.start) & ((o.place == 0) if strategy == "random-negative" else (end > 0))]
    return at, o.start[at], worse[at]


def _at_most(o: _Orders, limits: npt.NDArray[np.float64]) -> Ints:
    """How many rewards of a rollout's own group are at most its limit."""
    # Rewards as ranks make one sorted row of all groups: the rank of the limit is looked up in the stretch of the group.
    values = np.unique(o.ascending)
    ranks = np.searchsorted(values, o.ascending) + 1
    limit = np.searchsorted(values, limits, side="right")
    width = len(values) + 2
    return np.searchsorted(o.group * width + ranks, o.group * width + limit, side="right") - o.start


def _nearest_to_mean_minus_2_sigma(o: _Orders) -> Ints:
    """For each group the position in `worst` of the reward nearest to mean - 2 standard deviations; of equals the first.

    The rejected side of Xiao et al. 2025 (arXiv:2502.16825), which learns better from it than from the very worst.
    """
    frame = o.worst.select("group", "reward", at=pl.int_range(pl.len()))
    aim = pl.col("reward").mean().over("group") - 2 * pl.col("reward").std(ddof=0).over("group")
    apart = frame.with_columns(apart=((pl.col("reward") - aim).abs() / TOLERANCE).round())
    return apart.group_by("group").agg(pl.col("at").sort_by("apart", "at").first()).sort("group")["at"].to_numpy().astype(np.int64)


def _picked(o: _Orders, chosen: Ints, sizes: Ints, options: DpoOptions, drawn: Drawn) -> Ints:
    """Numbers of the pairs that are made, counted through all stretches, in order."""
    limit = 1 if options.strategy == "random-negative" else options.pairs_per_group
    total = int(sizes.sum())
    if limit is None or not total:
        return drawn(total)
    groups, first = np.unique(o.group[chosen], return_index=True)
    counts = np.add.reduceat(sizes, first)
    starts = np.cumsum(counts) - counts
    taken = np.minimum(counts, limit)
    which = np.repeat(np.arange(len(groups)), taken)
    turn = np.arange(int(taken.sum())) - np.repeat(np.cumsum(taken) - taken, taken)
    if options.strategy in _RANKED:
        within = turn
    else:
        offset, step = _strides(o, groups, counts, options.seed)
        within = ((offset[which] + turn.astype(np.uint64) * step[which]) % counts[which].astype(np.uint64)).astype(np.int64)
    picked = np.sort(starts[which] + within)
    return picked[drawn(len(picked))]


def makes_many(options: DpoOptions) -> bool:
    """Whether a strategy can make more pairs than there are rollouts: `--max-pairs` is for those."""
    return options.strategy in ("stratified", "all", "top-k-bottom-k")


def sample(options: DpoOptions, count: int) -> Ints:
    """Which of `count` pairs are made: all of them, or `--max-pairs` that are drawn."""
    return _sample(count, options.max_pairs if makes_many(options) else count, options.seed)


def draw_from_all(frames: Iterable[pl.DataFrame], options: DpoOptions) -> Drawn:
    """What `sample` draws of the pairs of all frames together, for pairing them frame by frame, in the same order."""
    counts: list[int] = []

    def none(count: int) -> Ints:
        counts.append(count)
        return np.empty(0, dtype=np.int64)

    for frame in frames:
        pair_rollouts(frame, options, none)
    picked = sample(options, sum(counts)) if sum(counts) > options.max_pairs else None
    firsts = iter(np.cumsum([0, *counts]).tolist())

    def drawn(count: int) -> Ints:
        first = next(firsts)
        if picked is None:
            return np.arange(count, dtype=np.int64)
        low, high = np.searchsorted(picked, (first, first + count))
        return np.asarray(picked[low:high] - first)

    return drawn


_RANKED = ("ranked", "adjacent")
"""Strategies whose first pairs are those of the best: a limit takes them."""


def _strides(o: _Orders, groups: Ints, counts: Ints, seed: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """For each group, where to start among its pairs and how far to step: a step without common divisor meets each pair once."""
    positions = np.searchsorted(o.group, groups)
    key = mixed(mixed(of_key("task_key")) ^ of_key("prompt_key") ^ pl.lit(seed, dtype=pl.UInt64))
    numbers = o.best[positions].select(first=key, second=mixed(key))
    sizes = counts.astype(np.uint64)
    offset, step = numbers["first"].to_numpy() % sizes, numbers["second"].to_numpy() % sizes
    while len(shared := np.flatnonzero(np.gcd(step, sizes) != 1)):
        step[shared] = (step[shared] + np.uint64(1)) % sizes[shared]
    return offset, step


def _sample(combinations: int, limit: int, seed: int) -> Ints:
    """`limit` different numbers under `combinations`, in order; all of them when there are no more."""
    if combinations <= limit:
        return np.arange(combinations, dtype=np.int64)
    generator = np.random.Generator(np.random.PCG64(seed))
    picked = np.empty(0, dtype=np.int64)
    while len(picked) < limit:
        more = generator.integers(0, combinations, size=int((limit - len(picked)) * 1.2) + 16, dtype=np.int64)
        _, first = np.unique(np.concatenate([picked, more]), return_index=True)
        picked = np.concatenate([picked, more])[np.sort(first)][:limit]
    return np.sort(picked)


def _overused(pairs: pl.DataFrame, max_uses: int | None) -> pl.DataFrame:
    """`pairs` with `is_overused`: a side stands in `max_uses` pairs with a larger gap already (of equal gaps, in earlier ones)."""
    if max_uses is None:
        return pairs.with_columns(is_overused=pl.lit(False))
    ranked = pairs.sort("reward_gap", "chosen_row", "rejected_row", descending=[True, False, False]).with_row_index("pair")
    uses = pl.concat([ranked.select("pair", row=f"{side}_row") for side in ("chosen", "rejected")]).sort("pair", maintain_order=True)
    worn = uses.filter(pl.int_range(pl.len()).over("row") >= max_uses)["pair"]
    return ranked.with_columns(is_overused=pl.col("pair").is_in(worn.implode())).drop("pair")
