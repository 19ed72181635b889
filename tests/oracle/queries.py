"""The named queries in plain Python, over canonical rows, with the defaults of each. Rows of an answer are tuples."""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from itertools import combinations
from statistics import correlation, fmean, pstdev, stdev
from typing import Any

from .statistics import Row, is_sound

Answer = list[tuple[Any, ...]]
Oracle = Callable[..., Answer]
ORACLES: dict[str, tuple[Oracle, list[dict[str, str]]]] = {}


def oracle(*others: dict[str, str]) -> Callable[[Oracle], Oracle]:
    """The plain Python of the query of that name, and parameters to try beside the defaults."""

    def keep(function: Oracle) -> Oracle:
        ORACLES[function.__name__] = (function, [{}, *others])
        return function

    return keep


def grouped(rows: Iterable[Row], *names: str) -> dict[tuple[Any, ...], list[Row]]:
    found: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        found[tuple(row[name] for name in names)].append(row)
    return found


def mean(values: Iterable[Any]) -> float | None:
    there = [float(value) for value in values if value is not None]
    return fmean(there) if there else None


def least(rows: Iterable[Row], name: str) -> Any:
    return min((row[name] for row in rows if row[name] is not None), key=lambda text: text.encode(), default=None)


def completion_calls(rows: list[Row]) -> list[tuple[Row, str | None, Any, str | None]]:
    """Rollout, tool, arguments and answer (None without one) of each call."""
    calls = []
    for row in rows:
        messages = json.loads(row["completion"])
        answers = defaultdict(list)
        for message in messages:
            if message["role"] == "tool":
                answers[message["tool_call_id"]].append(message["content"])
        for message in messages:
            for call in message.get("tool_calls", []):
                name = call["function"]["name"]
                answer = answers[call["id"]].pop(0) if answers[call["id"]] else None
                calls.append((row, name if isinstance(name, str) else None, call["function"]["arguments"], answer))
    return calls


@oracle({"width": "0.25"})
def reward_distribution(rows: list[Row], width: float = 0.1) -> Answer:
    kept = [row for row in rows if is_sound(row)]
    counts = Counter((row["task_name"], row["agent_name"], math.floor(row["reward"] / width + 1e-9)) for row in kept)
    totals = Counter((row["task_name"], row["agent_name"]) for row in kept)
    return [(task, agent, round(number * width, 9), n, n / totals[task, agent]) for (task, agent, number), n in counts.items()]


@oracle({"k": "2"}, {"k": "3", "threshold": "0.9"})
def pass_at_k(rows: list[Row], k: int = 1, threshold: float = 0.5) -> Answer:
    found: Answer = []
    for (task_key, prompt_key), group in grouped(filter(is_sound, rows), "task_key", "prompt_key").items():
        passed = [row["reward"] >= threshold - 1e-9 for row in group]
        if len(group) >= k:
            drawn = [any(sample) for sample in combinations(passed, k)]
            found.append((least(group, "task_name"), least(group, "agent_name"), task_key, prompt_key, len(group), sum(passed), fmean(drawn)))
    return found


def _tasks(rows: list[Row], most: int, attempts: int, sign: int, other: Callable[[Iterable[float]], float]) -> Answer:
    found = []
    for (task_key, prompt_key), group in grouped(rows, "task_key", "prompt_key").items():
        rewards = [row["reward"] for row in group if is_sound(row)]
        if len(rewards) >= max(attempts, 1):
            about = (least(group, "task_name"), least(group, "agent_name"), fmean(rewards), other(rewards), len(rewards), least(group, "prompt_text"))
            found.append((*about, task_key, prompt_key))
    return sorted(found, key=lambda f: (sign * round(f[2], 12), sign * f[3], -f[4], f[6], f[7]))[:most]


@oracle({"most": "5", "attempts": "2"})
def hardest_tasks(rows: list[Row], most: int = 20, attempts: int = 1) -> Answer:
    return _tasks(rows, most, attempts, 1, max)


@oracle({"most": "5", "attempts": "2"})
def easiest_tasks(rows: list[Row], most: int = 20, attempts: int = 1) -> Answer:
    return _tasks(rows, most, attempts, -1, min)


@oracle({"slack": "0.5"})
def groups_without_signal(rows: list[Row], slack: float = 1e-9) -> Answer:
    counts: dict[tuple[Any, Any], Counter[str]] = defaultdict(Counter)
    for group in grouped(rows, "task_key", "prompt_key").values():
        rewards = [row["reward"] for row in group if is_sound(row)]
        same = bool(rewards) and max(rewards) - min(rewards) <= slack
        kind = "none" if not rewards else "single" if len(rewards) == 1 else "signal" if not same else "good" if fmean(rewards) >= 0.5 - 1e-9 else "bad"
        counts[least(group, "task_name"), least(group, "agent_name")][kind] += 1
    return [(*key, c.total(), c["none"], c["single"], c["good"], c["bad"], c["signal"]) for key, c in counts.items()]


@oracle()
def tool_use(rows: list[Row]) -> Answer:
    by_row = Counter((name, row["row"]) for row, name, _, _ in completion_calls(rows))
    rewards = {row["row"]: row["reward"] if is_sound(row) else None for row in rows}
    found = []
    for name in {name for name, _ in by_row}:
        calls = {row: n for (called, row), n in by_row.items() if called == name}
        total = sum(calls.values())
        found.append((name, total, len(calls), total / len(calls), mean(rewards[row] for row in calls)))
    return found


@oracle({"pattern": "a"})
def tool_failures(rows: list[Row], pattern: str = r"(?i)^\s*(error|traceback|exception|failed|.{0,40}not\sfound)") -> Answer:
    counts: dict[str | None, Counter[str]] = defaultdict(Counter)
    for _, name, arguments, answer in completion_calls(rows):
        malformed = name is None or not isinstance(arguments, dict)
        error = isinstance(answer, str) and re.search(pattern, answer, re.ASCII) is not None
        counts[name].update(calls=1, malformed=malformed, unanswered=answer is None, errors=error, failed=malformed or error)
    return [(name, c["calls"], c["malformed"], c["unanswered"], c["errors"], c["failed"] / c["calls"]) for name, c in counts.items()]


def _correlation(xs: list[float], ys: list[float]) -> float | None:
    return correlation(xs, ys) if len(xs) > 1 and pstdev(xs) > 1e-12 and pstdev(ys) > 1e-12 else None


@oracle()
def length_bias(rows: list[Row]) -> Answer:
    kept = [row for row in rows if is_sound(row) and row["response_text"] is not None]
    for group in grouped(kept, "task_key", "prompt_key").values():
        tokens = [row["completion_tokens"] for row in group if row["completion_tokens"] is not None]
        for row in group:
            row["reward_off"] = row["reward"] - fmean(one["reward"] for one in group)
            row["characters_off"] = len(row["response_text"]) - fmean(len(one["response_text"]) for one in group)
            row["tokens_off"] = row["completion_tokens"] - fmean(tokens) if row["completion_tokens"] is not None else None
    found = []
    for key, members in grouped(kept, "task_name", "agent_name").items():
        rewards, lengths = [row["reward"] for row in members], [float(len(row["response_text"])) for row in members]
        counted = [row for row in members if row["tokens_off"] is not None]
        off = [row["reward_off"] for row in members]
        varies = pstdev(off) > 1e-12
        tokens_in_group = _correlation([row["reward_off"] for row in counted], [row["tokens_off"] for row in counted]) if varies else None
        good = mean(length for reward, length in zip(rewards, lengths, strict=True) if reward >= 0.5 - 1e-9)
        bad = mean(length for reward, length in zip(rewards, lengths, strict=True) if reward < 0.5 - 1e-9)
        found.append((*key, len(members), _correlation(rewards, lengths), _correlation(off, [row["characters_off"] for row in members]), tokens_in_group, good, bad))
    return found


@oracle({"least": "3"})
def duplicate_responses(rows: list[Row], least: int = 2) -> Answer:
    kept = [row for row in rows if (row["response_text"] or "").strip(" ")]
    found = []
    for (task_key, prompt_key, text), same in grouped(kept, "task_key", "prompt_key", "response_text").items():
        rewards = [row["reward"] for row in same if is_sound(row)]
        if len(same) >= least:
            names = [min((row[name] for row in same if row[name] is not None), key=str.encode, default=None) for name in ("task_name", "agent_name")]
            found.append((len(same), min(rewards, default=None), max(rewards, default=None), *names, text, task_key, prompt_key))
    return found


@oracle({"most": "2"})
def reward_by_turns(rows: list[Row], most: int = 20) -> Answer:
    turned = [{**row, "turns": min(row["num_turns"], most)} for row in rows if is_sound(row)]
    return [(*key, len(g), mean(r["reward"] for r in g), mean(r["num_tool_calls"] for r in g)) for key, g in grouped(turned, "agent_name", "turns").items()]


@oracle({"threshold": "0.9"})
def token_cost(rows: list[Row], threshold: float = 0.5) -> Answer:
    found = []
    for key, members in grouped(rows, "task_name", "agent_name").items():
        prompt = [row["prompt_tokens"] for row in members if row["prompt_tokens"] is not None]
        completion = [row["completion_tokens"] for row in members if row["completion_tokens"] is not None]
        good = sum(row["completion_tokens"] is not None and is_sound(row) and row["reward"] >= threshold - 1e-9 for row in members)
        total = sum(completion) if completion else None
        per_good = total / good if total is not None and good else None
        found.append((*key, len(members), len(completion), sum(prompt) if prompt else None, total, mean(completion), per_good))
    return found


@oracle({"field": "difficulty"}, {"field": "task_name"})
def iteration_trend(rows: list[Row], field: str = "iteration") -> Answer:
    dated = []
    for row in filter(is_sound, rows):
        value = json.loads(row["extra"]).get(field)
        spelt = value if isinstance(value, str) or value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        dated.append({**row, "iteration": row["source"] if spelt is None else spelt})
    found = []
    for (iteration,), g in grouped(dated, "iteration").items():
        rewards = [row["reward"] for row in g]
        deviation = stdev(rewards) if len(rewards) > 1 else None
        # Squares of such numbers are more than a double holds.
        deviation = math.inf if deviation is not None and deviation > 1e150 else deviation
        found.append((iteration, len(g), fmean(rewards), deviation, *(mean(r[n] for r in g) for n in ("num_turns", "completion_tokens", "is_truncated"))))
    return found


@oracle()
def agents_compared(rows: list[Row]) -> Answer:
    named = [row for row in rows if row["agent_name"] is not None]
    prompts: dict[str, dict[str, float]] = defaultdict(dict)
    for (agent, prompt), g in grouped(filter(is_sound, named), "agent_name", "prompt_key").items():
        prompts[agent][prompt] = fmean(row["reward"] for row in g)
    given = Counter(prompt for found in prompts.values() for prompt in found)
    found = []
    for (agent,), g in grouped(named, "agent_name").items():
        shared = [reward for prompt, reward in prompts[agent].items() if given[prompt] > 1]
        means = (mean(r[n] for r in g) for n in ("is_failure", "is_truncated", "num_turns", "num_tool_calls", "completion_tokens"))
        found.append((agent, len(g), len(prompts[agent]), mean(prompts[agent].values()), len(shared), mean(shared), *means))
    return found
