"""A good script without a dataframe: orjson, one process per core, each on a range of bytes of the file.

    python benchmarks/peers/orjson_script.py sft|dpo|split|stats ROLLOUTS OUTPUT

It trusts its input: one shape, no bad line, string questions, one answer. That is what such scripts do.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections import Counter
from collections.abc import Iterator
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import orjson

RANGE = 1 << 25
SPLIT = len(sys.argv) > 1 and sys.argv[1] == "split"
Side = tuple[float, str]


def rows_of(path: str, start: int, end: int) -> Iterator[dict[str, Any]]:
    """Rows whose line begins in the range."""
    with open(path, "rb") as file:
        if start:
            file.seek(start - 1)
            file.readline()
        while file.tell() < end and (line := file.readline()):
            yield orjson.loads(line)


def question_of(row: dict[str, Any]) -> str:
    return next(item["content"] for item in reversed(row["responses_create_params"]["input"]) if item["role"] == "user")


def answer_of(row: dict[str, Any]) -> str:
    return next(item["content"][0]["text"] for item in reversed(row["response"]["output"]) if item["type"] == "message")


def sft(task: tuple[str, int, int]) -> tuple[bytes, bytes]:
    """Lines to train on, and to validate with: a tenth of the questions."""
    lines: tuple[list[bytes], list[bytes]] = ([], [])
    for row in rows_of(*task):
        if row["reward"] >= 0.95:
            messages = [{"role": item["role"], "content": item["content"]} for item in row["responses_create_params"]["input"]]
            answer: dict[str, Any] = {"role": "assistant", "content": answer_of(row)}
            thoughts = [item["summary"][0]["text"] for item in row["response"]["output"] if item["type"] == "reasoning" and item["summary"]]
            messages.append({**answer, "reasoning_content": "\n\n".join(thoughts)} if thoughts else answer)
            aside = SPLIT and hashlib.md5(question_of(row).encode()).digest()[0] < 26
            lines[aside].append(orjson.dumps({"messages": messages}) + b"\n")
    return b"".join(lines[0]), b"".join(lines[1])


def rewards(task: tuple[str, int, int]) -> Counter[tuple[str, str]]:
    """Count, sum of the rewards and successes of each question in the range."""
    found: Counter[tuple[str, str]] = Counter()
    for row in rows_of(*task):
        question = question_of(row)
        found[question, "n"] += 1
        found[question, "reward"] += row["reward"]
        found[question, "passed"] += row["reward"] >= 0.5
    return found


def sides(task: tuple[str, int, int]) -> dict[str, tuple[Side, Side]]:
    """Best and worst answer of each question in the range."""
    found: dict[str, tuple[Side, Side]] = {}
    for row in rows_of(*task):
        question, side = question_of(row), (row["reward"], answer_of(row))
        best, worst = found.get(question, (side, side))
        found[question] = (max(best, side, key=lambda s: s[0]), min(worst, side, key=lambda s: s[0]))
    return found


def main() -> None:
    recipe, source, output = sys.argv[1:4]
    size = os.path.getsize(source)
    tasks = [(source, start, min(start + RANGE, size)) for start in range(0, size, RANGE)]
    with Pool(os.cpu_count()) as pool, Path(output).open("wb") as file:
        if recipe in ("sft", "split"):
            with Path(output + ".val").open("wb") as other:
                for train, val in pool.imap(sft, tasks):
                    file.write(train)
                    other.write(val)
            return
        if recipe == "stats":
            totals: Counter[tuple[str, str]] = Counter()
            for counted in pool.imap(rewards, tasks):
                totals.update(counted)
            questions = [question for question, name in totals if name == "n"]
            means = {question: totals[question, "reward"] / totals[question, "n"] for question in questions}
            file.write(orjson.dumps({"mean_reward": sum(means.values()) / len(means), "groups": len(means), "solved": sum(m > 0 for m in means.values())}))
            return
        together: dict[str, tuple[Side, Side]] = {}
        for found in pool.imap(sides, tasks):
            for question, (best, worst) in found.items():
                other_best, other_worst = together.get(question, (best, worst))
                together[question] = (max(other_best, best, key=lambda s: s[0]), min(other_worst, worst, key=lambda s: s[0]))
        for question, (best, worst) in together.items():
            if best[0] - worst[0] >= 0.2:
                file.write(orjson.dumps({"prompt": question, "chosen": best[1], "rejected": worst[1]}) + b"\n")


if __name__ == "__main__":
    main()
