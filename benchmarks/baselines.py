"""What people run today: a script that holds every rollout as dicts.

    python benchmarks/baselines.py sft|dpo|grpo|split|stats|scan ROLLOUTS OUTPUT

The semantics are those of the scripts in NeMo Gym's documentation (first text part, last user text as prompt, stable sort by
reward, ASCII escapes), adapted only so far that they read `response.output`. `scan` is no script but the bare DuckDB scan.
"""

from __future__ import annotations

import hashlib
import json
import sys
from typing import Any


def question(row: dict[str, Any]) -> str:
    return next((item["content"] for item in reversed(row["responses_create_params"]["input"]) if item.get("role") == "user"), "")


def answer(row: dict[str, Any]) -> str:
    for item in reversed(row["response"]["output"]):
        if item.get("type") == "message" and item.get("content"):
            return item["content"][0].get("text", "") if isinstance(item["content"], list) else item["content"]
    return ""


def sft(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    examples = []
    for row in [row for row in rows if row.get("reward", 0.0) >= 0.95]:
        params = row["responses_create_params"]
        messages: list[dict[str, Any]] = [{"role": item.get("role", "user"), "content": item.get("content", "")} for item in params["input"]]
        calls: list[dict[str, Any]] = []
        for item in row["response"]["output"]:
            if item["type"] == "function_call":
                calls.append({"name": item["name"], "arguments": json.loads(item.get("arguments", "{}"))})
                continue
            if calls:
                messages.append({"role": "assistant", "content": "", "tool_calls": calls})
                calls = []
            if item["type"] == "function_call_output":
                messages.append({"role": "tool", "content": item["output"]})
            elif item["type"] == "message":
                messages.append({"role": "assistant", "content": item["content"][0].get("text", "")})
        examples.append({"messages": messages, **({"tools": params["tools"]} if params.get("tools") else {})})
    return examples


def dpo(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(str(question(row)), []).append(row)
    pairs = []
    for prompt, group in groups.items():
        ordered = sorted(group, key=lambda row: row.get("reward", 0.0), reverse=True)
        if len(group) > 1 and ordered[0]["reward"] - ordered[-1]["reward"] >= 0.2:
            pairs.append({"prompt": prompt, "chosen": answer(ordered[0]), "rejected": answer(ordered[-1])})
    return pairs


def grpo(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    kept = [row for row in rows if row.get("reward", 0.0) >= 0.0]
    return [{"input": question(row), "output": answer(row), "ground_truth": row.get("expected_answer")} for row in kept]


def stats(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    groups: dict[str, list[float]] = {}
    for row in rows:
        groups.setdefault(str(question(row)), []).append(row.get("reward", 0.0))
    means = [sum(rewards) / len(rewards) for rewards in groups.values()]
    return [{"mean_reward": sum(means) / len(means), "groups": len(means), "solved": sum(mean > 0 for mean in means)}]


def scan(path: str) -> None:
    """Read the columns that rollout-etl reads, and nothing else. DuckDB leaves out what a query does not name, so each is counted.

    Contents are JSON here, as DuckDB keeps them by itself, whatever way rollout-etl has found to do with less: a yardstick stays as it is.
    """
    import duckdb

    from rollout_etl.read.structure import STRUCTURE

    def column_type(tree: Any) -> str:
        if isinstance(tree, list):
            return column_type(tree[0]) + "[]"
        if isinstance(tree, str):
            return tree
        return "STRUCT(" + ", ".join(f'"{name}" {"JSON" if name == "text" else column_type(part)}' for name, part in tree.items()) + ")"

    columns = ", ".join(f"'{name}': '{column_type(part)}'" for name, part in STRUCTURE.items())
    source = f"read_json($path, format := 'newline_delimited', ignore_errors := true, columns := {{{columns}}})"
    counts = ", ".join(f'count("{name}")' for name in STRUCTURE)
    print(duckdb.sql(f"SELECT {counts} FROM {source}", params={"path": path}).fetchall()[0])


def main() -> None:
    recipe, source, output = sys.argv[1:4]
    if recipe == "scan":
        scan(source)
        return
    with open(source, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    if recipe == "split":
        aside = [hashlib.md5(question(row).encode()).digest()[0] < 26 for row in rows]
        write(f"{output}.val", sft([row for row, out in zip(rows, aside, strict=True) if out]))
        write(output, sft([row for row, out in zip(rows, aside, strict=True) if not out]))
        return
    write(output, {"sft": sft, "dpo": dpo, "grpo": grpo, "stats": stats}[recipe](rows))


def write(output: str, examples: list[dict[str, Any]]) -> None:
    with open(output, "w", encoding="utf-8") as file:
        for example in examples:
            file.write(json.dumps(example) + "\n")


if __name__ == "__main__":
    main()
