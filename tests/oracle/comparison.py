"""How prompts moved between two sets of rollouts, in plain Python. Rows are canonical rows."""

from __future__ import annotations

import statistics as st
from collections import defaultdict
from typing import Any

from .statistics import SLACK, Row, is_sound


def means(rows: list[Row]) -> dict[str, list[float]]:
    """Sound rewards by prompt."""
    found = defaultdict(list)
    for row in rows:
        if is_sound(row):
            found[row["prompt_key"]].append(row["reward"])
    return found


def drift(now: list[Row], before: list[Row]) -> dict[str, Any]:
    """What `rollout-etl stats --compare` says about prompts; those that moved most are not cut to the first few."""
    new, old = means(now), means(before)
    change = {prompt: st.fmean(new[prompt]) - st.fmean(old[prompt]) for prompt in new if prompt in old}
    return {
        "both": len(change), "only_now": len(new) - len(change), "only_before": len(old) - len(change),
        "better": sum(moved > SLACK for moved in change.values()), "worse": sum(moved < -SLACK for moved in change.values()),
        "same": sum(abs(moved) <= SLACK for moved in change.values()),
        "mean_change": st.fmean(change.values()) if change else None,
        "error": st.stdev(change.values()) / len(change) ** 0.5 if len(change) > 1 else None,
        "moved": {prompt[:16]: (st.fmean(old[prompt]), st.fmean(new[prompt]), len(old[prompt]), len(new[prompt])) for prompt in change},
    }
