"""Rows for NeMo Gym, made of rollouts that keep their prompt in one way or another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rollout_etl.recipes.options import GrpoOptions
from rollout_etl.run.execute import Run, execute
from tests.test_gym_shapes import QUESTION, answer, rollout


@pytest.mark.parametrize(
    ("row", "kept"),
    [
        pytest.param({"responses_create_params": {"input": []}}, False, id="empty"),
        pytest.param({"responses_create_params": {"input": "1 + 1?"}}, True, id="a text"),
        pytest.param({"responses_create_params": {"input": None}}, False, id="null"),
        pytest.param({"responses_create_params": {}}, False, id="missing"),
        pytest.param({"responses_create_params": {"input": []}, "messages": [QUESTION]}, False, id="the prompt stands elsewhere"),
        pytest.param({"responses_create_params": None, "output": [answer()]}, False, id="output alone"),
        pytest.param({"responses_create_params": None, "response": {"output_text": "2"}}, False, id="text of a response alone"),
        pytest.param({"responses_create_params": None, "response": None, "messages": [QUESTION]}, False, id="messages alone"),
    ],
)
def test_rows_that_gym_takes(tmp_path: Path, row: dict[str, Any], kept: bool) -> None:
    path = tmp_path / "rollouts.jsonl"
    path.write_text(json.dumps(rollout(answer()) | row if "output" not in row else row | {"reward": 1.0}) + "\n")
    options = GrpoOptions(format="gym", agent_name="an agent")
    report = execute(Run(inputs=[str(path)], output=tmp_path / "rows.jsonl", options=options, config=False))
    assert (report.written, dict(report.dropped)) == ((1, {}) if kept else (0, {"missing_input": 1}))


@pytest.mark.parametrize(
    ("params", "given"),
    [
        pytest.param({"input": QUESTION, "tools": None}, {"tools": None, "input": [QUESTION]}, id="one message"),
        pytest.param({"input": None, "metadata": {"k": "v"}}, {"metadata": {"k": "v"}, "input": []}, id="null"),
        pytest.param({}, {"input": []}, id="missing"),
        pytest.param(None, {"input": []}, id="no parameters"),
        pytest.param({"input": [QUESTION], "tools": []}, {"input": [QUESTION], "tools": []}, id="a list"),
    ],
)
def test_the_input_of_rows_is_what_gym_takes(tmp_path: Path, params: Any, given: dict[str, Any]) -> None:
    """Gym refuses an input that is neither a text nor a list, and a row without one."""
    path = tmp_path / "rollouts.jsonl"
    path.write_text(json.dumps(rollout(answer()) | {"responses_create_params": params}) + "\n")
    execute(Run(inputs=[str(path)], output=tmp_path / "rows.jsonl", options=GrpoOptions(format="gym", agent_name="an agent", keep=("missing_input",)), config=False))
    [row] = map(json.loads, (tmp_path / "rows.jsonl").read_text().splitlines())
    assert row["responses_create_params"] == given


def test_rows_whose_prompt_stands_elsewhere_are_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "rollouts.jsonl"
    rows = [rollout(answer()) | {"responses_create_params": {"input": []}}, {"messages": [QUESTION], "response": {"output": [answer()]}, "reward": 1.0}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = GrpoOptions(format="gym", agent_name="an agent", keep=("missing_input",))
    report = execute(Run(inputs=[str(path)], output=tmp_path / "rows.jsonl", options=options, config=False))
    assert report.warnings == ["1 rollouts do not have their prompt in responses_create_params, so rows made from them have no prompt"]


def test_rows_for_gym_hold_items_of_unknown_types(tmp_path: Path) -> None:
    path = tmp_path / "rollouts.jsonl"
    reference = {"type": "item_reference", "id": "a"}
    path.write_text(json.dumps(rollout(answer()) | {"responses_create_params": {"input": [QUESTION, reference]}, "expected_answer": "2"}) + "\n")
    told = {}
    for options in (GrpoOptions(format="gym", agent_name="an agent"), GrpoOptions()):
        report = execute(Run(inputs=[str(path)], output=tmp_path / "rows.jsonl", options=options, config=False))
        told[options.format] = (report.warnings, "item_reference" in (tmp_path / "rows.jsonl").read_text())
    assert told["gym"] == ([], True)
    assert "unknown types" in told["response"][0][0] and not told["response"][1]
