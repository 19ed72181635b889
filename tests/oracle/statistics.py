"""The statistics of a set of rollouts in plain Python, one number at a time. Rows are canonical rows."""

from __future__ import annotations

import json
import statistics as st
from collections import Counter, defaultdict
from collections.abc import Callable
from math import comb, sqrt
from typing import Any

from .recipes import RULES, SLACK, SOUND, TRAINABLE

Row = dict[str, Any]
EDGES = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]


def is_sound(row: Row) -> bool:
    return not any(RULES[name](row) for name in SOUND)


def is_trainable(row: Row) -> bool:
    return is_sound(row) and not any(RULES[name](row) for name in TRAINABLE)


def quantile(ordered: list[float], q: float) -> float:
    place = q * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def moments(values: list[float]) -> dict[str, Any]:
    ordered = sorted(values)
    if not ordered:
        return {"count": 0, **dict.fromkeys(("mean", "std", "min", "p25", "median", "p75", "max"))}
    return {
        "count": len(ordered), "mean": st.fmean(ordered), "std": st.stdev(ordered) if len(ordered) > 1 else None, "min": ordered[0],
        "p25": quantile(ordered, 0.25), "median": st.median(ordered), "p75": quantile(ordered, 0.75), "max": ordered[-1],
    }


def bins(values: list[float]) -> list[int]:
    """Counts of the docs' bins, or of ten equal ones; the last is closed."""
    low, high = min(values), max(values)
    if low >= -SLACK and high <= 1 + SLACK:
        edges = EDGES
    elif high - low <= SLACK * max(1, abs(high)):
        return [len(values)]
    else:
        edges = [low + (high - low) * i / 10 for i in range(10)] + [high]
    return [sum(1 for value in values if sum(value + SLACK >= edge for edge in edges[1:-1]) == place) for place in range(len(edges) - 1)]


def correlation(pairs: list[tuple[float, float]]) -> float | None:
    if not pairs:
        return None
    xs, ys = zip(*pairs, strict=True)
    if max(xs) == min(xs) or max(ys) - min(ys) <= SLACK:
        return None
    mx, my = st.fmean(xs), st.fmean(ys)
    top = sum((x - mx) * (y - my) for x, y in pairs)
    return top / sqrt(sum((x - mx) ** 2 for x in xs) * sum((y - my) ** 2 for y in ys))


def grouped(rows: list[Row]) -> list[list[Row]]:
    groups = defaultdict(list)
    for row in rows:
        groups[row["task_key"], row["prompt_key"]].append(row)
    return list(groups.values())


def in_order(group: list[Row]) -> list[Row]:
    """Attempts by number; those without one last, in the order of the input."""
    return sorted(group, key=lambda row: (row["attempt"] is None, row["attempt"] or 0))


def pass_at(groups: list[list[Row]], k: int, success: float) -> float | None:
    found = []
    for group in groups:
        n, c = len(group), sum(row["reward"] >= success - SLACK for row in group)
        if n >= k:
            found.append(1 - comb(n - c, k) / comb(n, k))
    return st.fmean(found) if found else None


def mean_at(groups: list[list[Row]], k: int) -> float | None:
    found = [st.fmean(row["reward"] for row in in_order(group)[:k]) for group in groups if len(group) >= k]
    return st.fmean(found) if found else None


def best_and_worst(group: list[Row]) -> tuple[Row, Row]:
    ordered = sorted(group, key=lambda row: (row["attempt"] is None, row["attempt"] or 0, row["completion_chars"], row["response_key"]))
    return max(ordered, key=lambda row: row["reward"]), min(ordered, key=lambda row: row["reward"])


def scope(rows: list[Row], success: float) -> dict[str, Any]:
    """What `rollout-etl stats` says about a scope, as far as numbers go."""
    sound = [row for row in rows if is_sound(row)]
    rewards = [row["reward"] for row in sound]
    groups = grouped(sound)
    several = [group for group in groups if len(group) > 1]
    spread = [max(r["reward"] for r in g) - min(r["reward"] for r in g) for g in several]
    wins = [sum(r["reward"] >= success - SLACK for r in g) for g in several]
    pairs = [best_and_worst(group) for group in grouped([row for row in rows if is_trainable(row)]) if len(group) > 1]
    pairs = [(best, worst) for best, worst in pairs if best["response_key"] != worst["response_key"]]
    metrics = defaultdict(list)
    for row in rows:
        for name, value in json.loads(row["metrics"]).items():
            metrics[name].append(float(value))
    calls = Counter(name for row in rows for name in json.loads(row["tool_names"] or "[]"))
    users = Counter(name for row in rows for name in set(json.loads(row["tool_names"] or "[]")))
    return {
        "rollouts": len(rows),
        "all_groups": len(grouped(rows)),
        "sound": len(sound),
        "trainable": sum(map(is_trainable, rows)),
        "missing": sum(RULES["missing_reward"](row) for row in rows),
        "reward": {**moments(rewards), "bins": bins(rewards), "success_rate": st.fmean(r >= success - SLACK for r in rewards),
                   "kind": "binary" if all(min(abs(r), abs(r - 1)) <= SLACK for r in rewards) else "continuous"} if rewards else None,
        "metrics": {name: moments(values) for name, values in metrics.items()},
        "groups": {
            "groups": len(groups), "several": len(several), "no_spread": sum(s <= SLACK for s in spread),
            "solved_by_all": sum(w == len(g) for w, g in zip(wins, several, strict=True)), "solved_by_none": sum(w == 0 for w in wins),
            "unique_ratio": sum(len({r["response_key"] for r in g}) for g in several) / sum(map(len, several)) if several else None,
            "mean_std": st.fmean(st.stdev([r["reward"] for r in g]) for g in several) if several else None,
        } if groups else None,
        "pass_at": {k: pass_at(groups, k, success) for k in range(1, 1 + max(map(len, groups), default=0))},
        "mean_at": {k: mean_at(groups, k) for k in range(1, 1 + max(map(len, groups), default=0))},
        "sizes": {name: moments([float(row[name]) for row in rows if row[name] is not None])
                  for name in ("num_turns", "num_tool_calls", "prompt_chars", "completion_chars", "prompt_tokens", "completion_tokens")},
        "tools": {name: (count, users[name]) for name, count in calls.items()},
        "correlation": correlation([(row["completion_chars"], row["reward"]) for row in sound]),
        "pairs": {f"{gap:g}": sum(best["reward"] - worst["reward"] >= gap - SLACK for best, worst in pairs) for gap in (0.1, 0.2, 0.3)},
        "chosen_longer": _share([best["completion_chars"] > worst["completion_chars"] for best, worst in pairs if best["reward"] - worst["reward"] >= 0.2 - SLACK]),
    }


def _share(found: list[bool]) -> float | None:
    return st.fmean(found) if found else None


def scopes(rows: list[Row], key: Callable[[Row], Any], success: float) -> dict[Any, dict[str, Any]]:
    parts = defaultdict(list)
    for row in rows:
        parts[key(row)].append(row)
    return {name: scope(part, success) for name, part in parts.items()}
