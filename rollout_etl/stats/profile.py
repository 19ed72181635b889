"""Everything `rollout-etl stats` knows about a set of rollouts, as JSON values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from rollout_etl import __version__
from rollout_etl.json_values import finite
from rollout_etl.stats.candidates import candidates, recommendation
from rollout_etl.stats.comparison import compare, point
from rollout_etl.stats.flags import raised
from rollout_etl.stats.narrow import Narrow
from rollout_etl.stats.scopes import group_by_group
from rollout_etl.stats.summary import SUCCESS, statistics


def profile(data: Narrow, *, algorithm: str | None = None, success: float = SUCCESS, earlier: Sequence[Narrow] = ()) -> dict[str, Any]:
    """Statistics, candidates, recommendation and flags.

    `success` is the smallest reward that counts as one; `algorithm` limits the flags to those that matter for it. With `earlier`
    rollouts, oldest first, `comparison` is with the last of them, and `trend` has a point for each of them and one for `data`; without
    them, both are null.
    """
    found = _measured(data, success)
    possible = candidates(data)
    comparison = trend = None
    if earlier:
        past = [_measured(each, success) for each in earlier]
        comparison, trend = compare(found, past[-1], data, earlier[-1]), [point(each) for each in [*past, found]]
    facts = {"overall": found["overall"], "candidates": possible, "mixed_groups": _mixed(data), "copies": _copies(data), "comparison": comparison}
    # Means of huge rewards overflow a double.
    made: dict[str, Any] = finite({
        **found,
        "copies": facts["copies"],
        "mixed_groups": facts["mixed_groups"],
        "candidates": possible,
        "recommendation": recommendation(possible, found["overall"]),
        "flags": [flag.to_json() for flag in raised(facts, algorithm)],
        "comparison": comparison,
        "trend": trend,
        "version": __version__,
    })
    return made


def _measured(data: Narrow, success: float) -> dict[str, Any]:
    """The counts of what was read, and its statistics."""
    return {
        "inputs": data.inputs,
        "read": data.read,
        "quarantined": data.quarantined,
        "quarantine_reasons": data.quarantine_reasons,
        "notes": data.notes,
        "success": success,
        **statistics(data, success),
    }


def _mixed(data: Narrow) -> int:
    """Number of groups whose rollouts disagree in the fields that belong to a task."""
    statics = pl.col("statics")
    mixed = data.rollouts.lazy().group_by("group").agg(differ=statics.min() != statics.max()).select(pl.col("differ").sum())
    return int(mixed.collect(engine="streaming").item())


def _copies(data: Narrow) -> int:
    """Number of rollouts that repeat another one of their group; neither the first of its kind nor empty ones count."""
    said = data.rollouts.lazy().filter(~pl.col("is_empty")).select("group", "response").collect()
    return int(group_by_group(said, lambda part: part.select(copies=pl.len() - pl.struct(pl.all()).n_unique()))["copies"].sum())
