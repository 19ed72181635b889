"""Rollouts whose examples would look sound and are not: each is dropped under a name, or told of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.command import run


def said(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": text}


def called(call_id: str, **arguments: Any) -> list[dict[str, Any]]:
    return [
        {"type": "function_call", "call_id": call_id, "name": "get", "arguments": json.dumps(arguments)},
        {"type": "function_call_output", "call_id": call_id, "output": "ok"},
    ]


def rollout(prompt: Any, output: list[dict[str, Any]], reward: float, **more: Any) -> dict[str, Any]:
    return {"responses_create_params": {"input": prompt}, "response": {"output": output}, "reward": reward, "_ng_task_index": 0, **more}


def made(folder: Path, rollouts: list[dict[str, Any]], *arguments: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows and report of a run."""
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rollouts))
    done = run(arguments[0], "in.jsonl", "-o", "out.jsonl", *arguments[1:], "--json", "--quiet", "--no-config", folder=folder)
    assert done.returncode in (0, 1), done.stderr
    rows = [json.loads(row) for row in (folder / "out.jsonl").read_text().splitlines()] if done.returncode == 0 else []
    return rows, json.loads(done.stdout)


@pytest.mark.parametrize("think", ["strip", "move"])
@pytest.mark.parametrize(
    "command", [["sft"], ["sft", "--format", "simple"], ["sft", "--target", "trl"], ["sft", "--target", "openrlhf"], ["sft", "--target", "custom", "--map", "o=output"]],
    ids=" ".join,
)
def test_nothing_but_thoughts_is_no_answer(command: list[str], think: str, tmp_path: Path) -> None:
    thought, answered = (rollout("q", [said(text)], 1.0) for text in ("<think>only</think> ", "<think>x</think>fine"))
    rows, report = made(tmp_path, [thought, answered], *command, "--think", think)
    assert report["rollouts"]["dropped"] == {"empty_answer": 1} and len(rows) == 1
    assert made(tmp_path, [thought], *command)[1]["rollouts"]["dropped"] == {}


@pytest.mark.parametrize("think", ["strip", "move"])
def test_a_conversation_ends_with_an_answer_when_thoughts_are_gone(think: str, tmp_path: Path) -> None:
    output = [said("<think>a</think>"), *called("1", x=1), said("<think>b</think>")]
    assert made(tmp_path, [rollout("q", output, 1.0)], "sft", "--think", think)[1]["rollouts"]["dropped"] == {"empty_answer": 1}


@pytest.mark.parametrize(
    "command", [["sft", "--format", "simple"], ["dpo"], ["dpo", "--target", "trl", "--as", "text"], ["rm", "--target", "verl"], ["ppo", "--with-responses"]], ids=" ".join
)
def test_an_answer_to_another_question_is_no_answer(command: list[str], tmp_path: Path) -> None:
    rollouts = [rollout("q", [{"type": "message", "role": "user", "content": f"u{n}"}, said(f"a{n}")], float(n)) for n in (0, 1)]
    assert made(tmp_path, rollouts, *command, *(["-o", "out.parquet"] if "verl" in command else []))[1]["rollouts"]["dropped"] == {"flattened_completion": 2}


@pytest.mark.parametrize("command", [["dpo", "--format", "preference"], ["dpo", "--target", "trl"], ["dpo", "--target", "custom", "--map", "c=chosen.output", "--map", "r=rejected.output"]], ids=" ".join)
@pytest.mark.parametrize("name", ["id", "tool_call_id", "x"])
def test_sides_differ_by_what_was_done(name: str, command: list[str], tmp_path: Path) -> None:
    """Not by the ids that calls go by."""
    rollouts = [rollout("q", [*called(f"c{n}", **{name: f"{n}"}), said("done")], float(n)) for n in (0, 1)]
    assert len(made(tmp_path, rollouts, *command)[0]) == 1
    alike = [rollout("q", [*called(f"c{n}", **{name: "A"}), said("done")], float(n)) for n in (0, 1)]
    assert made(tmp_path, alike, *command)[1]["examples"]["dropped"] == {"identical_sides": 1}


@pytest.mark.parametrize("command", [["dpo", "--prompt-as", "text"], ["dpo", "--target", "trl", "--as", "text"], ["rm", "--prompt-as", "text"]], ids=" ".join)
def test_pairs_that_lost_the_system_text_are_told_of(command: list[str], tmp_path: Path) -> None:
    prompt = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    warnings = made(tmp_path, [rollout(prompt, [said(f"a{n}")], float(n)) for n in (0, 1)], *command)[1]["warnings"]
    assert any(warning.startswith("1 example(s) lost the system text or earlier turns") for warning in warnings)


TOOLS = [{"type": "function", "name": "get", "parameters": {"type": "object", "properties": {}}}]


@pytest.mark.parametrize(
    ("command", "way"),
    [
        (["sft", "--format", "simple"], "--format openai"), (["grpo", "--no-ground-truth"], "--format gym"), (["dpo"], "--format preference"),
        (["dpo", "--target", "trl", "--as", "text"], "--as messages"),
    ],
    ids=str,
)
def test_tools_that_were_lost_are_told_of(command: list[str], way: str, tmp_path: Path) -> None:
    rollouts = [rollout("u", [said(f"a{n}")], float(n), tools=TOOLS) for n in (0, 1)]
    told = [warning for warning in made(tmp_path, rollouts, *command)[1]["warnings"] if "lost the tools" in warning]
    assert len(told) == 1 and told[0].endswith(f"{way} keeps them")
    without = [rollout("u", [said(f"a{n}")], float(n)) for n in (0, 1)]
    assert not any("lost the tools" in warning for warning in made(tmp_path, without, *command)[1]["warnings"])


def test_items_of_an_unknown_kind_are_told_of(tmp_path: Path) -> None:
    warnings = made(tmp_path, [rollout("u", [{"type": "mcp_call", "name": "f"}, said("a")], 1.0)], "sft")[1]["warnings"]
    assert any(warning.startswith("1 item(s) of unknown types") for warning in warnings)


def test_fields_that_rows_for_gym_go_without_are_told_of(tmp_path: Path) -> None:
    fields = {"is_halu": True, "judge_prompt": "p", "pred_halu": False, "parse_fail": False, "extracted": "x", "law": 1}
    rows, report = made(tmp_path, [rollout("u", [said("a")], 1.0, **fields)], "grpo", "--format", "gym", "--agent-name", "a")
    assert {name for name in fields if name in rows[0]} == {"is_halu", "judge_prompt", "law"}
    assert any("verifier output: extracted, parse_fail, pred_halu;" in warning for warning in report["warnings"])


def test_tasks_of_several_prompts_are_told_of(tmp_path: Path) -> None:
    warnings = made(tmp_path, [rollout(f"u{n}", [said("a")], 1.0) for n in (0, 1)], "grpo", "--no-ground-truth")[1]["warnings"]
    assert "1 task(s) have rollouts with different prompts: each prompt forms its own group" in warnings


@pytest.mark.parametrize(
    ("rollouts", "command", "told"),
    [
        ([rollout("u", [], 0.0, answer="a"), rollout("v", [], 0.0, answer="a"), rollout("w", [said("x")], 0.0)], ["grpo"], "empty_answer 2, missing_ground_truth 1); rows need"),
        ([rollout([], [said("x")], 0.0)], ["grpo", "--format", "gym", "--agent-name", "a"], "add --keep missing_input"),
        ([rollout([], [said("x")], 0.0), rollout("v", [said("x")], 0.0)], ["grpo", "--format", "gym", "--agent-name", "a"], "1 of 2 rollouts have no input: "),
        ([rollout("u", [*called("1", x=1), said("a")], 0.0)], ["rm"], "need --format preference (nemo-rl) or --as messages"),
    ],
    ids=["answers", "input", "some input", "rm"],
)
def test_what_cost_most_is_named_with_the_way_out(rollouts: list[dict[str, Any]], command: list[str], told: str, tmp_path: Path) -> None:
    assert any(told in warning for warning in made(tmp_path, rollouts, *command)[1]["warnings"])


def test_a_gate_without_its_metric_gives_no_reward(tmp_path: Path) -> None:
    rollouts = [rollout(f"q{n}", [said("a")], 0.5, correctness=correctness, style=0.9) for n, correctness in enumerate([None, 0.4, 0.9])]
    gate = "case when correctness < 0.5 then 0.3 * style else style end"
    rows, report = made(tmp_path, rollouts, "sft", "--reward-threshold", "0", "--target", "custom", "--map", "r=reward", "--reward", gate)
    assert ([round(row["r"], 9) for row in rows], report["rollouts"]["dropped"]) == ([0.27, 0.9], {"missing_reward": 1})
    rows, _ = made(tmp_path, rollouts, "sft", "--reward-threshold", "0", "--target", "custom", "--map", "r=reward", "--reward", "coalesce(correctness, 0) * 1.0")
    assert [row["r"] for row in rows] == [0.0, 0.4, 0.9]


@pytest.mark.parametrize(("first", "second", "distance"), [("a b c d", "a b c e", 0.4), ("p q\nr s", "p q r s", 0.0), ("role content", "a b", 1.0)])
def test_distance_is_between_words(first: str, second: str, distance: float, tmp_path: Path) -> None:
    rollouts = [rollout("q", [said(text)], reward) for text, reward in ((first, 1.0), (second, 0.0))]
    assert len(made(tmp_path, rollouts, "dpo", "--min-distance", str(distance))[0]) == 1
    if distance < 1:
        assert made(tmp_path, rollouts, "dpo", "--min-distance", str(distance + 0.01))[1]["examples"]["dropped"] == {"too_alike": 1}


@pytest.mark.parametrize(("rule", "recipe"), [("media", "dpo"), ("unfinished", "sft"), ("unfinished", "dpo")])
def test_what_rows_cannot_hold_is_not_kept(rule: str, recipe: str, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(json.dumps(rollout("q", [said("a")], 1.0)) + "\n")
    done = run(recipe, "in.jsonl", "-o", "out.jsonl", "--keep", rule, folder=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith(f"rollout-etl: --keep {rule}: ")


def test_a_gap_that_no_number_holds_is_null(tmp_path: Path) -> None:
    rollouts = [rollout("q", [said(f"a{n}")], reward) for n, reward in enumerate((1e308, -1e308))]
    (row,) = made(tmp_path, rollouts, "dpo", "--with-rewards")[0]
    assert (row["reward_gap"], row["chosen_reward"], row["rejected_reward"]) == (None, 1e308, -1e308)
