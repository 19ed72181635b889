"""Rows of tokens equal those of plain Python: what was sampled is trained, and nothing else."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout_etl.errors import UsageError
from rollout_etl.recipes.options import GrpoOptions, SftOptions
from rollout_etl.run.execute import Run, execute
from tests.test_oracle import BATCH, REAL

Row = dict[str, Any]
ids = st.lists(st.integers(0, 200_000), min_size=1, max_size=4)


@st.composite
def rollouts(draw: st.DrawFn) -> Row:
    """A rollout of some model calls, whose prompts go on from each other, or do not; some calls lack their ids."""
    output: list[Row] = []
    seen = draw(st.lists(st.integers(0, 9), min_size=6, max_size=9))
    for number in range(draw(st.integers(1, 3))):
        fate = draw(st.sampled_from(("good", "good", "good", "good", "good", "cut", "bare", "empty", "stub")))
        generated = [*draw(ids), 7]
        prompt = seen[1:] if fate == "cut" else seen
        tokens = {"good": (prompt, generated), "cut": (prompt, generated), "empty": ([], []), "stub": ([1, 2], [3, 4])}.get(fate)
        known = {} if tokens is None else {"prompt_token_ids": tokens[0], "generation_token_ids": tokens[1]}
        if draw(st.booleans()):
            output.append({"type": "function_call", "name": "f", "call_id": f"a{number}", "arguments": "{}"})
            output.append({"type": "function_call", "name": "f", "call_id": f"b{number}", "arguments": "{}", **known})
            output += [{"type": "function_call_output", "call_id": f"{letter}{number}", "output": "x"} for letter in "ab"]
        else:
            output.append({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "text"}], **known})
            output.append({"type": "message", "role": "user", "content": "go on"})
        seen = [*prompt, *generated, *draw(ids)]
    if output[-1].get("role") == "user":
        output.pop()
    else:
        output.append({"type": "message", "role": "assistant", "content": "done", "prompt_token_ids": seen, "generation_token_ids": [1, 2]})
    if draw(st.booleans()):
        output.append({"type": "message", "role": "assistant", "content": "", "prompt_token_ids": [0], "generation_token_ids": [0]})
    if draw(st.booleans()):
        output = [{key: value for key, value in item.items() if key != "type"} for item in output]
    # Transitions repeat those before.
    recorded: list[Any] = [output[:1], output] if draw(st.booleans()) else output
    return {"responses_create_params": {"input": "Go."}, "response": {"output": recorded}, "reward": 1.0}


def tokens_of(row: Row) -> tuple[list[int], list[int]] | str:
    """`input_ids` and `labels`, or the rule that drops the rollout."""
    output = row["response"]["output"] if isinstance(row.get("response"), dict) else None
    output = output or row.get("output") or []
    output = output[-1] if output and isinstance(output[0], list) else output
    said = [i for i in output if i.get("type") in ("message", "function_call") or (i.get("type") is None and ("arguments" in i or "content" in i))]
    items = [i for i in said if i.get("role") in (None, "assistant")]
    pairs = [(i.get("prompt_token_ids") or [], i.get("generation_token_ids") or []) for i in items]
    pairs = [(prompt, generated) for prompt, generated in pairs if not (len(prompt) <= 1 and len(generated) == 1)]
    # A prompt of four tokens is none that a chat template makes.
    pairs = [pair if len(pair[0]) > 4 else ([], []) for pair in pairs]
    if not pairs or not pairs[-1][1] or not pairs[-1][0]:
        return "missing_token_ids"
    text: list[int] = []
    labels: list[int] = []
    for prompt, generated in pairs:
        if prompt and generated:
            if prompt[: len(text)] != text:
                return "broken_token_chain"
            labels += [-100] * (len(prompt) - len(text)) + generated
            text = [*prompt, *generated]
    return text, labels


def check(path: Path, rows: list[Row], folder: Path, suffix: str) -> Counter[str]:
    """Returns how often each rule dropped a rollout."""
    options = SftOptions(keep=("below_threshold",))
    run = Run(inputs=[str(path)], output=folder / f"rows{suffix}", options=options, target="trl", token_ids=True, config=False, max_bad_fraction=1.0)
    report = execute(run)
    wanted = [tokens_of(row) for row in rows]
    assert report.examples_dropped == Counter(rule for rule in wanted if isinstance(rule, str))
    made = [{"input_ids": row[0], "labels": row[1]} for row in wanted if not isinstance(row, str)]
    if made and suffix == ".parquet":
        assert pq.read_table(run.output).to_pylist() == made
    elif made:
        assert [json.loads(line) for line in run.output.read_text().splitlines()] == made
    return report.examples_dropped


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
@settings(BATCH, max_examples=6)
@given(rows=st.lists(rollouts(), min_size=30, max_size=40))
def test_random_rollouts(tmp_path_factory: pytest.TempPathFactory, suffix: str, rows: list[Row]) -> None:
    path = tmp_path_factory.mktemp("tokens") / "rollouts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    check(path, rows, path.parent, suffix)


@pytest.mark.skipif(not REAL.is_dir(), reason="no real rollouts beside the checkout")
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("gym/competitive_coding_challenges/example_rollouts.jsonl", 5),
        ("older/resources_servers__customer_service_user_tools__example_rollouts.jsonl", 5),
        ("older/environments__simple_strands_math__example_rollouts.jsonl", 5),
    ],
)
def test_real_rollouts(name: str, count: int, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (REAL / name).read_text().splitlines()]
    made_up = {"missing_token_ids": 5} if "strands" in name else {}
    assert check(REAL / name, rows, tmp_path, ".parquet") == made_up
    assert len(rows) == count


def test_only_where_a_loader_takes_tokens(tmp_path: Path) -> None:
    for target, options in (("nemo-rl", SftOptions()), ("verl", SftOptions()), ("trl", GrpoOptions())):
        with pytest.raises(UsageError, match="--token-ids is for the recipe sft with --target trl"):
            execute(Run(inputs=[str(tmp_path)], output=tmp_path / "out.parquet", options=options, target=target, token_ids=True))
