"""Rollouts compared with earlier ones: overall, by task name and agent, and prompt by prompt."""

from __future__ import annotations

from collections.abc import Callable
from math import hypot, sqrt
from typing import Any

import polars as pl

from rollout_etl.curate.rules import TOLERANCE
from rollout_etl.stats.narrow import Narrow

LARGEST = 5
"""How many prompts are named in each direction."""
_Scope = dict[str, Any]


def _of_reward(name: str) -> Callable[[_Scope], float | None]:
    return lambda scope: scope["reward"][name] if scope["reward"] else None


def _spreadless(scope: _Scope) -> float | None:
    found: float | None = scope["groups"]["shares"]["no_spread"] if scope["groups"] else None
    return found


MEASURES: dict[str, Callable[[_Scope], float | None]] = {
    "mean": _of_reward("mean"),
    "std": _of_reward("std"),
    "success_rate": _of_reward("success_rate"),
    "pass@1": lambda scope: scope["pass_at"].get(1),
    "pass@4": lambda scope: scope["pass_at"].get(4),
    "no_spread": _spreadless,
    "truncated": lambda scope: scope["truncated"] / scope["rollouts"] if scope["rollouts"] else None,
    "turns": lambda scope: scope["sizes"].get("num_turns", {}).get("mean"),
    "completion_chars": lambda scope: scope["sizes"].get("completion_chars", {}).get("mean"),
}
"""What is compared: of rewards, shares (`no_spread` of groups, `truncated` of rollouts), means of sizes."""


def point(found: dict[str, Any]) -> dict[str, Any]:
    """The point of a trend for a profile: its inputs, rollouts, and every measure."""
    overall = found["overall"]
    return {"inputs": found["inputs"], "rollouts": overall["rollouts"], **{name: look(overall) for name, look in MEASURES.items()}}


def compare(now: dict[str, Any], before: dict[str, Any], data: Narrow, earlier: Narrow) -> dict[str, Any]:
    """Changes from `before` to `now`, two profiles, and from `earlier` to `data`, the rollouts behind them.

    `overall` has `before`, `now` and `change` of each measure; `tasks` and `agents` the same for every name that both have;
    `mean_error` is the standard error of the change of the mean, as if rollouts were independent; for `prompts` see `drift`.
    """
    return {
        "inputs": before["inputs"],
        "rollouts": before["overall"]["rollouts"],
        "overall": _changes(now["overall"], before["overall"]),
        "mean_error": _mean_error(now["overall"]["reward"], before["overall"]["reward"]),
        **{part: _by_name(now[part], before[part]) for part in ("tasks", "agents")},
        "prompts": drift(data, earlier),
    }


def _changes(now: _Scope, before: _Scope) -> dict[str, dict[str, float | None]]:
    result = {}
    for name, look in MEASURES.items():
        old, new = look(before), look(now)
        result[name] = {"before": old, "now": new, "change": None if old is None or new is None else new - old}
    return result


def _mean_error(now: dict[str, Any] | None, before: dict[str, Any] | None) -> float | None:
    if now is None or before is None or now["std"] is None or before["std"] is None:
        return None
    return hypot(*(reward["std"] / sqrt(reward["count"]) for reward in (now, before)))


def _by_name(now: list[_Scope], before: list[_Scope]) -> dict[str, Any]:
    old = {scope["name"]: scope for scope in before}
    names = [scope["name"] for scope in now]
    return {
        "both": [
            {"name": scope["name"], "rollouts": {"before": old[scope["name"]]["rollouts"], "now": scope["rollouts"]}, **_changes(scope, old[scope["name"]])}
            for scope in now if scope["name"] in old
        ],
        "only_now": [name for name in names if name not in old],
        "only_before": [name for name in old if name not in names],
    }


def drift(data: Narrow, earlier: Narrow) -> dict[str, Any]:
    """How the mean reward of each prompt changed, over sound rollouts. Indices and files change from run to run, so tasks are matched by prompt.

    `both`, `only_now`, `only_before`, `better`, `worse`, `same` count prompts; `mean_change` is the mean over those in both and
    `error` its standard error; `fell` and `rose` name the prompts that changed most, where `prompt` is the beginning of their `prompt_key`.
    """
    now, before = _means(data), _means(earlier)
    both = now.join(before, on="prompt", suffix="_before").with_columns(change=pl.col("mean") - pl.col("mean_before"))
    change = pl.col("change")
    counts = both.select(
        both=pl.len(), better=(change > TOLERANCE).sum(), worse=(change < -TOLERANCE).sum(), same=(change.abs() <= TOLERANCE).sum(),
        mean_change=change.mean(), error=change.std(ddof=1) / pl.len().sqrt(),
    ).row(0, named=True)
    ordered = both.sort("change", "prompt")
    fell, rose = ordered.filter(change < -TOLERANCE).head(LARGEST), ordered.filter(change > TOLERANCE).reverse().head(LARGEST)
    return {
        **counts, "only_now": len(now) - len(both), "only_before": len(before) - len(both),
        "fell": [_named(row) for row in fell.iter_rows(named=True)], "rose": [_named(row) for row in rose.iter_rows(named=True)],
    }


def _means(data: Narrow) -> pl.DataFrame:
    return data.rollouts.filter("is_sound").group_by("prompt").agg(mean=pl.col("reward").mean(), attempts=pl.len())


def _named(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "prompt": f"{row['prompt']:016x}", "before": row["mean_before"], "now": row["mean"], "change": row["change"],
        "attempts": {"before": row["attempts_before"], "now": row["attempts"]},
    }
