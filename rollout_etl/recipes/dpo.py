"""Direct preference optimisation: pairs of rollouts of one group whose rewards differ enough.

Which rollouts are paired is decided on keys and rewards alone; what was said is fetched afterwards, for pairs only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from rollout_etl.curate.rules import SOUND, TOLERANCE, TRAINABLE, Rule, chosen_rules, verdict
from rollout_etl.recipes.options import DpoOptions

NARROW = ("row", "task_key", "prompt_key", "reward", "attempt", "completion_key", "source", "line")
"""Canonical columns that pairing looks at."""
COLUMNS = {
    "binary": ("prompt", "prompt_text", "prompt_kinds", "response_text"),
    "preference": ("prompt", "completion", "tools"),
}
_GROUP = ("task_key", "prompt_key")
_TIES = ("attempt", "completion_key", "source", "line")


CANNOT_HOLD = {"binary": ("flattened_completion", "tool_prompt"), "preference": ("inexact_number",)}
"""Rules for what the rows of each format cannot hold: one text holds no trajectory, and the loader of the preference format
reads numbers through a JSON reader that is not exact."""
_IDS = r'"(id|tool_call_id)":"(?:[^"\\]|\\.)*"'


def rules(options: DpoOptions, cannot_hold: Sequence[str] | None = None) -> list[Rule]:
    """The rules that drop rollouts. `cannot_hold` names those that a target's rows bring; without it, they are the format's."""
    rows = CANNOT_HOLD[options.format] if cannot_hold is None else cannot_hold
    return chosen_rules([*SOUND, *TRAINABLE, *rows], options.keep, options.drop, fixed=("missing_reward", "nonfinite_reward", "empty_answer"))


def example_rules(options: DpoOptions, sides: str | None = None) -> list[Rule]:
    """The rules that drop pairs. `sides` is the canonical column that a target compares; without it, it is the format's."""
    said = sides or ("response_text" if options.format == "binary" else "completion")
    return [identical_sides(pl.col(f"chosen_{said}"), pl.col(f"rejected_{said}"))]


def identical_sides(chosen: pl.Expr, rejected: pl.Expr) -> Rule:
    """Pairs whose sides say the same: there is nothing to prefer."""
    return Rule("identical_sides", chosen == rejected, "both sides say the same")


def without_ids(messages: pl.Expr) -> pl.Expr:
    """JSON messages without the ids of calls, which templates do not show to a model."""
    return messages.str.replace_all(_IDS, "")


def pair_rollouts(kept: pl.DataFrame, options: DpoOptions) -> tuple[pl.DataFrame, int]:
    """Pairs of `kept` rollouts (columns `NARROW`), and how many combinations there were.

    The pairs have `chosen_row`, `rejected_row`, `chosen_reward`, `rejected_reward` and `reward_gap`, whatever the gap. Ties
    are broken by attempt, content, file and line, so the order of the files does not matter.
    """
    pairs, combinations = _best_and_worst(kept) if options.strategy == "same_prompt" else _high_and_low(kept, options)
    gap = pl.col("chosen_reward") - pl.col("rejected_reward")
    return pairs.with_columns(reward_gap=gap).sort("chosen_row", "rejected_row"), combinations


def gap_rule(options: DpoOptions) -> Rule:
    """Pairs whose rewards are too close; a rollout is never paired with itself."""
    too_close = pl.col("reward_gap") < options.min_gap - TOLERANCE
    return Rule("gap_too_small", too_close | (pl.col("chosen_row") == pl.col("rejected_row")), f"the rewards differ by less than {options.min_gap:g}")


def _ordered(kept: pl.DataFrame) -> pl.DataFrame:
    return kept.sort(*_GROUP, "reward", *_TIES, descending=[False, False, True, False, False, False, False], nulls_last=True)


def _best_and_worst(kept: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    ordered = _ordered(kept)
    worst = pl.col("reward") == pl.col("reward").last()
    pairs = (
        ordered.group_by(_GROUP, maintain_order=True)
        .agg(
            pl.len().alias("n"),
            pl.col("row").first().alias("chosen_row"),
            pl.col("row").filter(worst).first().alias("rejected_row"),
            pl.col("reward").first().alias("chosen_reward"),
            pl.col("reward").last().alias("rejected_reward"),
        )
        .filter(pl.col("n") > 1)
        .drop("n", *_GROUP)
    )
    return pairs, len(pairs)


def _high_and_low(kept: pl.DataFrame, options: DpoOptions) -> tuple[pl.DataFrame, int]:
    """Every high rollout with every low one, or a sample of `max_pairs` of these combinations, drawn without making them all."""
    group = pl.lit(0).alias("group") if options.cross_prompt else pl.struct(_GROUP).rank("dense").alias("group")
    # Ordered by content, so that the sample does not depend on the order of the files.
    ordered = _ordered(kept).with_columns(group)
    high = ordered.filter(pl.col("reward") >= options.high_threshold - TOLERANCE)
    low = ordered.filter(pl.col("reward") <= options.low_threshold + TOLERANCE)
    sides = high.group_by("group").len("highs").join(low.group_by("group").len("lows"), on="group").sort("group")
    highs, lows = sides["highs"].to_numpy().astype(np.int64), sides["lows"].to_numpy().astype(np.int64)
    ends = np.cumsum(highs * lows)
    combinations = int(ends[-1]) if len(ends) else 0
    picked = _sample(combinations, options.max_pairs, options.seed)
    which = np.searchsorted(ends, picked, side="right")
    within = picked - (ends[which] - highs[which] * lows[which]) if combinations else picked
    first_high = _first_positions(high, sides)
    first_low = _first_positions(low, sides)
    chosen = high.sort("group", maintain_order=True)[first_high[which] + within // lows[which]] if combinations else high.clear()
    rejected = low.sort("group", maintain_order=True)[first_low[which] + within % lows[which]] if combinations else low.clear()
    pairs = pl.DataFrame(
        {
            "chosen_row": chosen["row"],
            "rejected_row": rejected["row"],
            "chosen_reward": chosen["reward"],
            "rejected_reward": rejected["reward"],
        }
    )
    return pairs, combinations


def _first_positions(side: pl.DataFrame, groups: pl.DataFrame) -> np.ndarray:
    """Where each of `groups` starts in `side`, once that is sorted by group."""
    positions = side.sort("group", maintain_order=True).with_row_index("at").group_by("group").agg(pl.col("at").min())
    return groups.join(positions, on="group", how="left", maintain_order="left")["at"].to_numpy().astype(np.int64)


def _sample(combinations: int, limit: int, seed: int) -> np.ndarray:
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


def with_sides(pairs: pl.DataFrame, said: pl.DataFrame) -> pl.DataFrame:
    """`pairs` with what was said: the columns of `said` (by `row`) for both sides, prefixed `chosen_` and `rejected_`."""
    for side in ("chosen", "rejected"):
        pairs = pairs.join(said.select(pl.all().name.prefix(f"{side}_")), on=f"{side}_row", how="inner", maintain_order="left")
    return pairs


def preference_pairs(rollouts: pl.LazyFrame, options: DpoOptions | None = None) -> pl.LazyFrame:
    """Preference pairs: a better and a worse rollout of the same group.

    `rollouts` is the canonical table; its keys and rewards are read at once, what was said when the result is collected. The
    result has `chosen_reward`, `rejected_reward`, `reward_gap` (Float64) and the columns of the format for both sides,
    prefixed `chosen_` and `rejected_`.
    """
    options = options or DpoOptions()
    kept = rollouts.filter(verdict(rules(options)).is_null())
    pairs, _ = pair_rollouts(kept.select(NARROW).collect(), options)
    lazy = pairs.filter(verdict([gap_rule(options)]).is_null()).lazy()
    for side in ("chosen", "rejected"):
        renamed = kept.select("row", *COLUMNS[options.format]).select(pl.all().name.prefix(f"{side}_"))
        lazy = lazy.join(renamed, on=f"{side}_row", how="inner", maintain_order="left")
    return lazy.filter(verdict(example_rules(options)).is_null())
