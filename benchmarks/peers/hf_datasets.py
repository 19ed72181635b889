"""The same with Hugging Face datasets: load, filter, map, to_json.

    python benchmarks/peers/hf_datasets.py sft|dpo|split|stats ROLLOUTS OUTPUT
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from typing import Any


def conversation(row: dict[str, Any]) -> dict[str, Any]:
    messages = [{"role": item["role"], "content": item["content"]} for item in row["responses_create_params"]["input"]]
    answer = next(item["content"][0]["text"] for item in reversed(row["response"]["output"]) if item["type"] == "message")
    return {"messages": [*messages, {"role": "assistant", "content": answer}]}


def sides(row: dict[str, Any]) -> dict[str, Any]:
    question = next(item["content"] for item in reversed(row["responses_create_params"]["input"]) if item["role"] == "user")
    answer = next(item["content"][0]["text"] for item in reversed(row["response"]["output"]) if item["type"] == "message")
    return {"question": question, "answer": answer}


def is_aside(row: dict[str, Any]) -> bool:
    question = next(message["content"] for message in reversed(row["messages"]) if message["role"] == "user")
    return hashlib.md5(question.encode()).digest()[0] < 26


def main() -> None:
    recipe, source, output = sys.argv[1:4]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HF_HOME"] = os.environ["HF_DATASETS_CACHE"] = folder
        from datasets import Dataset, disable_progress_bars, load_dataset

        disable_progress_bars()
        workers = os.cpu_count()
        data = load_dataset("json", data_files=source, split="train")
        if recipe in ("sft", "split"):
            kept = data.filter(lambda reward: reward >= 0.95, input_columns="reward", num_proc=workers)
            rows = kept.map(conversation, remove_columns=kept.column_names, num_proc=workers)
            if recipe == "split":
                rows.filter(is_aside, num_proc=workers).to_json(output + ".val")
                rows = rows.filter(lambda row: not is_aside(row), num_proc=workers)
            rows.to_json(output)
            return
        named = data.map(sides, remove_columns=[name for name in data.column_names if name != "reward"], num_proc=workers)
        # datasets has no groups: a dictionary it is.
        groups: dict[str, list[tuple[float, str]]] = {}
        for row in named:
            groups.setdefault(row["question"], []).append((row["reward"], row["answer"]))
        if recipe == "stats":
            means = [sum(reward for reward, _ in found) / len(found) for found in groups.values()]
            Dataset.from_list([{"mean_reward": sum(means) / len(means), "groups": len(means), "solved": sum(m > 0 for m in means)}]).to_json(output)
            return
        pairs = []
        for question, found in groups.items():
            ordered = sorted(found, key=lambda side: side[0], reverse=True)
            if ordered[0][0] - ordered[-1][0] >= 0.2:
                pairs.append({"prompt": question, "chosen": ordered[0][1], "rejected": ordered[-1][1]})
        Dataset.from_list(pairs).to_json(output)


if __name__ == "__main__":
    main()
