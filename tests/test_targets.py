"""Rows of every trainer: equal to plain Python's on random and real rollouts, and decoded they give back what was said."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout_etl import targets
from rollout_etl.errors import GateError
from rollout_etl.read.scan import Rollouts
from rollout_etl.recipes.options import AnyOptions, DpoOptions, GrpoOptions, KtoOptions, PpoOptions, RmOptions, SftOptions
from rollout_etl.run.execute import Run, execute, job_of
from rollout_etl.targets.plain_messages import cut_thinking
from tests.oracle.targets import Chat, Json, line_of, rows_of
from tests.strategies import rollout_groups
from tests.test_oracle import BATCH, REAL, expected, real_copy  # noqa: F401

OPTIONS: dict[str, AnyOptions] = {
    "sft": SftOptions(reward_threshold=0.5),
    "dpo": DpoOptions(min_gap=0.1),
    "rm": RmOptions(strategy="stratified", high_threshold=0.6, low_threshold=0.5, min_gap=0.1),
    "kto": KtoOptions(reward_threshold=0.9, low_threshold=0.2),
    "grpo": GrpoOptions(),
    "ppo": PpoOptions(no_ground_truth=True),
    "ppo offline": PpoOptions(with_responses=True),
}
CASES = [
    ("trl", recipe, form, suffix)
    for recipe in ("sft", "dpo", "rm", "kto", "grpo")
    for form, suffix in (("messages", ".parquet"), ("messages", ".jsonl"), ("text", ".parquet"))
]
CASES += [("verl", recipe, None, ".parquet") for recipe in ("sft", "rm", "grpo", "ppo", "ppo offline")] + [("verl", "sft", "messages", ".parquet")]
CASES += [
    ("openrlhf", recipe, form, suffix)
    for recipe in ("sft", "dpo", "rm", "grpo", "ppo", "ppo offline")
    for form, suffix in (("messages", ".jsonl"), ("messages", ".parquet"), ("text", ".jsonl"))
]
NAMES = ["-".join(map(str, case)) for case in CASES]


def check(path: Path, folder: Path, target: str, recipe: str, form: Any, suffix: str) -> None:
    run = Run(
        inputs=[str(path)], output=folder / f"rows{suffix}", options=OPTIONS[recipe], target=target, form=form, config=False, max_bad_fraction=1.0,
        refuse_dates=False,
    )
    job = job_of(run)
    canonical = expected(path, targets.load(target).style_of(job))
    wanted, dropped = rows_of(canonical, job, target)
    try:
        report = execute(run)
    except GateError:
        assert recipe == "kto" and len({row["label"] for row in wanted}) == 1
        return
    assert Counter(report.dropped) == dropped
    assert report.written == len(wanted)
    if not wanted:
        return
    if suffix == ".jsonl":
        assert run.output.read_text(encoding="utf-8") == "".join(map(line_of, wanted))
    else:
        found = pq.read_table(run.output).to_pylist()
        if "extra_info" in found[0]:
            # Numbers of rows count lines that are no rollouts, which the oracle does not see.
            numbers = [row["extra_info"].pop("index") for row in found]
            assert numbers == sorted(set(numbers))
        assert found == [{name: held(value) for name, value in row.items()} for row in wanted]


def held(value: Any) -> Any:
    """A value as pyarrow gives it."""
    return value.elements if isinstance(value, Json) else value.messages if isinstance(value, Chat) else value


@pytest.mark.parametrize(("target", "recipe", "form", "suffix"), CASES, ids=NAMES)
@settings(BATCH, max_examples=3)
@given(groups=st.lists(rollout_groups(), min_size=20, max_size=30))
def test_rows_of_random_groups(
    tmp_path_factory: pytest.TempPathFactory, target: str, recipe: str, form: Any, suffix: str, groups: list[list[bytes]]
) -> None:
    path = tmp_path_factory.mktemp("groups") / "rollouts.jsonl"
    path.write_bytes(b"".join(line + b"\n" for group in groups for line in group))
    check(path, path.parent, target, recipe, form, suffix)


@pytest.mark.skipif(not REAL.is_dir(), reason="no real rollouts beside the checkout")
@pytest.mark.parametrize(("target", "recipe", "form", "suffix"), CASES, ids=NAMES)
def test_rows_of_real_rollouts(real_copy: Path, tmp_path: Path, target: str, recipe: str, form: Any, suffix: str) -> None:  # noqa: F811
    check(real_copy, tmp_path, target, recipe, form, suffix)


PIECES = st.lists(st.sampled_from(["<think>", "</think>", "so", " ", "\n", "\t", '"', "\\", "ä", "content"]), max_size=8).map("".join)


@settings(BATCH, max_examples=4)
@given(said=st.lists(st.tuples(st.none() | PIECES, PIECES, PIECES), min_size=50, max_size=60))
def test_openrlhf_leaves_out_what_a_template_would_cut(tmp_path_factory: pytest.TempPathFactory, said: list[tuple[str | None, str, str]]) -> None:
    """And nothing else: a text is cut if the parts that Qwen3's template finds in it are not all of it."""
    path = tmp_path_factory.mktemp("tags") / "rollouts.jsonl"
    with path.open("w") as file:
        for thought, answer, asked in said:
            reasoning = [] if thought is None else [{"type": "reasoning", "summary": [{"type": "summary_text", "text": thought}]}]
            output = [*reasoning, {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": answer}]}]
            params = {"input": [{"role": "user", "content": asked}]}
            file.write(json.dumps({"responses_create_params": params, "response": {"output": output}, "reward": 1.0}) + "\n")
    frame = pl.concat(list(Rollouts(path).batches(["plain_prompt", "plain_completion"])))
    cut = frame.select(cut_thinking(frame.columns).drops).to_series()
    for completion, found in zip(frame["plain_completion"], cut, strict=True):
        text = "".join(message["content"] for message in json.loads(completion))
        shown = text.split("</think>")[0].split("<think>")[-1] + text.split("</think>")[-1] if "</think>" in text else text
        tags = "<think>" in text.split("</think>")[0] and "</think>" in text
        whole = "".join(shown.split()) == "".join(text.replace("<think>", "", int(tags)).replace("</think>", "", 1).split())
        assert found == (not whole), text


def test_an_answer_with_tags_is_kept_for_openrlhf_where_a_template_shows_it(tmp_path: Path) -> None:
    reasoned = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Close the tag."}]}
    answer = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Write </think> at the end."}]}
    row = {"responses_create_params": {"input": [{"role": "user", "content": "How?"}]}, "response": {"output": [reasoned, answer]}, "reward": 1.0}
    (tmp_path / "in.jsonl").write_text(json.dumps(row) + "\n")

    def report(*keep: str) -> Any:
        options = SftOptions(keep=keep)
        return execute(Run(inputs=[str(tmp_path / "in.jsonl")], output=tmp_path / "out.jsonl", options=options, target="openrlhf", config=False))

    assert (report().written, report().examples_dropped) == (0, {"think_tag": 1})
    assert report("think_tag").written == 1
    assert "<think>\\nClose the tag.\\n</think>\\n\\nWrite </think> at the end." in (tmp_path / "out.jsonl").read_text()


def test_numbers_of_a_completion_do_not_keep_a_prompt_from_grpo(tmp_path: Path) -> None:
    """The rows hold the prompt alone; in JSON lines, numbers of calls in the prompt would be changed."""
    rows = []
    for number, (asked, said) in enumerate([("1", "0.5"), ("0.5", "1"), ("1", "1")]):
        calls = [{"type": "function_call", "call_id": "c", "name": "f", "arguments": f'{{"x":{value}}}'} for value in (asked, said)]
        result, answer = {"type": "function_call_output", "call_id": "c", "output": "r"}, {"role": "assistant", "content": "a"}
        question = {"role": "user", "content": f"question {number}"}
        prompt = [question, calls[0], result, question] if number else [question]
        rows.append({"responses_create_params": {"input": prompt}, "response": {"output": [calls[1], result, answer]}, "reward": 1.0, "expected_answer": "a"})
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for suffix, dropped in ((".jsonl", {"inexact_prompt_number": 1}), (".parquet", {})):
        report = execute(Run(inputs=[str(tmp_path / "in.jsonl")], output=tmp_path / f"out{suffix}", options=GrpoOptions(), target="trl"))
        assert dict(report.dropped) == dropped
