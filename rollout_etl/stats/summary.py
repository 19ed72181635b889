"""All statistics of a set of rollouts: overall, by task name and by agent."""

from __future__ import annotations

import json
from typing import Any

import polars as pl

from rollout_etl.curate.rules import TOLERANCE
from rollout_etl.stats.distribution import are_huge, as_dict, histograms, moments, value_counts
from rollout_etl.stats.groups import outcomes, scored_groups
from rollout_etl.stats.lengths import PAIRED_BY, correlation, length_gap, pair_gaps
from rollout_etl.stats.narrow import Narrow
from rollout_etl.stats.pass_at_k import mean_at, pass_at
from rollout_etl.stats.scopes import Scope, by_scope, scoped

SUCCESS = 0.8
"""Smallest reward that counts as a success (docs, data-quality)."""
FAILURE = 0.3
"""A reward under this is a failure (docs, data-quality)."""
SIZES = ("num_turns", "num_tool_calls", "prompt_chars", "completion_chars", "prompt_tokens", "completion_tokens", "total_tokens")
_TOKENS = pl.col("prompt_tokens") + pl.col("completion_tokens")
MANY_TURNS, FEW_TURNS = 20, 2
"""Rollouts with fewer or more turns are outliers (docs, offline training)."""


def statistics(data: Narrow, success: float = SUCCESS) -> dict[str, Any]:
    """`overall`, `tasks` and `agents`: statistics as JSON values. Rewards, metrics of groups and lengths count sound rollouts only."""
    overall = (_by_scope(data, "overall", success) or [_nothing()])[0]

    def named(scope: Scope) -> list[dict[str, Any]]:
        names = data.rollouts[scope].unique()
        # A single name covers everything.
        return [{**overall, "name": names[0]}] if len(names) == 1 else _by_scope(data, scope, success)

    return {"overall": overall, "tasks": named("task_name"), "agents": named("agent_name")}


def _nothing() -> dict[str, Any]:
    return {"name": "overall", **_counts_of({}), "reward": None, "metrics": {}, "groups": None, "pass_at": {}, "mean_at": {}, "tools": [],
            "sizes": {}, "tokens": 0, "length": {"correlation": None, "pairs": None}}


_SHARES = ("success_rate", "failure_rate", "over_0.7", "under_0.5")
_COUNTED = {
    "sound": pl.col("is_sound"), "failed": pl.col("is_failure"), "masked": pl.col("is_masked"), "unverified": pl.col("is_unverified"),
    "nonfinite": pl.col("is_nonfinite"), "missing": pl.col("reward").is_null() & ~pl.col("is_nonfinite"), "truncated": pl.col("is_truncated"),
    "trainable": pl.col("is_trainable"), "empty": pl.col("is_empty"), "error_texts": pl.col("says_error"), "unanswered": pl.col("num_unanswered") > 0,
    "many_turns": pl.col("num_turns") > MANY_TURNS, "few_turns": pl.col("num_turns") < FEW_TURNS,
}


def _counts_of(row: dict[str, Any]) -> dict[str, int]:
    return {name: int(row.get(name, 0)) for name in ("rollouts", "all_groups", *_COUNTED)}


def _by_scope(data: Narrow, scope: Scope, success: float) -> list[dict[str, Any]]:
    everything = scoped(data.rollouts, scope)
    # Nothing else is needed of them, and a copy of all columns would need noticeable memory.
    narrow = everything.lazy().select("scope", *PAIRED_BY, "is_sound", "is_trainable")
    pairs = data.pairs if scope == "overall" else pair_gaps(narrow.filter("is_trainable").select("scope", *PAIRED_BY).collect())
    gaps = length_gap(pairs)
    sound = narrow.filter("is_sound").select("scope", *PAIRED_BY).collect()
    counted = (holds.sum().alias(name) for name, holds in _COUNTED.items())
    counts = by_scope(everything, pl.len().alias("rollouts"), pl.col("group").n_unique().alias("all_groups"), *counted)
    sizes, tokens = _sizes(everything)
    values = sound.select("scope", value="reward")
    rewards = _rewards(sound, success)
    several, bins = value_counts(values), histograms(values)
    groups = scored_groups(sound, success)
    grouped, passed, first = outcomes(groups), pass_at(groups), mean_at(sound)
    correlated = correlation(sound)
    metrics, tools = _metrics(data, scope), _tools(data, scope)
    result = []
    for row in counts.sort("rollouts", "scope", descending=[True, False]).iter_rows(named=True):
        name = row["scope"]
        reward = rewards.get(name)
        if reward is not None:
            reward |= {"values": several[name], "histogram": bins[name]}
            scores = [metric for metric in metrics.get(name, {}).values() if metric["min"] >= 0 and metric["max"] <= 1]
            reward["multi_metric"] = sum(metric["count"] * 2 >= row["rollouts"] for metric in scores) > 1
        result.append(
            {
                "name": name, **_counts_of(row), "reward": reward, "metrics": metrics.get(name, {}), "groups": grouped.get(name),
                "pass_at": passed.get(name, {}), "mean_at": first.get(name, {}), "tools": tools.get(name, []),
                "sizes": sizes[name], "tokens": tokens[name],
                "length": {"correlation": correlated.get(name), "pairs": gaps.get(name)},
            }
        )
    return result


def _sizes(everything: pl.DataFrame) -> tuple[dict[Any, dict[str, Any]], dict[Any, int]]:
    """Moments of every size by scope, and the total of tokens. One size at a time, because quartiles make a copy each."""
    result: dict[Any, dict[str, Any]] = {}
    for size in SIZES:
        values = everything.select("scope", size=_TOKENS if size == "total_tokens" else pl.col(size))
        for row in by_scope(values, *moments(pl.col("size"))).iter_rows(named=True):
            result.setdefault(row["scope"], {})[size] = as_dict(row)
    return result, dict(by_scope(everything, tokens=_TOKENS.sum()).iter_rows())


def _rewards(sound: pl.DataFrame, success: float) -> dict[Any, dict[str, Any]]:
    reward = pl.col("reward")
    is_binary = (reward.abs() <= TOLERANCE) | ((reward - 1).abs() <= TOLERANCE)
    found = by_scope(
        sound, *moments(reward, huge=are_huge(sound["reward"])), is_binary.all().alias("binary"), (reward >= success - TOLERANCE).mean().alias("success_rate"),
        (reward < FAILURE - TOLERANCE).mean().alias("failure_rate"),
        (reward > 0.7 + TOLERANCE).mean().alias("over_0.7"), (reward < 0.5 - TOLERANCE).mean().alias("under_0.5"),
    )
    return {
        row["scope"]: {**as_dict(row), "kind": "binary" if row["binary"] else "continuous", **{name: row[name] for name in _SHARES}}
        for row in found.iter_rows(named=True)
    }


def _metrics(data: Narrow, scope: Scope) -> dict[Any, dict[str, dict[str, Any]]]:
    """Moments of every metric, over all rollouts that have it, sound or not, as Gym counts them."""
    if data.metrics.is_empty():
        return {}
    names = scoped(data.rollouts, scope)["scope"]
    measures = moments(pl.col("value"), huge=are_huge(data.metrics["value"]))
    found = by_scope(data.metrics.with_columns(scope=names.gather(data.metrics["row"])), *measures, within=("name",))
    result: dict[Any, dict[str, dict[str, Any]]] = {}
    for row in found.with_columns(pl.col("name").cast(pl.String)).sort("scope", "name").iter_rows(named=True):
        result.setdefault(row["scope"], {})[json.loads(f'"{row["name"]}"')] = as_dict(row)
    return result


def _tools(data: Narrow, scope: Scope) -> dict[Any, list[dict[str, Any]]]:
    found = by_scope(scoped(data.tools, scope), pl.col("calls", "rollouts").sum(), within=("tool",))
    found = found.sort("scope", "calls", "tool", descending=[False, True, False])
    result: dict[Any, list[dict[str, Any]]] = {}
    for row in found.iter_rows(named=True):
        result.setdefault(row.pop("scope"), []).append(row)
    return result
