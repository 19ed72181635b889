"""What rollouts do not carry is looked up in the inputs of their run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rollout_etl.explore.ingest import ingest
from rollout_etl.read.scan import Rollouts
from rollout_etl.recipes.options import GrpoOptions
from rollout_etl.run.execute import Run, execute

REAL = (Path(__file__).parent.parent.parent / "shared" / "rollouts").resolve()
INPUTS = sorted(REAL.rglob("*_materialized_inputs.jsonl")) if REAL.is_dir() else []
COLUMNS = ("task_index", "ground_truth", "ground_truth_text", "ground_truth_origin")


def rollout(question: str, **fields: Any) -> dict[str, Any]:
    output = [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "an answer"}]}]
    return {**task(question), "response": {"output": output}, "reward": 1.0, **fields}


def task(question: str, **fields: Any) -> dict[str, Any]:
    return {"responses_create_params": {"input": [{"role": "user", "content": question}]}, **fields}


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def truths(path: Path, task_inputs: Path | None = None) -> list[tuple[str | None, str | None]]:
    frames = Rollouts(str(path), task_inputs=None if task_inputs is None else str(task_inputs)).batches(COLUMNS)
    return [(row["ground_truth_text"], row["ground_truth_origin"]) for frame in frames for row in frame.to_dicts()]


@pytest.mark.parametrize(
    ("rollouts", "inputs", "expected"),
    [
        pytest.param([rollout("q", _ng_task_index=1)], [task("p", _ng_task_index=1, answer="a")], ("a", "task_inputs.answer"), id="index before prompt"),
        pytest.param([rollout("q")], [task("p", answer="b"), task("q", answer="a")], ("a", "task_inputs.answer"), id="prompt"),
        pytest.param([rollout("q", _ng_task_index=1)], [task("q", answer="a")], ("a", "task_inputs.answer"), id="prompt without index"),
        pytest.param([rollout("q", _ng_task_index=1)], [task("q", _ng_task_index=2, answer="a")], (None, None), id="another index"),
        pytest.param([rollout("q", label="own")], [task("q", answer="a")], ("own", "label"), id="the rollout first"),
        pytest.param([rollout("q", label=0)], [task("q", answer="a")], ("0", "label"), id="zero counts"),
        pytest.param([rollout("q", label="")], [task("q", answer="a")], ("a", "task_inputs.answer"), id="blank does not"),
        pytest.param([rollout("q")], [task("q"), task("q", answer="a")], ("a", "task_inputs.answer"), id="the first that tells"),
        pytest.param([rollout("q")], [task("q", _ng_task_index=2, answer="a")], ("a", "task_inputs.answer"), id="no index of its own"),
        pytest.param([rollout("q")], [task("q", answer="a"), task("q", answer="b")], (None, None), id="tasks that share a prompt"),
        pytest.param([rollout("q")], [task("q", answer="a"), task("q", answer="a")], ("a", "task_inputs.answer"), id="one task twice"),
        pytest.param([rollout("q")], [task("q")], (None, None), id="nowhere"),
    ],
)
@pytest.mark.parametrize("given", [False, True], ids=["beside", "given"])
def test_ground_truth(tmp_path: Path, rollouts: list[dict[str, Any]], inputs: list[dict[str, Any]], expected: tuple[str, str], given: bool) -> None:
    path = written(tmp_path / "run.jsonl", rollouts)
    found = written(tmp_path / ("tasks.jsonl" if given else "run_materialized_inputs.jsonl"), inputs)
    assert truths(path, found if given else None) == [expected]


@pytest.mark.parametrize("place", ["tasks", "tasks/*.jsonl", "tasks/one.jsonl", "file"])
def test_a_folder_stands_for_its_files(place: str, tmp_path: Path) -> None:
    """And what is ingested needs them no more."""
    (tmp_path / "tasks").mkdir()
    path = written(tmp_path / "run.jsonl", [rollout("q"), rollout("p")])
    one = written(tmp_path / "tasks" / "one.jsonl", [task("q", answer="a"), task("p", answer="b")])
    place = one.as_uri() if place == "file" else str(tmp_path / place)
    wanted = [("a", "task_inputs.answer"), ("b", "task_inputs.answer")]
    found = Rollouts(str(path), task_inputs=place).batches(COLUMNS)
    assert [(row["ground_truth_text"], row["ground_truth_origin"]) for frame in found for row in frame.to_dicts()] == wanted
    ingest(path, tmp_path / "in", task_inputs=place)
    one.unlink()
    assert truths(tmp_path / "in") == wanted


def test_inputs_belong_to_the_file_they_lie_beside(tmp_path: Path) -> None:
    for name in ("one", "two"):
        written(tmp_path / f"{name}.jsonl", [rollout("q", _ng_task_index=0)])
        written(tmp_path / f"{name}_materialized_inputs.jsonl", [task("q", _ng_task_index=0, answer=name)])
    assert [truth for truth, _ in truths(tmp_path)] == ["one", "two"]


def gym_rows(tmp_path: Path, path: Path, agent_name: str | None = None) -> list[dict[str, Any]]:
    output = tmp_path / "gym.jsonl"
    execute(Run(inputs=[str(path)], output=output, options=GrpoOptions(format="gym", agent_name=agent_name, all_rollouts=True)))
    return [json.loads(line) for line in output.read_bytes().split(b"\n")[:-1]]


def test_gym_rows_are_the_inputs(tmp_path: Path) -> None:
    path = written(tmp_path / "run.jsonl", [rollout("q", _ng_task_index=0, agent_ref={"name": "a"}, is_correct=True)])
    row = task("q", verifier_metadata={"is_easy": True}, is_hard=False, agent_ref={"name": "a"})
    assert gym_rows(tmp_path, path) == [task("q", agent_ref={"name": "a"})]
    written(tmp_path / "run_materialized_inputs.jsonl", [row | {"_ng_task_index": 0, "_ng_rollout_index": 0}])
    assert gym_rows(tmp_path, path) == [row]


def test_gym_rows_keep_their_agent(tmp_path: Path) -> None:
    path = written(tmp_path / "run.jsonl", [rollout("q", _ng_task_index=0, agent_ref={"name": "a"})])
    written(tmp_path / "run_materialized_inputs.jsonl", [task("q", _ng_task_index=0, seed=1)])
    assert gym_rows(tmp_path, path) == [task("q", agent_ref={"name": "a"})]


@pytest.mark.parametrize("agents", [True, False], ids=["agents", "no agents"])
@pytest.mark.parametrize("told_by", ["difficulty", "uuid"])
def test_task_fields_choose_among_tasks_of_a_prompt(told_by: str, agents: bool, tmp_path: Path) -> None:
    agent = {"agent_ref": {"name": "a"}} if agents else {}
    path = written(tmp_path / "run.jsonl", [rollout("q", **{told_by: level}, agent_ref={"name": "a"}) for level in ("hard", "easy", "medium")])
    tasks = [task("q", **{told_by: level}, law=law, answer=f"a{law}", **agent) for law, level in enumerate(("easy", "medium", "hard"))]
    inputs = written(tmp_path / "run_materialized_inputs.jsonl", tasks)
    assert [row.get("law") for row in gym_rows(tmp_path, path)] == ([2, 0, 1] if agents else [None] * 3)
    assert [truth for truth, _ in truths(path, inputs)] == ["a2", "a0", "a1"]


@pytest.mark.parametrize("differing", [{"law": 1}, {"law": 1, "difficulty": "hard"}, {"agent_ref": {"name": "b"}}])
def test_no_row_is_taken_where_tasks_cannot_be_told_apart(differing: dict[str, Any], tmp_path: Path) -> None:
    path = written(tmp_path / "run.jsonl", [rollout("q")])
    first = {"law": 0, "difficulty": "easy", "agent_ref": {"name": "a"}, "answer": "same"}
    written(tmp_path / "run_materialized_inputs.jsonl", [task("q", **first), task("q", **(first | differing))])
    output = tmp_path / "gym.jsonl"
    report = execute(Run(inputs=[str(path)], output=output, options=GrpoOptions(format="gym", agent_name="mine")))
    assert json.loads(output.read_bytes()) == task("q") | {"agent_ref": {"name": "mine" if "agent_ref" in differing else "a"}}
    assert [warning for warning in report.warnings if warning.startswith("1 rollout(s) match several task inputs")]
    assert truths(path) == [("same", "task_inputs.answer")]


def test_an_agent_chooses_among_tasks_of_a_prompt(tmp_path: Path) -> None:
    path = written(tmp_path / "run.jsonl", [rollout("q", agent_ref={"name": name}) for name in ("b", "a", "c")])
    written(tmp_path / "run_materialized_inputs.jsonl", [task("q", answer=name, agent_ref={"name": name}) for name in "ab"])
    assert [row.get("answer") for row in gym_rows(tmp_path, path)] == ["b", "a", None]


def test_an_index_counts_within_its_agent(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("math", "code"):
        agent = {"agent_ref": {"name": name}}
        written(tmp_path / f"{name}.jsonl", [rollout(f"{name} {index}", _ng_task_index=index, **agent) for index in (1, 0)])
        written(tmp_path / "in" / f"{name}.jsonl", [task(f"{name} {index}", _ng_task_index=index, answer=f"{name}{index}", **agent) for index in (0, 1)])
    for name in ("math", "code"):
        assert [truth for truth, _ in truths(tmp_path / f"{name}.jsonl", tmp_path / "in")] == [f"{name}1", f"{name}0"]
    assert truths(tmp_path / "math.jsonl", tmp_path / "in" / "code.jsonl") == [(None, None)] * 2


def test_a_prompt_chooses_among_tasks_of_an_index(tmp_path: Path) -> None:
    """An index that one task alone has is believed, whatever the prompt."""
    path = written(tmp_path / "run.jsonl", [rollout("one", _ng_task_index=0), rollout("other", _ng_task_index=0), rollout("third", _ng_task_index=0)])
    inputs = tmp_path / "in"
    inputs.mkdir()
    written(inputs / "one.jsonl", [task("one", _ng_task_index=0, answer="a")] * 2)
    assert [truth for truth, _ in truths(path, inputs)] == ["a"] * 3
    written(inputs / "two.jsonl", [task("other", _ng_task_index=0, answer="b")])
    assert [truth for truth, _ in truths(path, inputs)] == ["a", "b", None]


@pytest.mark.parametrize("inputs", INPUTS, ids=lambda path: path.parent.name)
def test_real_inputs(tmp_path: Path, inputs: Path) -> None:
    path = inputs.with_name(inputs.name.replace("_materialized_inputs", ""))
    rows = {row["_ng_task_index"]: row for row in map(json.loads, inputs.read_text(encoding="utf-8").split("\n")[:-1])}
    asked = [json.loads(line)["_ng_task_index"] for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
    expected = [{key: value for key, value in rows[index].items() if not key.startswith("_ng_") and value is not None} for index in asked]
    found = gym_rows(tmp_path, path)
    assert found
    assert all(row in expected for row in found)
    for frame in Rollouts(str(path)).batches(COLUMNS):
        for row in frame.to_dicts():
            if row["ground_truth_origin"] is not None and row["ground_truth_origin"].startswith("task_inputs."):
                value: Any = rows[int(row["task_index"])]
                for name in row["ground_truth_origin"].split(".")[1:]:
                    value = value[name]
                assert json.loads(row["ground_truth"]) == value
