"""Rows and run files go through the trainers' own code, installed apart from this environment: `make test-loaders`.

The rollouts are hostile to loaders: tools first appear after 10 MB, they differ from row to row, numbers need 17 digits, answers
read as dates.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
HOME = Path(os.environ.get("LOADERS_HOME") or HERE.parents[1] / ".loaders").resolve()
COMMAND = str(Path(sys.executable).with_name("rollout-etl"))
pytestmark = pytest.mark.skipif(not os.environ.get("LOADERS"), reason="the trainers' own loaders are run by make test-loaders")

FILLER = 110
"""Rollouts of 100 KB, two for each prompt, before the first tool."""
CALLING = 24


def python_of(trainer: str) -> tuple[str, dict[str, str]]:
    """Interpreter and environment that import a trainer; skips where it is not installed."""
    python, overlay = HOME / "venv" / "bin" / "python", HOME / "overlays" / trainer
    if not python.exists() or (trainer != "trl" and not overlay.is_dir()):
        why = HOME / "why-not.txt"
        pytest.skip(f"{trainer} is not installed" + (f": {why.read_text().strip()}" if why.exists() else "; make test-loaders does it"))
    return str(python), {**os.environ, "PYTHONPATH": "" if trainer == "trl" else str(overlay), "PYTHONWARNINGS": "ignore"}


def inside(trainer: str, *arguments: str, folder: Path) -> Any:
    """What the trainer's script wrote down."""
    python, environment = python_of(trainer)
    result = folder / "result.json"
    command = [python, str(HERE / f"with_{trainer}.py"), *arguments[:3], str(result), *arguments[3:]]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(result.read_text())


def conversation(number: int) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]] | None]:
    """A rollout as NeMo Gym writes it, and its prompt, completion and tools as chat messages."""
    answer = f"20{number % 90 + 10}-01-0{number % 9 + 1}"
    index, attempt = divmod(number, 2)
    row: dict[str, Any] = {"_ng_task_index": index, "_ng_rollout_index": attempt, "expected_answer": "2024-02-02", "accuracy": 0.1 + number}
    row["reward"] = 0.12345678901234566 if attempt else 0.98765432109876543
    message = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": answer, "annotations": []}]}
    if number < FILLER:
        question = f"Question {index}? " + "a long story " * 8000
        row |= {"responses_create_params": {"input": question}, "response": {"output": [message]}}
        return row, [{"role": "user", "content": question}], [{"role": "assistant", "content": answer}], None
    question = f"Question {index}?"
    name = f"tool_{index}"
    arguments = {f"key_{index}": 0.1234567890123456 + number, "big": 2**60 + number, "none": None, "list": [1, {"deep": 1e-17}]}
    schema = {"type": "object", "properties": {f"key_{index}": {"type": "number", "minimum": 0.30000000000000004}, "big": {"type": "integer"}}}
    tool = {"type": "function", "name": name, "description": f"Tool {index}.", "parameters": schema, "strict": True}
    call = {"type": "function_call", "name": name, "call_id": "c1", "arguments": json.dumps(arguments)}
    result = {"type": "function_call_output", "call_id": "c1", "output": f"result {number}"}
    thought = {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": f"thought {number}"}]}
    row |= {"responses_create_params": {"input": question, "tools": [tool]}, "response": {"output": [thought, call, result, message]}}
    function = {"name": name, "arguments": arguments}
    completion = [
        {"role": "assistant", "reasoning_content": f"thought {number}", "content": "", "tool_calls": [{"id": "c1", "type": "function", "function": function}]},
        {"role": "tool", "content": f"result {number}", "tool_call_id": "c1"},
        {"role": "assistant", "content": answer},
    ]
    return row, [{"role": "user", "content": question}], completion, [{"type": "function", "function": {k: v for k, v in tool.items() if k != "type"}}]


@cache
def hostile() -> list[Any]:
    return [conversation(number) for number in range(FILLER + CALLING)]


@pytest.fixture(scope="module")
def rollouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hostile") / "rollouts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row, *_ in hostile()))
    return path


def write(rollouts: Path, folder: Path, recipe: str, target: str, suffix: str, *options: str) -> Path:
    output = folder / f"{recipe}{suffix}"
    done = subprocess.run([COMMAND, recipe, str(rollouts), "-o", str(output), "--target", target, *options], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return output


def pairs() -> list[Any]:
    """Better and worse rollout of each prompt."""
    return [(hostile()[number], hostile()[number + 1]) for number in range(0, FILLER + CALLING, 2)]


def same_tools(text: str | None, tools: Any) -> bool:
    return (json.loads(text) if text else None) == tools


@pytest.mark.parametrize("recipe", ["sft", "dpo", "kto", "rm", "grpo"])
def test_trl(recipe: str, rollouts: Path, tmp_path: Path) -> None:
    options = {"sft": ("--reward-threshold", "0")}.get(recipe, ())
    found = inside("trl", "rows", recipe, str(write(rollouts, tmp_path, recipe, "trl", ".parquet", *options)), folder=tmp_path)
    rows, prepared = found["rows"], found["prepared"]
    if recipe in ("sft", "kto"):
        assert [(row["prompt"], row["completion"]) for row in rows] == [(prompt, completion) for _, prompt, completion, _ in hostile()]
        assert all(same_tools(row["tools"], tools) for row, (*_, tools) in zip(rows, hostile(), strict=True))
        if recipe == "kto":
            assert [row["label"] for row in rows] == [row["reward"] >= 0.5 for row, *_ in hostile()]
        said = [(text, completion) for texts, (_, _, completion, _) in zip(prepared, hostile(), strict=True) for text in texts[:1]]
    elif recipe == "grpo":
        assert [(row["prompt"], row["solution"]) for row in rows] == [(better[1], "2024-02-02") for better, _ in pairs()]
        said = [(text, better[1]) for (text,), (better, _) in zip(prepared, pairs(), strict=True)]
    else:
        assert [(row["prompt"], row["chosen"], row["rejected"]) for row in rows] == [(a[1], a[2], b[2]) for a, b in pairs()]
        if recipe == "rm":
            assert [row["margin"] for row in rows] == [a[0]["reward"] - b[0]["reward"] for a, b in pairs()]
        said = [(text, side[2]) for texts, pair in zip(prepared, pairs(), strict=True) for text, side in zip(texts, pair, strict=True)]
    assert_said(said)
    if recipe == "sft":
        trained = [text for _, text in prepared]
        assert not any("result" in text or "Question" in text for text in trained)
        assert_said([(text, [m for m in side[2] if m["role"] == "assistant"]) for text, side in zip(trained, hostile(), strict=True)])


def assert_said(found: list[tuple[str, Any]]) -> None:
    """Every text, thought, call and number of the messages stands in what the trainer made of them."""
    for text, messages in found:
        for message in messages:
            assert message["content"] in text and message.get("reasoning_content", "") in text
            for call in message.get("tool_calls", []):
                assert call["function"]["name"] in text
                for name, value in call["function"]["arguments"].items():
                    assert f'"{name}": {json.dumps(value)}' in text


def test_verl_renders_whole_conversations(rollouts: Path, tmp_path: Path) -> None:
    output = write(rollouts, tmp_path, "sft", "verl", ".parquet", "--reward-threshold", "0")
    found = inside("verl", "rows", "sft", str(output), f"{output}.verl.py", "hiding", folder=tmp_path)
    assert_said([(text, side[2]) for (text, _), side in zip(found["prepared"], hostile(), strict=True)])
    assert_said([(trained, [m for m in side[2] if m["role"] == "assistant"]) for (_, trained), side in zip(found["prepared"], hostile(), strict=True)])
    assert not any("result" in trained or "Question" in trained for _, trained in found["prepared"])


@pytest.mark.parametrize("recipe", ["sft", "sft plain", "grpo", "ppo", "rm"])
def test_verl(recipe: str, rollouts: Path, tmp_path: Path) -> None:
    recipe, _, plain = recipe.partition(" ")
    options = [*(["--reward-threshold", "0"] if recipe == "sft" else []), *(["--as", "messages"] if plain else []), "--extra", "metrics.accuracy"]
    output = write(rollouts, tmp_path, recipe, "verl", ".parquet", *(options if recipe != "rm" else []))
    custom = [f"{output}.verl.py"] if recipe == "sft" and not plain else []
    found = inside("verl", "rows", recipe, str(output), *custom, folder=tmp_path)
    if recipe == "rm":
        assert found["rows"] == [[a[1][0]["content"], a[2][0]["content"], b[2][0]["content"]] for a, b in pairs()[: FILLER // 2]]
    elif recipe == "sft":
        wanted = hostile()[:FILLER] if plain else hostile()
        assert found["rows"] == [[[*prompt, *completion], tools] for _, prompt, completion, tools in wanted]
        assert_said([(text, side[2]) for (text, _), side in zip(found["prepared"], wanted, strict=True)])
        assert not any("result" in trained or "Question" in trained for _, trained in found["prepared"])
    else:
        assert [row["raw_prompt"] for row in found["rows"]] == [better[1] for better, _ in pairs()]
        assert {row["reward_model"]["ground_truth"] for row in found["rows"]} == {"2024-02-02"}
        assert [row["extra_info"]["accuracy"] for row in found["rows"]] == [better[0]["accuracy"] for better, _ in pairs()]


@pytest.mark.parametrize("recipe", ["sft", "dpo", "rm", "grpo", "ppo"])
def test_openrlhf(recipe: str, rollouts: Path, tmp_path: Path) -> None:
    options = ["--reward-threshold", "0"] if recipe == "sft" else []
    output = write(rollouts, tmp_path, recipe, "openrlhf", ".parquet", *options)
    found = inside("openrlhf", "rows", recipe, f"{output}.openrlhf.sh", folder=tmp_path)
    if recipe == "rm":
        assert [row["margin"] for row in found["rows"]] == [a[0]["reward"] - b[0]["reward"] for a, b in pairs()]
    if recipe == "sft":
        said = [(text, side) for (text, _), side in zip(found["prepared"], hostile(), strict=True)]
        assert not any("result" in trained or "Question" in trained for _, trained in found["prepared"])
    elif recipe in ("dpo", "rm"):
        said = [(text, side) for texts, pair in zip(found["prepared"], pairs(), strict=True) for text, side in zip(texts, pair, strict=True)]
    else:
        assert [label for _, label in found["prepared"]] == ["2024-02-02"] * len(pairs())
        said = [(text, (*better[:2], [], better[3])) for (text, _), (better, _) in zip(found["prepared"], pairs(), strict=True)]
    for text, (_, prompt, completion, tools) in said:
        assert prompt[0]["content"] in text
        assert (json.dumps(tools, separators=(",", ":")) if tools else "") in text
        for message in completion:
            assert message["content"] in text and message.get("reasoning_content", "") in text
            for call in message.get("tool_calls", []):
                assert json.dumps(call["function"]["arguments"], separators=(",", ":")) in text


@pytest.mark.parametrize(("recipe", "target"), [("sft", "trl"), ("dpo", "trl")])
def test_lines_that_a_loader_would_change_are_refused(recipe: str, target: str, rollouts: Path, tmp_path: Path) -> None:
    command = [COMMAND, recipe, str(rollouts), "-o", str(tmp_path / "rows.jsonl"), "--target", target, "--keep", "below_threshold"]
    done = subprocess.run(command[:-2] if recipe == "dpo" else command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert "rows.parquet instead" in done.stderr


@pytest.mark.parametrize(
    ("recipe", "target"),
    [(recipe, "trl") for recipe in ("sft", "dpo", "kto", "rm", "grpo")]
    + [(recipe, "verl") for recipe in ("sft", "grpo", "ppo")]
    + [(recipe, "openrlhf") for recipe in ("sft", "dpo", "rm", "grpo", "ppo")],
)
def test_run_files(recipe: str, target: str, tmp_path: Path) -> None:
    """Of a recipe and of `config`, with everything that it can say."""
    demo = HERE.parents[1] / "demo" / "rollouts.jsonl"
    output = write(demo, tmp_path, recipe, target, ".parquet", "--max-bad-fraction", "0.05")
    run_file = next(path for path in tmp_path.glob(f"{output.name}.*") if path.suffix in (".yaml", ".sh"))
    first = inside(target, "run", recipe, str(run_file), folder=tmp_path)
    second = tmp_path / f"second{run_file.suffix}"
    asked = ["--val", str(output), "--model", "some/model", "--batch-size", "2", "-o", str(second)]
    asked += ["--max-rollout-turns", "3"] if recipe in ("grpo", "ppo") and target != "openrlhf" else []
    subprocess.run([COMMAND, "config", recipe, "--target", target, "--train", str(output), *asked, "-q"], check=True, timeout=120)
    again = inside(target, "run", recipe, str(second), folder=tmp_path)
    if target == "trl":
        assert first["files"] == [str(output)]
        assert (again["model"], again["per_device_train_batch_size"], again["eval_strategy"]) == ("some/model", "2", "IntervalStrategy.STEPS")
    elif target == "verl":
        assert (first["train_files"], again["val_files"], again["batch"]) == (str(output), str(output), 2)
    else:
        assert str(output) in (first["data"].get("dataset"), first["data"].get("prompt_dataset"))
        assert again["batch"] == 2
