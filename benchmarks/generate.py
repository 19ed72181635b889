"""Write synthetic NeMo Gym rollouts of a chosen size, the same bytes for the same arguments.

    python benchmarks/generate.py --size 1GB --shape short -o rollouts.jsonl
    python benchmarks/generate.py --size 1GB --shape mixed --seed 7 -o rollouts.jsonl

Shapes: `short` (one question, reasoning, one answer; 2 to 4 KB a line), `agent` (tool trajectories with parallel calls;
20 to 200 KB a line), `mixed` (nine short rollouts, then one agent rollout).
Groups have `--group-size` rollouts with the same prompt and rewards that differ inside most groups.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rollout_etl.errors import UsageError
from rollout_etl.sizes import bytes_of

WORDS = (  # noqa: SIM905
    "the sum of each side equals a constant therefore we may write integrate over both terms and check that result "
    "again with café naïve 数学 “quoted” emoji 🙂 line\nbreak tab\there back\\slash percent% angle<br> &amp; value matrix "
    "vector prime factor modulo residue lemma proof assume suppose hence because limit bound error estimate sample"
).split(" ")
TOOLS = [
    {
        "type": "function",
        "name": name,
        "description": f"Run {name} and return its output.",
        "parameters": {"type": "object", "properties": {key: {"type": kind}}, "required": [key], "additionalProperties": False},
        "strict": True,
    }
    for name, key, kind in [("search", "query", "string"), ("calculate", "expression", "string"), ("wait", "seconds", "integer")]
]
CREATE_PARAMS = dict.fromkeys(
    ("background", "include", "instructions", "max_output_tokens", "max_tool_calls", "model", "previous_response_id", "reasoning")
)


class Text:
    """Slices of one long random text: cheap, and different from slice to slice."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.pool = " ".join(rng.choices(WORDS, k=200_000))

    def __call__(self, low: int, high: int) -> str:
        length = self.rng.randint(low, high)
        start = self.rng.randrange(len(self.pool) - length)
        return self.pool[start : start + length]


def message(role: str, text: str) -> dict[str, Any]:
    if role != "assistant":
        return {"role": role, "content": text, "type": "message"}
    part = {"annotations": [], "text": text, "type": "output_text", "logprobs": None}
    return {"id": "msg_0", "content": [part], "role": role, "status": "completed", "type": "message"}


def reasoning(text: str) -> dict[str, Any]:
    return {"id": "rs_0", "summary": [{"text": text, "type": "summary_text"}], "type": "reasoning", "encrypted_content": None}


def short_output(text: Text, answer: int) -> list[dict[str, Any]]:
    return [reasoning(text(200, 700)), message("assistant", text(300, 1200) + f"\n\nThe answer is \\boxed{{{answer}}}.")]


def agent_output(text: Text, answer: int) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    for turn in range(text.rng.randint(4, 30)):
        items.append(reasoning(text(100, 600)))
        if text.rng.random() < 0.5:
            items.append(message("assistant", text(40, 200)))
        calls = range(text.rng.choice((1, 1, 1, 2, 3)))
        for call in calls:
            tool = text.rng.choice(TOOLS)
            key = tool["parameters"]["required"][0]
            value = text.rng.randint(1, 60) if key == "seconds" else text(20, 120)
            items.append(
                {
                    "arguments": json.dumps({key: value}, ensure_ascii=False),
                    "call_id": f"call_{turn}_{call}",
                    "name": tool["name"],
                    "type": "function_call",
                    "id": f"fc_{turn}_{call}",
                    "status": "completed",
                }
            )
        for call in calls:
            items.append({"call_id": f"call_{turn}_{call}", "output": text(500, 5000), "type": "function_call_output"})
    return [*items, message("assistant", text(200, 800) + f" \\boxed{{{answer}}}")]


def group(text: Text, task: int, shape: str, size: int) -> Iterator[dict[str, Any]]:
    """The rollouts of one task: one prompt, `size` attempts."""
    answer = text.rng.randint(0, 99)
    prompt = [message("system", "Reason step by step."), message("user", f"Problem {task}: " + text(200, 800))]
    agent = shape == "agent"
    if agent:
        prompt.append(message("assistant", text(50, 200)))
        prompt.append(message("user", text(50, 200)))
    tools = TOOLS if agent else []
    for attempt in range(size):
        reward = float(text.rng.random() < 0.5) if not agent else round(text.rng.random(), 3)
        output = (agent_output if agent else short_output)(text, answer if reward else answer + 1)
        tokens = {"input_tokens": 200, "output_tokens": len(output) * 100, "total_tokens": 200 + len(output) * 100}
        yield {
            "responses_create_params": {**CREATE_PARAMS, "input": prompt, "metadata": {}, "tools": tools, "temperature": 1.0},
            "response": {
                "id": f"resp_{task}_{attempt}",
                "created_at": 1756093415.0,
                "error": None,
                "incomplete_details": None,
                "model": "synthetic",
                "object": "response",
                "output": output,
                "parallel_tool_calls": True,
                "tools": tools,
                "usage": tokens,
            },
            "reward": reward,
            "expected_answer": str(answer),
            "accuracy": reward,
            "_ng_task_index": task,
            "_ng_rollout_index": attempt,
            "agent_ref": {"type": "responses_api_agents", "name": f"{shape}_agent"},
        }


def lines(size: int, shape: str, group_size: int, seed: int) -> Iterator[bytes]:
    text = Text(random.Random(seed))
    written = task = 0
    while written < size:
        kind = shape if shape != "mixed" else ("agent" if task % 10 == 9 else "short")
        for rollout in group(text, task, kind, group_size):
            line = json.dumps(rollout, ensure_ascii=False).encode() + b"\n"
            written += len(line)
            yield line
        task += 1


def parse_size(value: str) -> int:
    """Bytes of a size that was spelt (see `bytes_of`), with errors as argparse takes them."""
    try:
        return bytes_of("size", value)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=parse_size, default="1GB", help="bytes to write, at least (default 1GB)")
    parser.add_argument("--shape", choices=("short", "agent", "mixed"), default="short")
    parser.add_argument("--group-size", type=int, default=8, help="rollouts of one prompt (default 8)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with options.output.open("wb", buffering=1 << 20) as file:
        file.writelines(lines(options.size, options.shape, options.group_size, options.seed))


if __name__ == "__main__":
    main()
