"""Each symptom of the troubleshooting pages is found in a file that has its cause, and in no file that has not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rollout_etl.doctor.examine import examine
from rollout_etl.doctor.run_file import keys_of
from tests.command import run
from tests.test_stats import DEMO

TOOL = {"type": "function", "name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "number"}}}}
CALL = {"type": "function_call", "name": "add", "call_id": "1", "arguments": '{"a": 1}'}
RESULT = {"type": "function_call_output", "call_id": "1", "output": "1"}
ANSWER = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "1"}]}


def rollout(task: int, attempt: int, reward: float, output: list[Any] | None = None, tools: Any = (TOOL,), **more: Any) -> dict[str, Any]:
    said = [CALL, RESULT, {**ANSWER, "content": [{"type": "output_text", "text": f"{attempt}"}]}] if output is None else output
    row = {
        "responses_create_params": {"input": [{"role": "user", "content": f"question {task}"}], "tools": list(tools) if tools else None},
        "response": {"output": said}, "reward": reward, "_ng_task_index": task, "_ng_rollout_index": attempt, "expected_answer": "1",
    }
    return {name: value for name, value in (row | more).items() if value is not None}


def rollouts(*rewards: float, tasks: int = 100, **more: Any) -> list[dict[str, Any]]:
    return [rollout(task, attempt, reward, **more) for task in range(tasks) for attempt, reward in enumerate(rewards)]


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("rows", "symptom", "cause", "remedy"),
    [
        (rollouts(0.0, 1.0), None, "", ""),
        (rollouts(1.0), "No pairs created", "no two of 100 usable rollouts", "num_repeats"),
        (rollouts(1.0, 1.0), "No pairs created", "all rewards are 1", "temperature"),
        ([*rollouts(0.5, 0.5, tasks=1), *rollouts(1.0, 1.0)[2:]], "No pairs created", "all rewards are equal", "higher temperature"),
        (rollouts(1.0, 0.9), "No pairs created", "differ by 0.100", "--min-gap 0.1 gives 100 pairs"),
        (rollouts(1.0, 0.95), "No pairs created", "differ by 0.050", "even a gap of 0.1 gives no pair"),
        (rollouts(0.0, 1.0, output=[]), "No pairs created", "none of 200 rollouts is sound", "counts the rules"),
        (rollouts(0.0, 0.0), "rewards all 0.0", "gave 0 to all 200", "--best"),
        (rollouts(0.0, 1.0, expected_answer=None), "GRPO rewards all 0.0", "100 of 100 prompts have no ground truth", "--ground-truth-field"),
        (rollouts(0.0, 0.86), "Fewer than 100 examples", "0 usable rollouts reach a reward of 0.95", "--reward-threshold 0.85 gives 100"),
        (rollouts(0.0, 1.0, tasks=9), "Fewer than 100 examples", "9 usable rollouts", "even 0.8 gives 9"),
        (rollouts(0.0, 1.0, tools=None), "Tool calls missing", "200 of 200", "responses_create_params.tools"),
        (rollouts(0.0, 1.0, tools=[{**TOOL, "parameters": {"type": "object", "properties": {"b": {"type": "string"}, "a": None}}}]), "Tool schema corruption",
         "200 rollouts offer tools with parameters that are null", "use_preserving_dataset"),
        (rollouts(0.0, 1.0, tools=[{**TOOL, "parameters": {"type": "object", "properties": {"b": {"default": None}, "a": {"enum": [None]}}}}]), None, "", ""),
        ([*rollouts(0.0, 1.0), rollout(999, 0, 0.0, [{**CALL, "arguments": "{"}, RESULT, ANSWER])], "Tool schema corruption", "1 rollouts have calls", "invalid_tool_call"),
    ],
)
def test_rollouts(tmp_path: Path, rows: list[dict[str, Any]], symptom: str | None, cause: str, remedy: str) -> None:
    found = examine(str(written(tmp_path / "rollouts.jsonl", rows)))
    assert found.what == "rollouts"
    assert found.rows == len(rows)
    if symptom is None:
        assert found.findings == []
    else:
        (finding,) = [finding for finding in found.findings if finding.symptom == symptom]
        assert cause in finding.cause
        assert remedy in finding.remedy


def test_lines_that_are_no_json(tmp_path: Path) -> None:
    path = written(tmp_path / "rollouts.jsonl", rollouts(0.0, 1.0))
    path.write_text(path.read_text() + '{"reward": \n')
    (finding,) = examine(str(path)).findings
    assert finding.symptom == "JSONDecodeError"
    assert f"1 of 201 lines are not rollouts; the first is {path}:201" in finding.cause


USER, SAID = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
TEXT_CALL = {"role": "assistant", "content": "", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}]}
PROMPT = {"input": "q", "output": "a", "ground_truth": "1"}


@pytest.mark.parametrize(
    ("rows", "config", "symptom", "cause"),
    [
        ([PROMPT] * 100, "input_key: input\n  output_key: ground_truth", None, ""),
        ([PROMPT] * 99, "", "Fewer than 100 examples", "99 rows"),
        ([PROMPT] * 100, "input_key: question", "KeyError: 'question'", "says input_key: question; columns are input, output, ground_truth"),
        ([PROMPT] * 100, "output_key: output", "GRPO rewards all 0.0", "compared with that column"),
        ([PROMPT] * 100, "# output_key: output", None, ""),
        ([PROMPT] * 100, "data_path: /no/such/file.jsonl", "FileNotFoundError", "/no/such/file.jsonl, which does not exist"),
        ([{"question": "q", "output": "a"}] * 100, "", "KeyError: 'input'", "columns are question, output"),
        ([PROMPT] * 99 + [{"output": "a", "ground_truth": "4"}], "", "KeyError: 'input'", "in 1 rows (first: line 100)"),
        ([PROMPT] * 99 + [{**PROMPT, "output": " "}], "", "Loss does not fall", "1 of 100 rows"),
        ([{"messages": [USER, TEXT_CALL, SAID]}] * 100, "", "Tool schema corruption", "arguments are text"),
        ([{"messages": [USER, SAID], "tools": []}] * 100, "use_preserving_dataset: false", "Tool schema corruption", "merges the schemas"),
        ([{"messages": [USER]}] * 100, "", "The trainer refuses the file", "does not end with an assistant message"),
        ([{"prompt": "q", "chosen": "a", "rejected": "a"}] * 100, "", "Loss does not fall", "are the same"),
        ([{"prompt": [USER, SAID], "chosen": "a", "rejected": "b"}] * 100, "", "Loss falls too fast", "answer is in the prompt"),
    ],
)
def test_training_files(tmp_path: Path, rows: list[dict[str, Any]], config: str, symptom: str | None, cause: str) -> None:
    path = written(tmp_path / "train.jsonl", rows)
    (tmp_path / "train.jsonl.nemo-rl.yaml").write_text(f"data:\n  {config}\n")
    found = examine(str(path))
    assert [finding.symptom for finding in found.findings] == ([] if symptom is None else [symptom])
    assert all(cause in finding.cause for finding in found.findings)


def test_struct_types(tmp_path: Path) -> None:
    calls = [[USER, {**TEXT_CALL, "tool_calls": [{"id": "1", "type": "function", "function": {"name": name, "arguments": {name: 1}}}]}, SAID] for name in "fg"]
    pq.write_table(pa.Table.from_pylist([{"messages": messages} for messages in calls] * 50), tmp_path / "train.parquet")
    found = examine(str(tmp_path / "train.parquet"), target="trl")
    assert ("Tool schema corruption", "arguments were filled with nulls by their struct type: 100 of 100 rows (first: line 1)") in [(f.symptom, f.cause) for f in found.findings]


def test_what_the_recipes_write(tmp_path: Path) -> None:
    for recipe, target in (("sft", "nemo-rl"), ("dpo", "nemo-rl"), ("grpo", "nemo-rl"), ("kto", "trl"), ("grpo", "verl")):
        output = tmp_path / f"{recipe}-{target}.{'parquet' if target == 'verl' else 'jsonl'}"
        assert run(recipe, str(DEMO), "-o", str(output), "--target", target, "--max-bad-fraction", "0.1", "-q").returncode == 0
        found = examine(str(output))
        assert found.what == f"training data, {recipe} for {target}"
        assert [finding.symptom for finding in found.findings] == ["Fewer than 100 examples"]


def test_untransformed_rollouts(tmp_path: Path) -> None:
    path, config = written(tmp_path / "rollouts.jsonl", rollouts(0.0, 1.0)), tmp_path / "run.yaml"
    config.write_text("data: {train: {dataset_name: ResponseDataset, input_key: input}}")
    (finding,) = examine(str(path), config=config).findings
    assert (finding.symptom, finding.cause) == ("KeyError: 'input'", f"these are rollouts, but {config} expects training data")


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("data:\n  input_key: a # b\n  output_key: 'c d'", {"input_key": "a", "output_key": "c d"}),
        ('data: {input_key: "a\\"b", use_preserving_dataset: true}', {"input_key": 'a"b', "use_preserving_dataset": "true"}),
        ("train: {data_path: x}\nvalidation: {data_path: y}", {"data_path": "x"}),
        ("# input_key: a\nmy_input_key: b", {}),
    ],
)
def test_run_files(tmp_path: Path, text: str, keys: dict[str, str]) -> None:
    (tmp_path / "run.yaml").write_text(text)
    assert keys_of(tmp_path / "run.yaml") == keys


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "no file given"),
        (["nope.jsonl"], 2, "no such file or folder: nope.jsonl"),
        (["train.jsonl", "--target", "nope"], 2, "no target 'nope'"),
        (["train.jsonl", "--recipe", "nope"], 2, "no recipe 'nope'"),
        (["train.jsonl", "--config", "nope.yaml"], 3, "cannot read nope.yaml"),
        ([str(DEMO), "--target", "trl"], 2, "--target is for training files, and these are rollouts: leave it out"),
        (["train.jsonl"], 0, "train.jsonl: 100 rows, training data, grpo for nemo-rl: nothing found"),
        (["train.jsonl", "few.jsonl"], 4, "  Fewer than 100 examples\n    cause   1 rows\n    remedy  collect more"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_command(tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
    written(tmp_path / "train.jsonl", [PROMPT] * 100)
    written(tmp_path / "few.jsonl", [PROMPT])
    done = run("doctor", *arguments, folder=tmp_path)
    assert done.returncode == code, done.stderr
    assert said in (done.stderr if code in (2, 3) else done.stdout)
    if code in (0, 4):
        found = json.loads(run("doctor", *arguments, "--json", folder=tmp_path).stdout)
        assert any(each["findings"] for each in found) == (code == 4)
