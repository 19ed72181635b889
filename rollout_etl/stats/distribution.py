"""Distributions of numbers: moments, quartiles, counts of values, histograms. Vectorised, with one result row for each `scope`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import polars as pl

from rollout_etl.curate.rules import TOLERANCE
from rollout_etl.stats.scopes import by_scope

UNIT_EDGES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Bins of the docs (prepare-for-training). Their script omits a reward of exactly 1.0; here the last bin is closed."""
_BINS = 10
DISCRETE = 20
"""Up to this many distinct values are counted individually."""
_HUGE = 1e150
_NUMBERS = ("mean", "std", "min", "p25", "median", "p75", "max")


def are_huge(values: pl.Series) -> bool:
    """Whether sums or squares of the values may overflow a double."""
    largest = values.abs().max()
    return isinstance(largest, float) and largest > _HUGE


def moments(values: pl.Expr, *, huge: bool = False) -> list[pl.Expr]:
    """`count`, `mean`, `std` (ddof 1, null for one value), `min`, `p25`, `median`, `p75`, `max`; quartiles are linear. Nulls do not count.

    Equal values have exactly that value as their mean and a spread of 0, however many there are: sums of millions would drift. `huge`
    values (see `are_huge`) are computed relative to the largest.
    """
    equal = values.min() == values.max()
    scale = values.abs().max()
    parts = values / scale if huge else values

    def scaled(found: pl.Expr) -> pl.Expr:
        return found * scale if huge else found

    found = {
        "count": values.count(),
        "mean": pl.when(equal).then(values.min()).otherwise(scaled(parts.mean())),
        "std": pl.when(equal & (values.count() > 1)).then(0.0).otherwise(scaled(parts.std(ddof=1))),
        "min": values.min(),
        **{name: scaled(parts.quantile(q, "linear")) for name, q in (("p25", 0.25), ("median", 0.5), ("p75", 0.75))},
        "max": values.max(),
    }
    return [expression.alias(name) for name, expression in found.items()]


def as_dict(row: dict[str, Any]) -> dict[str, Any]:
    """The moments of one scope."""
    return {name: row[name] for name in ("count", *_NUMBERS)}


def value_counts(frame: pl.DataFrame) -> dict[Any, list[dict[str, float]] | None]:
    """Counts of each `value` by `scope`; None if there are more than `DISCRETE` values. Values closer than the tolerance count as one."""
    # Different sums of thirds count as one value, shown in its shortest form. Huge values have no such digits.
    rounded = ((pl.col("value") / TOLERANCE).round() * TOLERANCE).round(9)
    close = pl.when(pl.col("value").abs() < 1 / TOLERANCE).then(rounded).otherwise("value")
    counted = by_scope(frame.drop_nulls("value").with_columns(value=close), count=pl.len(), within=("value",)).sort("scope", "value")
    result: dict[Any, list[dict[str, float]] | None] = {}
    for (scope,), part in counted.group_by(["scope"], maintain_order=True):
        # -0.0 is 0.
        few = len(part) <= DISCRETE
        result[scope] = [{"value": value + 0.0, "count": count} for value, count in part.select("value", "count").iter_rows()] if few else None
    return result


def histograms(frame: pl.DataFrame) -> dict[Any, list[dict[str, float]]]:
    """Bins of `value` by `scope`, half open, the last one closed: those of the docs within 0..1, else ten of equal width."""
    return {scope: histogram(part["value"]) for (scope,), part in frame.drop_nulls("value").group_by(["scope"], maintain_order=True)}


def histogram(values: pl.Series) -> list[dict[str, float]]:
    """Bins `from`, `to`, `count` of numbers without nulls."""
    low, high = values.min(), values.max()
    if low is None or high is None:
        return []
    assert isinstance(low, float) and isinstance(high, float)
    edges = list(UNIT_EDGES) if low >= -TOLERANCE and high <= 1 + TOLERANCE else equal_edges(low, high)
    return [{"from": start, "to": end, "count": count} for start, end, count in zip(edges, edges[1:], binned(values, edges), strict=False)]


def equal_edges(low: float, high: float) -> list[float]:
    """Edges of ten equal bins from `low` to `high`; one bin if they are the same."""
    if high - low <= TOLERANCE * max(1.0, abs(high)):
        return [low, high]
    if not math.isfinite((high - low) * _BINS):
        return [low * (1 - i / _BINS) + high * (i / _BINS) for i in range(_BINS)] + [high]
    return [low + (high - low) * i / _BINS for i in range(_BINS)] + [high]


def binned(values: pl.Series, edges: Sequence[float]) -> list[int]:
    """How many values each bin has. A value very slightly under an edge belongs to the bin above: verifiers write 0.5999999999999999."""
    inner = pl.Series(edges[1:-1], dtype=pl.Float64)
    bins = inner.search_sorted(values + TOLERANCE, side="right") if len(inner) else pl.zeros(len(values), dtype=pl.UInt32, eager=True)
    counts = dict(pl.Series(bins, dtype=pl.UInt32).value_counts().iter_rows())
    return [counts.get(i, 0) for i in range(len(edges) - 1)]
