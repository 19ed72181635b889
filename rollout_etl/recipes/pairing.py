"""Pairs of rollouts, counted, drawn and made in time and memory linear in rollouts and pairs.

The rollouts of a group are put in two orders: from the best (`best`) and from the worst (`worst`). For each rollout that can be chosen, a
strategy (`strategies.py`) names the stretch [start, end) of the worst order that it is paired with. So pairs can be counted before any is
made, and a sample can be drawn without making the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
import numpy.typing as npt
import polars as pl

from rollout_etl.curate.groups import GROUP
from rollout_etl.curate.order import mixed, of_key
from rollout_etl.curate.select import TIES
from rollout_etl.recipes.options import DpoOptions
from rollout_etl.recipes.strategies import CHARS, Ints, Orders, orders_of, stretches

NARROW = ("row", *GROUP, "reward", *TIES, CHARS)
"""Canonical columns that pairing can use. Computing lengths means reading the texts, so `narrow_columns` has them only if they are needed."""
Drawn = Callable[[int], Ints]
"""Given the number of possible pairs, returns the positions of those that are made, in order."""


def narrow_columns(options: DpoOptions) -> list[str]:
    """The columns of `NARROW` that these options need."""
    by_length = options.match_length is not None or options.ties != "first"
    return [name for name in NARROW if name != CHARS or by_length]


def pair_rollouts(kept: pl.DataFrame, options: DpoOptions, drawn: Drawn | None = None) -> tuple[pl.DataFrame, int]:
    """Pairs of `kept` rollouts (see `narrow_columns`), and how many there were to draw from.

    The pairs have `chosen_row`, `rejected_row`, `chosen_reward`, `rejected_reward`, `reward_gap`, the lengths `chosen_chars` and
    `rejected_chars` where `kept` has them, and `is_overused` (see `--max-uses`); none is dropped for its gap. They are in the order of the chosen
    rollouts. Ties are broken by `--ties`, then by attempt, content, file and line, so the order of the files does not matter. `drawn` is
    given the number of possible pairs and says which of them are made; without it, all are made, or as many as `--max-pairs` allows.
    """
    orders = orders_of(kept, options)
    chosen, start, end = stretches(orders, options)
    sizes = np.maximum(end - start, 0)
    combinations = int(sizes.sum())
    picked = _picked(orders, chosen, sizes, options, drawn or partial(sample, options))
    which = np.searchsorted(np.cumsum(sizes), picked, side="right")
    within = picked - (np.cumsum(sizes) - sizes)[which]
    sides = {"chosen": orders.best[chosen[which]], "rejected": orders.worst[(start[which] + within)]}
    pairs = pl.DataFrame({f"{side}_{short}": frame[name] for side, frame in sides.items() for short, name in _KEPT.items() if name in frame.columns})
    pairs = _overused(pairs.with_columns(reward_gap=pl.col("chosen_reward") - pl.col("rejected_reward")), options.max_uses)
    return pairs.sort("chosen_row", "rejected_row"), combinations


_KEPT = {"row": "row", "reward": "reward", "chars": CHARS}


def _picked(o: Orders, chosen: Ints, sizes: Ints, options: DpoOptions, drawn: Drawn) -> Ints:
    """Numbers of the pairs that are made, counted across all stretches, in order."""
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
    """Whether a strategy can make more pairs than there are rollouts, so that `--max-pairs` applies."""
    return options.strategy in ("stratified", "all", "top-k-bottom-k")


def draws_pairs(options: DpoOptions) -> bool:
    """Whether `--seed` can influence which pairs are made."""
    return makes_many(options) or options.strategy == "random-negative"


def limits(options: DpoOptions, made: int) -> str:
    """The options that left `made` of the possible pairs."""
    per_group = f"--pairs-per-group {options.pairs_per_group}" if options.pairs_per_group else ""
    names = [
        f"--strategy {options.strategy}" if options.strategy == "random-negative" else per_group,
        f"--max-pairs {options.max_pairs}" if makes_many(options) and made == options.max_pairs else "",
        "" if options.strategy in _RANKED else f"--seed {options.seed}",
    ]
    return ", ".join(filter(None, names))


def sample(options: DpoOptions, count: int) -> Ints:
    """Which of `count` pairs are made: all of them, or `--max-pairs` drawn ones."""
    return _sample(count, options.max_pairs if makes_many(options) else count, options.seed)


def draw_from_all(frames: Iterable[pl.DataFrame], options: DpoOptions) -> Drawn:
    """What `sample` draws from the pairs of all frames together, for pairing frame by frame in the same order."""
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
"""Strategies whose first pairs are those of the best rollouts: a limit keeps these."""


def _strides(o: Orders, groups: Ints, counts: Ints, seed: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """For each group, a start among its pairs and a step that is coprime to their number, so that each pair is visited once."""
    positions = np.searchsorted(o.group, groups)
    key = mixed(mixed(of_key("task_key")) ^ of_key("prompt_key") ^ pl.lit(seed, dtype=pl.UInt64))
    numbers = o.best[positions].select(first=key, second=mixed(key))
    sizes = counts.astype(np.uint64)
    offset, step = numbers["first"].to_numpy() % sizes, numbers["second"].to_numpy() % sizes
    while len(shared := np.flatnonzero(np.gcd(step, sizes) != 1)):
        step[shared] = (step[shared] + np.uint64(1)) % sizes[shared]
    return offset, step


def _sample(combinations: int, limit: int, seed: int) -> Ints:
    """`limit` different numbers below `combinations`, in order; all of them if there are no more."""
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
    """`pairs` with `is_overused`: a side is already in `max_uses` pairs with a larger gap (or an equal gap and an earlier place)."""
    if max_uses is None:
        return pairs.with_columns(is_overused=pl.lit(False))
    ranked = pairs.sort("reward_gap", "chosen_row", "rejected_row", descending=[True, False, False]).with_row_index("pair")
    uses = pl.concat([ranked.select("pair", row=f"{side}_row") for side in ("chosen", "rejected")]).sort("pair", maintain_order=True)
    worn = uses.filter(pl.int_range(pl.len()).over("row") >= max_uses)["pair"]
    return ranked.with_columns(is_overused=pl.col("pair").is_in(worn.implode())).drop("pair")
