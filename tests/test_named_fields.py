"""Names of fields that no rollout has: each command says so in one line, however it reads and writes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout_etl import Curation, DpoOptions, SftOptions
from rollout_etl.curate.split import TRAIN
from rollout_etl.publish.outputs import Sharding
from rollout_etl.run.execute import Run, execute
from tests.command import run

METRICS = ["accuracy", "style", "speed"]


def warned(done: Any) -> list[str]:
    return [warning for warning in json.loads(done.stdout)["warnings"] if "has this" in warning]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["sft", "--target", "trl", "--extra", "metrics.mask_sampel"], ["--extra metrics.mask_sampel: no example has this metric; did you mean mask_sample?"]),
        (["sft", "--target", "trl", "--extra", "task_name"], ["--extra task_name: no example has this field"]),
        (["sft", "--target", "trl", "--extra", "reward", "--extra", "agent_name"], []),
        (["dpo", "--target", "trl", "--extra", "metrics.no"], ["--extra metrics.no: no example has this metric"]),
        (["grpo", "--target", "verl", "-o", "out.parquet", "--extra", "metrics.no"], ["--extra metrics.no: no example has this metric"]),
        (["dpo", "--target", "custom", "--map", "a=prompt", "--map", "b=chosen.metrics.no"], ["--map b=chosen.metrics.no: no example has this metric"]),
        (["sft", "--where", "metrics.no is null or task_name = 'x'"], ["--where metrics.no: no rollout has this metric", "--where task_name: no rollout has this field"]),
        (["sft", "--where", "response_text = 'x' or reward >= 0"], []),
        (["sft", "--reward", "0.5*no + 0.5*reward"], ["--reward metrics.no: no rollout has this metric"]),
        (["sft", "--cap", "task_name=1"], ["--cap task_name: no rollout has this field"]),
        (["sft", "--group-by", "no,agent_ref.name"], ["--group-by no: no rollout has this field"]),
        (["sft", "--target", "trl", "--extra", "metrics.no", "--reward-threshold", "9"], []),
    ],
    ids=lambda value: " ".join(value),
)
def test_a_recipe_names_the_fields_that_hold_nothing(arguments: list[str], expected: list[str], folder: Path) -> None:
    recipe, *options = arguments
    assert warned(run(recipe, "good.jsonl", "-o", "out.jsonl", *options, "--json", "--quiet", folder=folder)) == expected


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["stats", "good.jsonl", "--group-by", "expected_answr"], "--group-by expected_answr: no rollout has this field; did you mean expected_answer?"),
        (["ingest", "good.jsonl", "-o", "kept", "--ground-truth-field", "no"], "--ground-truth-field no: no rollout has this field"),
        (["sql", "good.jsonl", "SELECT count(*) FROM rollouts", "--group-by", "no"], "--group-by no: no rollout has this field"),
        (["show", "good.jsonl", "--where", "metrics.no > 1"], "--where metrics.no: no rollout has this metric"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_commands_that_look_say_so_too(arguments: list[str], said: str, folder: Path) -> None:
    assert said in run(*arguments, folder=folder).stderr.replace("\n" + " " * 13, " ")


def rollout(number: int, metrics: dict[str, float]) -> dict[str, Any]:
    return {
        "responses_create_params": {"input": [{"role": "user", "content": f"question {number // 2}?"}]},
        "response": {"output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": f"answer {number}"}]}]},
        "reward": number % 2, "_ng_task_index": number // 2, "_ng_rollout_index": number % 2, **metrics,
    }


@settings(max_examples=8, deadline=None)
@given(
    held=st.lists(st.dictionaries(st.sampled_from(METRICS), st.floats(0, 1)), min_size=4, max_size=6),
    shape=st.sampled_from([{}, {"memory_limit": 1 << 40, "temp": True}, {"sharding": Sharding(rows=1)}, {"dry_run": True}]),
)
def test_what_is_named_is_what_no_row_that_was_written_has(held: list[dict[str, float]], shape: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("named")
    rows = [rollout(number, metrics) for number, metrics in enumerate(held)]
    (folder / "rollouts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    more = {key: value for key, value in shape.items() if key != "temp"} | ({"temp_dir": folder / "temp"} if "temp" in shape else {})
    for options, of in ((SftOptions(reward_threshold=1), [row for row in rows if row["reward"] == 1]), (DpoOptions(), rows[: len(rows) // 2 * 2])):
        report = execute(Run(
            inputs=[str(folder / "rollouts.jsonl")], output=folder / ("out" if "sharding" in shape else "out.jsonl"), options=options, target="trl",
            extra=[f"metrics.{name}" for name in METRICS], curation=Curation(where="metrics.accuracy > 2 or reward >= 0"), config=False, **more,
        ))
        there = Counter(name for row in of for name in METRICS if name in row)
        expected = {f"--extra metrics.{name}: no example has this metric" for name in METRICS if not there[name]}
        expected |= set() if any("accuracy" in row for row in rows) else {"--where metrics.accuracy: no rollout has this metric"}
        assert {warning.partition("; did")[0] for warning in report.warnings if "has this" in warning} == expected
        assert TRAIN not in report.parts
