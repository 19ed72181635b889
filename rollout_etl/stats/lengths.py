"""Lengths against rewards: what a trainer would learn about length alone."""

from __future__ import annotations

from typing import Any

import polars as pl

from rollout_etl.curate.rules import TOLERANCE

GAP = 0.2
"""Smallest reward gap of the pairs that are looked at: the default of the recipe `dpo` (docs of dpo, `--min_gap`)."""


PAIRED_BY = ("group", "attempt", "response_key", "reward", "completion_chars")
"""Columns that pairs are made of."""


def correlation(sound: pl.DataFrame) -> dict[Any, float | None]:
    """Pearson correlation of `completion_chars` and `reward` by `scope`, null where one of them never changes."""
    # Where a column is constant, the quotient is NaN or noise of the last digit.
    changes = (pl.col("completion_chars").min() < pl.col("completion_chars").max()) & (pl.col("reward").max() - pl.col("reward").min() > TOLERANCE)
    found = sound.group_by("scope").agg(
        pl.when(changes).then(pl.corr(pl.col("completion_chars").cast(pl.Float64), pl.col("reward"), method="pearson")).alias("correlation")
    )
    return dict(found.iter_rows())


def pair_gaps(trainable: pl.DataFrame) -> pl.DataFrame:
    """Best and worst of each group: `scope`, `gap` (Float64), `is_same` (they say and do the same, which is no preference),
    `chosen_chars` and `rejected_chars` (Int64), whatever the gap.

    Ties are broken as by the recipe `dpo`: by attempt, then by content. Groups of one are left out.
    """
    ties = ("attempt", "response_key")
    best = pl.struct("response_key", "completion_chars").sort_by("reward", *ties, descending=[True, False, False], nulls_last=True, maintain_order=True).first()
    worst = pl.struct("response_key", "completion_chars").sort_by("reward", *ties, nulls_last=True, maintain_order=True).first()
    # Most groups are small: those of one are not worth sorting.
    several = trainable.filter(pl.len().over("scope", "group") > 1)
    picked = several.group_by("scope", "group", maintain_order=True).agg(gap=pl.col("reward").max() - pl.col("reward").min(), best=best, worst=worst)
    chosen, rejected = pl.col("best").struct, pl.col("worst").struct
    return picked.select(
        "scope", "gap", is_same=chosen.field("response_key") == rejected.field("response_key"),
        chosen_chars=chosen.field("completion_chars"), rejected_chars=rejected.field("completion_chars"),
    )


def length_gap(pairs: pl.DataFrame) -> dict[Any, dict[str, Any]]:
    """Length of the chosen and the rejected side of the pairs that DPO would get, by `scope`."""
    chosen, rejected = pl.col("chosen_chars"), pl.col("rejected_chars")
    found = pairs.filter((pl.col("gap") >= GAP - TOLERANCE) & ~pl.col("is_same")).group_by("scope").agg(
        pairs=pl.len(), mean_gap=pl.col("gap").mean(), chosen_chars=chosen.mean(), rejected_chars=rejected.mean(), chosen_longer=(chosen > rejected).mean()
    )
    return {row.pop("scope"): row for row in found.iter_rows(named=True)}
