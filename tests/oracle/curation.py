"""Curation in plain Python, one rollout at a time: groups, selections, copies, pairs, balance."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from itertools import combinations, pairwise
from statistics import mean, pstdev, stdev
from typing import Any

from rollout_etl.recipes.options import DpoOptions

Row = dict[str, Any]
SLACK = 1e-9


def groups_of(rows: list[Row]) -> list[list[Row]]:
    """Rollouts of a task with a prompt."""
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["task_key"], row["prompt_key"]].append(row)
    return list(groups.values())


def tie(row: Row) -> tuple[Any, ...]:
    return (row["attempt"] is None, row["attempt"] or 0, row["completion_key"], row["source"], row["line"])


def statistics(group: list[Row], success: float, k: int) -> Row:
    """What `--where-group` can ask of a group."""
    rewards = [row["reward"] for row in group]
    solved = [reward >= success - SLACK for reward in rewards]
    drawn = list(combinations(solved, k))
    return {
        "n": len(rewards), "mean_reward": mean(rewards), "min_reward": min(rewards), "max_reward": max(rewards),
        "std_reward": stdev(rewards) if len(rewards) > 1 else None, "pass_rate": sum(solved) / len(solved),
        "has_spread": max(rewards) - min(rewards) > SLACK, f"pass_at_{k}": sum(map(any, drawn)) / len(drawn) if drawn else None,
    }


def selected(rows: list[Row], select: str, per_group: int | None, success: float) -> list[Row]:
    chosen: list[int] = []
    for group in groups_of(rows):
        if select.startswith("best") or select == "all":
            ranked = sorted(group, key=lambda row: (-row["reward"], tie(row)))
            count = per_group or (len(group) if select == "all" else int(select.partition("=")[2] or 1))
        else:
            correct = [row for row in group if row["reward"] >= success - SLACK]
            ranked = sorted(correct, key=lambda row: (row["completion_chars"] if select == "shortest-correct" else 0, tie(row)))
            count = per_group or 1
        chosen += [row["row"] for row in ranked[:count]]
    return [row for row in rows if row["row"] in set(chosen)]


def without_copies(rows: list[Row], of: str) -> list[Row]:
    if of == "prompt":
        tasks = Counter((row["prompt_key"], row["task_key"]) for row in rows)
        stays = {}
        for (prompt, task), _ in sorted(tasks.items(), key=lambda item: (-item[1], item[0][1])):
            stays.setdefault(prompt, task)
        return [row for row in rows if stays[row["prompt_key"]] == row["task_key"]]
    names = ["prompt_key", "completion_key", "reward", "attempt"] if of == "rollout" else ["task_key", "prompt_key", "response_key"]
    first: dict[Any, Row] = {}
    for row in sorted(rows, key=tie):
        first.setdefault(tuple(row[name] for name in names), row)
    kept = {row["row"] for row in first.values()}
    return [row for row in rows if row["row"] in kept]


def all_pairs(rows: list[Row], options: DpoOptions) -> list[tuple[Row, Row]]:
    """Every pair that a strategy could make, whatever the gap (but for `all` and `random-negative`, which are made of it)."""
    length = {"first": 0, "shorter": 1, "longer": -1}[options.ties]
    pairs = []
    for group in [rows] if options.cross_prompt else groups_of(rows):
        best = sorted(group, key=lambda row: (-row["reward"], length * row["completion_chars"], tie(row)))
        worst = sorted(group, key=lambda row: (row["reward"], length * row["completion_chars"], tie(row)))
        n = len(group)
        worse = [(a, b) for a in best for b in worst if a["reward"] - b["reward"] >= options.min_gap - SLACK and a["reward"] - b["reward"] >= SLACK]
        if options.strategy == "stratified":
            pairs += [(a, b) for a in best for b in worst if a["reward"] >= options.high_threshold - SLACK and b["reward"] <= options.low_threshold + SLACK]
        elif options.strategy == "all":
            pairs += worse
        elif n < 2:
            continue
        elif options.strategy in ("same_prompt", "best-worst"):
            pairs.append((best[0], worst[0]))
        elif options.strategy == "best-second":
            pairs.append((best[0], best[1]))
        elif options.strategy == "adjacent":
            pairs += list(pairwise(best))
        elif options.strategy == "ranked":
            pairs += [(best[i], worst[i]) for i in range(n // 2)]
        elif options.strategy == "top-k-bottom-k":
            k = min(options.top_k, n // 2)
            pairs += [(a, b) for a in best[:k] for b in worst[:k]]
        elif options.strategy == "best-vs-mean-minus-2-sigma":
            rewards = [row["reward"] for row in group]
            aim = mean(rewards) - 2 * pstdev(rewards)
            pairs.append((best[0], min(worst, key=lambda row: round(abs(row["reward"] - aim) / SLACK))))
        elif options.strategy == "random-negative":
            pairs += [(a, b) for a, b in worse if a is best[0]]
    return pairs


def overused(pairs: list[tuple[Row, Row]], max_uses: int) -> list[tuple[int, int]]:
    uses: Counter[int] = Counter()
    worn = []
    for a, b in sorted(pairs, key=lambda pair: (-(pair[0]["reward"] - pair[1]["reward"]), pair[0]["row"], pair[1]["row"])):
        if uses[a["row"]] >= max_uses or uses[b["row"]] + (a is b) >= max_uses:
            worn.append((a["row"], b["row"]))
        uses.update([a["row"], b["row"]])
    return worn


def mix_counts(have: dict[str, int], shares: dict[str, float], upsample: bool) -> dict[str, int]:
    there = {name: share for name, share in shares.items() if have.get(name)}
    totals = [have[name] / share for name, share in there.items()]
    total = (max if upsample else min)(totals, default=0)
    return {name: max(math.floor(total * share + 1e-6), 1) for name, share in there.items()}


def words(text: str | None) -> list[str]:
    """A Chinese or Japanese character is a word."""
    unspaced = "\u3041-\u3096\u30a1-\u30fa\u3400-\u4dbf\u4e00-\u9fff"
    return re.findall(rf"[{unspaced}]|(?:(?![{unspaced}])[^\W_])+", (text or "").lower())


def is_excluded(prompt: str | None, benchmark: list[str], size: int) -> bool:
    own = words(prompt)

    def runs(of: list[str]) -> set[tuple[str, ...]]:
        return {tuple(of[i : i + size]) for i in range(len(of) - size + 1)} if size else set()

    return bool(own) and any(own == words(text) or runs(own) & runs(words(text)) for text in benchmark)


def advantage(rewards: list[float], kind: str) -> list[float]:
    average, n = mean(rewards), len(rewards)
    if kind == "grpo":
        return [(reward - average) / ((stdev(rewards) if n > 1 else 0.0) + 1e-4) for reward in rewards]
    if kind == "rloo":
        return [reward - (sum(rewards) - reward) / (n - 1) if n > 1 else 0.0 for reward in rewards]
    return [(reward - average) / average if abs(average) > SLACK else 0.0 for reward in rewards]
