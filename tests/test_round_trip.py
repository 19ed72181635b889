"""What was written gives back what was said: rows of every trainer are decoded to the canonical prompt, completion and tools.

OpenRLHF's rows hold calls and reasoning as text, without the ids of calls; a text that itself holds such tags cannot be told from
them, so rollouts with those are left out there.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout_etl import targets
from rollout_etl.recipes.options import AnyOptions, DpoOptions, GrpoOptions, SftOptions
from rollout_etl.run.execute import Run, execute, job_of
from tests.oracle.jsontext import dumps, parse
from tests.oracle.recipes import without_ids
from tests.oracle.targets import TEXT_TAIL, _examples, dropped_by
from tests.strategies import rollout_groups
from tests.test_oracle import BATCH, REAL, expected, real_copy  # noqa: F401

OPTIONS: dict[str, AnyOptions] = {"sft": SftOptions(reward_threshold=-9.0), "dpo": DpoOptions(min_gap=0.1), "grpo": GrpoOptions(no_ground_truth=True)}
CASES = [("trl", recipe, suffix) for recipe in OPTIONS for suffix in (".parquet", ".jsonl")]
CASES += [("verl", recipe, ".parquet") for recipe in ("sft", "grpo")] + [("openrlhf", recipe, suffix) for recipe in OPTIONS for suffix in (".parquet", ".jsonl")]
TOOLS_HEAD = "# Tools\n\nYou may call these functions. Each is given by its JSON schema:\n<tools>\n"
Said = tuple[Any, Any, Any, Any]
"""Prompt, completion, completion of the other side, tools; None for what the rows do not hold."""


def rows_of(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return [dict(row) for row in pq.read_table(path).to_pylist()]
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def messages(value: Any) -> Any:
    """Messages as Python values, from JSON text, a list of JSON texts, or a list of messages."""
    return json.loads(value) if isinstance(value, str) else [json.loads(one) if isinstance(one, str) else one for one in value]


def decoded(row: dict[str, Any], target: str, recipe: str) -> Said:
    if target == "openrlhf":
        tools, prompt, *sides = openrlhf(row, recipe)
        return prompt, sides[0] if sides else None, sides[1] if len(sides) > 1 else None, tools
    if target == "verl":
        tools = row["tools"] if recipe == "sft" else None if row["extra_info"]["tools"] == "[]" else row["extra_info"]["tools"]
        return messages(row["messages" if recipe == "sft" else "prompt"]), None, None, None if tools is None else json.loads(tools)
    sides = [messages(row[name]) for name in ("completion", "chosen", "rejected") if name in row]
    return messages(row["prompt"]), sides[0] if sides else None, sides[1] if len(sides) > 1 else None, json.loads(row["tools"] or "null")


def openrlhf(row: dict[str, Any], recipe: str) -> list[Any]:
    """Tools, then each list of messages of a row."""
    lists = [row[name] for name in ("messages", "prompt_messages", "chosen_messages", "rejected_messages", "input") if name in row]
    prompt, tools = lists[0], None
    first = prompt[0]["content"] if prompt else ""
    if first.startswith(TOOLS_HEAD):
        text, rest = first.removeprefix(TOOLS_HEAD).split(TEXT_TAIL, 1)
        tools = json.loads(text)
        prompt = [*([{"role": "system", "content": rest.removeprefix("\n\n")}] if rest else []), *prompt[1:]]
    return [tools, *([unwritten(message) for message in one] for one in [prompt, *lists[1:]])]


def unwritten(message: dict[str, str]) -> dict[str, Any]:
    """A message with reasoning and calls taken out of its text."""
    if message["role"] != "assistant":
        return message
    made: dict[str, Any] = {"role": "assistant"}
    content = message["content"]
    thought = re.match(r"<think>\n(.*?)\n</think>\n\n", content, re.DOTALL)
    if thought:
        made["reasoning_content"], content = thought[1], content[thought.end() :]
    text, *calls = content.split("<tool_call>\n")
    made["content"] = text[:-1] if calls and text else text
    if calls:
        made["tool_calls"] = [{"type": "function", "function": json.loads(call.rstrip("\n").removesuffix("\n</tool_call>"))} for call in calls]
    return made


def check(path: Path, folder: Path, target: str, recipe: str, suffix: str) -> int:
    """Returns how many rows were compared."""
    run = Run(
        inputs=[str(path)], output=folder / f"rows{suffix}", options=OPTIONS[recipe], target=target, config=False, max_bad_fraction=1.0, refuse_dates=False
    )
    job = job_of(run)
    canonical = expected(path, targets.load(target).style_of(job))
    kept = [{**row, "row": number} for number, row in enumerate(canonical) if dropped_by(row, job, target) is None]
    tags = re.compile(r"</?think>|</?tool_call>|<image>|</?tools>")
    # What a number is written as does not matter here, what it is does: both sides go through Python's JSON.
    examples = _examples(kept, job)
    report = execute(run)
    found = [decoded(row, target, recipe) for row in rows_of(run.output)] if report.written else []
    wanted: list[Said] = []
    for row, other in examples:
        prompt, completion, worse = (json.loads(text) for text in (row["prompt"], row["completion"], other["completion"]))
        tools = json.loads(row["tools"] or "null")
        sides = (completion, worse if recipe == "dpo" else None) if recipe != "grpo" else (None, None)
        if recipe == "sft" and target != "trl":
            wanted.append(([*prompt, *completion], None, None, tools))
        else:
            wanted.append((prompt, *sides, tools))
    if target != "openrlhf":
        twins = [said for said in wanted if recipe == "dpo" and without_ids(said[1]) == without_ids(said[2])]
        assert found == [said for said in wanted if said not in twins]
        return len(found)
    clear = [tuple(without_ids(part) if n < 3 and part is not None else part for n, part in enumerate(said)) for said in wanted if not tags.search(json.dumps(said))]
    clear = [said for said in clear if recipe != "dpo" or said[1] != said[2]]
    seen = [said for said in found if said in clear]
    assert seen == clear
    return len(seen)


@pytest.mark.parametrize(("target", "recipe", "suffix"), CASES)
@settings(BATCH, max_examples=3)
@given(groups=st.lists(rollout_groups(), min_size=20, max_size=30))
def test_random_rollouts(tmp_path_factory: pytest.TempPathFactory, target: str, recipe: str, suffix: str, groups: list[list[bytes]]) -> None:
    path = tmp_path_factory.mktemp("groups") / "rollouts.jsonl"
    path.write_bytes(b"".join(line + b"\n" for group in groups for line in group))
    check(path, path.parent, target, recipe, suffix)


@pytest.mark.skipif(not REAL.is_dir(), reason="no real rollouts beside the checkout")
@pytest.mark.parametrize(("target", "recipe", "suffix"), CASES)
def test_real_rollouts(real_copy: Path, tmp_path: Path, target: str, recipe: str, suffix: str) -> None:  # noqa: F811
    compared = check(real_copy, tmp_path, target, recipe, suffix)
    assert compared > (5 if recipe == "dpo" else 100)


def test_python_reads_what_the_oracle_prints() -> None:
    """The comparison above goes through Python's JSON on both sides; digits are held against each other elsewhere."""
    text = '[{"a":1.1,"b":[null,"x"],"c":123456789012345678901234567890}]'
    assert dumps(parse(text)) == text and json.loads(dumps(parse(text))) == json.loads(text)
