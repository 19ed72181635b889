"""Lengths against rewards: what a trainer would learn about length alone."""

from __future__ import annotations

from typing import Any

import polars as pl

from rollout_etl.curate.rules import TOLERANCE

GAP = 0.2
"""Smallest reward gap of the pairs that are looked at: the default of the recipe `dpo` (docs of dpo, `--min_gap`)."""


def correlation(sound: pl.DataFrame) -> dict[Any, float | None]:
    """Pearson correlation of `completion_chars` and `reward` by `scope`, null where one of them never changes."""
    # Where a column is constant, the quotient is NaN or noise of the last digit.
    changes = (pl.col("completion_chars").min() < pl.col("completion_chars").max()) & (pl.col("reward").max() - pl.col("reward").min() > TOLERANCE)
    found = sound.group_by("scope").agg(
        pl.when(changes).then(pl.corr(pl.col("completion_chars").cast(pl.Float64), pl.col("reward"), method="pearson")).alias("correlation")
    )
    return dict(found.iter_rows())


def pair_gaps(trainable: pl.DataFrame) -> pl.DataFrame:
    """Best and worst of each group: `scope`, `gap` (Float64), `chosen_chars` and `rejected_chars` (Int64), whatever the gap.

    Of equal rewards the first attempt is the best, the last the worst. Groups of one are left out.
    """
    chars, ordered = pl.col("completion_chars"), ["reward", "attempt"]
    return (
        trainable.group_by("scope", "group", maintain_order=True)
        .agg(
            n=pl.len(),
            gap=pl.col("reward").max() - pl.col("reward").min(),
            chosen_chars=chars.sort_by(ordered, descending=[True, False], nulls_last=True, maintain_order=True).first(),
            rejected_chars=chars.sort_by(ordered, descending=[True, False], nulls_last=True, maintain_order=True).last(),
        )
        .filter(pl.col("n") > 1)
    )


def length_gap(pairs: pl.DataFrame) -> dict[Any, dict[str, Any]]:
    """Length of the chosen and the rejected side of the pairs that DPO would get, by `scope`."""
    chosen, rejected = pl.col("chosen_chars"), pl.col("rejected_chars")
    found = pairs.filter(pl.col("gap") >= GAP - TOLERANCE).group_by("scope").agg(
        pairs=pl.len(), mean_gap=pl.col("gap").mean(), chosen_chars=chosen.mean(), rejected_chars=rejected.mean(), chosen_longer=(chosen > rejected).mean()
    )
    return {row.pop("scope"): row for row in found.iter_rows(named=True)}
