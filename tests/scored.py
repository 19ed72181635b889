"""Rollouts with rewards that a test states: as lines, and as statistics keep them."""

from __future__ import annotations

import json
import random
from typing import Any

import polars as pl

from rollout_etl.stats.narrow import SCHEMA, Narrow


def line(rng: random.Random, task: int, attempt: int, rewards: list[Any]) -> bytes:
    row: dict[str, Any] = {
        "responses_create_params": {"input": [{"role": "user", "content": f"question {task} " + "é\n" * rng.randrange(5)}]},
        "response": {
            "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": rng.choice(("a", "b \\ \"c\"", "déjà\nvu", "x" * 40))}]}],
            "usage": {"input_tokens": rng.randrange(50), "output_tokens": rng.randrange(50), "total_tokens": 0},
        },
        "_ng_task_index": task, "_ng_rollout_index": attempt,
    }
    if rng.random() < 0.3:
        row["response"]["output"].insert(0, {"type": "function_call", "name": rng.choice(("search", "sé\"arch")), "arguments": "{\"q\": 1}", "call_id": "1"})
        row["response"]["output"].insert(1, {"type": "function_call_output", "output": "found", "call_id": "1"})
    if rng.random() < 0.7:
        row["accuracy"] = rng.choice((0, 1, 0.25, True, 1e-7))
    if rng.random() < 0.2:
        row |= rng.choice(({"mask_sample": True}, {"verification_skipped": True}, {"wéird \"name\"": -3.5}))
    row["task_name"] = rng.choice(("math", "code", None)) if task % 2 else "chat"
    row["agent_ref"] = {"name": f"agent {task % 3}"}
    reward = rng.choice(rewards)
    if reward != "missing":
        row["reward"] = reward
    return json.dumps(row).encode()


def made(rewards: list[float], size: int, **more: Any) -> Narrow:
    """Sound rollouts with these rewards, in groups of `size`."""
    count = len(rewards)
    data = {
        "group": [i // size for i in range(count)], "response": list(range(count)), "statics": [0] * count, "reward": rewards, "attempt": [i % size for i in range(count)],
        **dict.fromkeys(("num_turns", "prompt_chars", "completion_chars"), [10] * count), **dict.fromkeys(("num_tool_calls", "num_unanswered"), [0] * count),
        **{name: [name in ("is_sound", "is_trainable", "is_prompt", "has_truth")] * count for name, dtype in SCHEMA.items() if dtype == pl.Boolean},
    }
    data |= {name: value if isinstance(value, list) else [value] * count for name, value in more.items()}
    return Narrow(rollouts=pl.DataFrame(data, schema={name: dtype for name, dtype in SCHEMA.items() if name in data}).select(
        pl.col(name) if name in data else pl.lit(None, dtype).alias(name) for name, dtype in SCHEMA.items()))


MIXED = [0.0, 1.0, 0.5, 0.9, 0.1, 0.6, 0.3, 1.0] * 50
