"""How lengths relate to rewards: what a trainer would learn about length alone."""

from __future__ import annotations

from typing import Any

import polars as pl

from rollout_etl.curate.rules import TOLERANCE
from rollout_etl.stats.scopes import by_scope, group_by_group

GAP = 0.2
"""Smallest reward gap of the pairs that are measured: the default of the recipe `dpo` (docs of dpo, `--min_gap`)."""


PAIRED_BY = ("group", "attempt", "response", "reward", "completion_chars")
"""Columns that pairs are made from."""


def correlation(sound: pl.DataFrame) -> dict[Any, float | None]:
    """Pearson correlation of `completion_chars` and `reward` by `scope`, null if one of them is constant."""
    # If a column is constant, the quotient is NaN or rounding noise.
    changes = (pl.col("completion_chars").min() < pl.col("completion_chars").max()) & (pl.col("reward").max() - pl.col("reward").min() > TOLERANCE)
    correlated = pl.corr(pl.col("completion_chars").cast(pl.Float64), pl.col("reward"), method="pearson")
    found = by_scope(sound, correlation=pl.when(changes).then(correlated))
    return dict(found.iter_rows())


def pair_gaps(trainable: pl.DataFrame) -> pl.DataFrame:
    """Best and worst of each group: `scope`, `gap` (Float64), `is_same` (both say and do the same, so there is no preference),
    `chosen_chars` and `rejected_chars` (Int64), whatever the gap.

    Ties are broken by attempt, as in the recipe `dpo`, then by length and content. Length comes before content because content is identified
    by one number for stored rollouts and another for lines, and the resulting lengths must not depend on which. Groups of one are left out.
    """
    return group_by_group(trainable, _pair_gaps)


def _pair_gaps(trainable: pl.DataFrame) -> pl.DataFrame:
    # Groups of one need not be sorted.
    several = trainable.filter(pl.len().over("scope", "group") > 1)
    ordered = several.sort("group", "reward", "attempt", "completion_chars", "response", nulls_last=True, maintain_order=True)
    # The first of the smallest reward is the worst, the first of the largest the best.
    firsts = by_scope(ordered, pl.col("response", "completion_chars").first(), within=("group", "reward"))
    picked = by_scope(
        firsts, within=("group",),
        gap=pl.col("reward").last() - pl.col("reward").first(), is_same=pl.col("response").last() == pl.col("response").first(),
        chosen_chars=pl.col("completion_chars").last(), rejected_chars=pl.col("completion_chars").first(),
    )
    return picked.drop("group")


def length_gap(pairs: pl.DataFrame) -> dict[Any, dict[str, Any]]:
    """Lengths of the chosen and rejected sides of the pairs that DPO would get, by `scope`."""
    chosen, rejected = pl.col("chosen_chars"), pl.col("rejected_chars")
    found = by_scope(
        pairs.filter((pl.col("gap") >= GAP - TOLERANCE) & ~pl.col("is_same")),
        pairs=pl.len(), mean_gap=pl.col("gap").mean(), chosen_chars=chosen.mean(), rejected_chars=rejected.mean(), chosen_longer=(chosen > rejected).mean()
    )
    return {row.pop("scope"): row for row in found.iter_rows(named=True)}
