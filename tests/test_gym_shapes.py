"""What NeMo Gym's agents, model servers and resources servers write, one small rollout for each kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rollout_etl.read.canonical import Lookup
from rollout_etl.read.scan import Rollouts
from rollout_etl.recipes.options import DpoOptions, SftOptions
from rollout_etl.run.execute import Run, execute

QUESTION = {"role": "user", "content": "What is 1 + 1?"}


def answer(text: str = "2", **fields: Any) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text, "annotations": []}], **fields}


def rollout(*output: Any, response: dict[str, Any] | None = None, metadata: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    params = {"input": [QUESTION], "metadata": metadata}
    return {"responses_create_params": params, "response": {"output": list(output), **(response or {})}, "reward": 1.0, **fields}


def read(folder: Path, row: dict[str, Any], *columns: str) -> dict[str, Any]:
    path = folder / "rollouts.jsonl"
    path.write_text(json.dumps(row) + "\n")
    [frame] = Rollouts(str(path)).batches(columns)
    [found] = frame.to_dicts()
    return found


def completion(folder: Path, row: dict[str, Any]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = json.loads(read(folder, row, "completion")["completion"])
    return messages


@pytest.mark.parametrize(
    ("row", "fails"),
    [
        pytest.param(rollout(answer("par"), response={"status": "failed"}), True, id="the model server failed"),
        pytest.param(rollout(answer("par"), response={"status": "cancelled"}), True, id="the model server was stopped"),
        pytest.param(rollout(answer("Incomplete: no file"), response={"id": "task-incomplete"}), True, id="placeholder"),
        pytest.param(rollout(answer("Incomplete: no file"), response={"id": "task"}), False, id="the same words of a model"),
        pytest.param(rollout(answer(), response={"status": "completed"}), False, id="nothing failed"),
        pytest.param(rollout(answer(), judge_failed=True), True, id="the judge failed"),
        pytest.param(rollout(answer(), judge_failed=False), False, id="the judge did not"),
        pytest.param(rollout(answer(), judge_error="judge_call_failed"), True, id="the judge could not be asked"),
        pytest.param(rollout(answer(), judge_error=None), False, id="the judge could be asked"),
        pytest.param(rollout(answer(), invalid_judge_response=True), True, id="the judge gave no verdict"),
        pytest.param(rollout(answer(), invalid_judge_response=False), False, id="the judge gave a verdict"),
    ],
)
def test_rewards_that_say_nothing_about_the_model(tmp_path: Path, row: dict[str, Any], fails: bool) -> None:
    assert read(tmp_path, row, "is_failure")["is_failure"] is fails


IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,AA=="}
CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}


@pytest.mark.parametrize(
    ("output", "text"),
    [
        pytest.param("7", "7", id="text"),
        pytest.param([{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}], "ab", id="parts"),
        pytest.param([{"price": 1}], '[{"price":1}]', id="data"),
        pytest.param(["a", "b"], '["a","b"]', id="texts that are no parts"),
        pytest.param([], "", id="nothing"),
    ],
)
def test_what_a_tool_gave_back(tmp_path: Path, output: Any, text: str) -> None:
    row = rollout(CALL, {"type": "function_call_output", "call_id": "c", "output": output}, answer())
    found = read(tmp_path, row, "completion", "has_media")
    assert json.loads(found["completion"])[1] == {"role": "tool", "content": text, "tool_call_id": "c"}
    assert not found["has_media"]


@pytest.mark.parametrize("where", ["input", "output"])
@pytest.mark.parametrize("kind", ["function_call_output", "computer_call_output"])
def test_a_screenshot_is_media(tmp_path: Path, kind: str, where: str) -> None:
    shown = {"type": kind, "call_id": "c", "output": {"type": "computer_screenshot", "image_url": "data:image/png;base64,AA=="}}
    row = rollout(CALL, shown, answer()) if where == "output" else rollout(answer()) | {"responses_create_params": {"input": [QUESTION, CALL, shown]}}
    assert read(tmp_path, row, "has_media") == {"has_media": True}


@pytest.mark.parametrize("parts", [["1 + ", "1"], ["1 + ", {"type": "input_text", "text": "1"}]])
def test_parts_that_are_texts(tmp_path: Path, parts: list[Any]) -> None:
    row = rollout({"type": "reasoning", "summary": ["so", "then"]}, {"type": "message", "role": "assistant", "content": parts})
    row["responses_create_params"] = {"input": [{"role": "user", "content": parts}]}
    found = read(tmp_path, row, "prompt_text", "completion")
    assert found["prompt_text"] == "1 + 1"
    assert json.loads(found["completion"]) == [{"role": "assistant", "reasoning_content": "so\n\nthen", "content": "1 + 1"}]


def test_items_of_unknown_kinds_tell_prompts_apart(tmp_path: Path) -> None:
    path = tmp_path / "rollouts.jsonl"
    items = [{"type": "item_reference", "id": "a"}, {"type": "item_reference", "id": "b"}, {"status": None, "id": "a", "type": "item_reference"}]
    path.write_text("".join(json.dumps(rollout(answer()) | {"responses_create_params": {"input": [QUESTION, item]}}) + "\n" for item in items))
    [frame] = Rollouts(str(path)).batches(["task_key", "prompt_key", "messages_key"])
    for keys in frame.iter_columns():
        first, second, third = keys
        assert first != second and first == third


def test_a_result_and_its_call_without_types(tmp_path: Path) -> None:
    row = rollout({"call_id": "c", "name": "f", "arguments": "{}"}, {"call_id": "c", "output": "r"}, answer())
    assert completion(tmp_path, row) == completion(tmp_path, rollout(CALL, {"type": "function_call_output", "call_id": "c", "output": "r"}, answer()))
    assert read(tmp_path, row, "num_unknown", "completion_kinds") == {"num_unknown": 0, "completion_kinds": "COA"}


@pytest.mark.parametrize(
    ("summary", "content", "text"),
    [
        pytest.param(["so"], ["so"], "so", id="the same"),
        pytest.param(["so", "then"], ["so", "then"], "so\n\nthen", id="the same in parts"),
        pytest.param(["so"], ["one and one"], "so\n\none and one", id="different"),
    ],
)
def test_reasoning_in_the_summary_and_in_the_content(tmp_path: Path, summary: list[str], content: list[str], text: str) -> None:
    thought = {
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": part} for part in summary],
        "content": [{"type": "reasoning_text", "text": part} for part in content],
    }
    assert completion(tmp_path, rollout(thought, answer())) == [{"role": "assistant", "reasoning_content": text, "content": "2"}]


def test_tools_that_are_spelt_with_doc_and_params(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {}}
    found = read(tmp_path, rollout(answer(), tools=[{"name": "f", "doc": "does", "params": schema}]), "tools")["tools"]
    assert json.loads(found) == [{"type": "function", "function": {"name": "f", "description": "does", "parameters": schema}}]


def test_half_a_surrogate_pair_in_arguments(tmp_path: Path) -> None:
    """A literal backslash before a `u` is no escape."""
    call = CALL | {"arguments": r'{"q": "\ud83d \ud83d\ude00 \\ud83d"}'}
    row = rollout(call, {"type": "function_call_output", "call_id": "c", "output": "r"}, answer())
    assert completion(tmp_path, row)[0]["tool_calls"][0]["function"]["arguments"] == {"q": "\ufffd \U0001f600 \\ud83d"}


@pytest.mark.parametrize("where", ["output", "input", "messages"])
def test_images_of_tools_are_never_lost_in_silence(tmp_path: Path, where: str) -> None:
    given = [CALL, {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "see"}, IMAGE]}]
    chat = [
        QUESTION,
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c", "content": [IMAGE]},
    ]
    row = {
        "output": rollout(*given, answer()),
        "input": rollout(answer()) | {"responses_create_params": {"input": [QUESTION, *given]}},
        "messages": {"messages": chat, "response": {"output": [answer()]}, "reward": 1.0},
    }[where]
    found = read(tmp_path, row, "has_media", "prompt", "completion")
    assert found["has_media"]
    assert "base64,AA" in found["prompt"] + found["completion"]


def test_reasoning_of_newer_model_servers(tmp_path: Path) -> None:
    said = {"role": "assistant", "content": "2", "reasoning": "one and one"}
    wanted = {"role": "assistant", "reasoning_content": "one and one", "content": "2"}
    for row in ({"messages": [QUESTION], "response": {"choices": [{"message": said}]}, "reward": 1.0}, rollout() | {"response": {"output": [said]}}):
        assert completion(tmp_path, row) == [wanted]
    earlier = rollout(answer()) | {"responses_create_params": {"input": [QUESTION, said, QUESTION]}}
    assert json.loads(read(tmp_path, earlier, "prompt")["prompt"]) == [QUESTION, wanted, QUESTION]


def chat(*messages: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [QUESTION], "response": {"choices": [{"message": messages[0]}]} if len(messages) == 1 else {"output": list(messages)}, "reward": 1.0}


@pytest.mark.parametrize("content", [None, "", []])
def test_a_refusal_beside_empty_content(tmp_path: Path, content: Any) -> None:
    refused = {"role": "assistant", "content": content, "refusal": "I cannot say."}
    wanted = {"role": "assistant", "content": "I cannot say."}
    for row in (chat(refused), rollout() | {"output": [refused]}):
        assert completion(tmp_path, row) == [wanted]
    earlier = rollout(answer()) | {"responses_create_params": {"input": [QUESTION, refused, QUESTION]}}
    assert json.loads(read(tmp_path, earlier, "prompt")["prompt"]) == [QUESTION, wanted, QUESTION]


@pytest.mark.parametrize("summary", ["so", ["so"], {"type": "summary_text", "text": "so"}])
def test_a_summary_that_is_no_list_of_parts(tmp_path: Path, summary: Any) -> None:
    row = rollout({"type": "reasoning", "summary": summary}, answer())
    assert completion(tmp_path, row) == [{"role": "assistant", "reasoning_content": "so", "content": "2"}]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        pytest.param({"type": "output_text", "text": "2", "annotations": []}, "2", id="text"),
        pytest.param({"type": "refusal", "refusal": "no"}, "no", id="refusal"),
        pytest.param({"answer": 2}, '{"answer":2}', id="data"),
    ],
)
def test_content_that_is_one_part(tmp_path: Path, content: Any, text: str) -> None:
    assert completion(tmp_path, rollout(answer() | {"content": content})) == [{"role": "assistant", "content": text}]
    earlier = rollout(answer()) | {"responses_create_params": {"input": [QUESTION | {"content": content}]}}
    assert read(tmp_path, earlier, "prompt_text") == {"prompt_text": text}


def test_content_that_is_one_image(tmp_path: Path) -> None:
    row = rollout(answer()) | {"responses_create_params": {"input": [QUESTION | {"content": IMAGE}]}}
    found = read(tmp_path, row, "has_media", "prompt")
    assert found["has_media"] and json.loads(found["prompt"]) == [QUESTION | {"content": [IMAGE]}]


def test_the_function_calls_of_old_chats(tmp_path: Path) -> None:
    called = {"role": "assistant", "content": "look", "function_call": {"name": "f", "arguments": '{"a": 1}'}}
    given, said = {"role": "function", "name": "f", "content": "r"}, {"role": "assistant", "content": "2"}

    def wanted(name: str) -> list[dict[str, Any]]:
        call = {"id": name, "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
        return [{"role": "assistant", "content": "look", "tool_calls": [call]}, {"role": "tool", "content": "r", "tool_call_id": name}]

    assert completion(tmp_path, chat(called, given, said)) == [*wanted("call_1"), said]
    earlier = rollout(answer()) | {"responses_create_params": {"input": [QUESTION, called, given, QUESTION]}}
    assert json.loads(read(tmp_path, earlier, "prompt")["prompt"]) == [QUESTION, *wanted("prompt_call_1"), QUESTION]


def test_an_index_of_the_attempt_in_the_metadata_does_not_part_a_group(tmp_path: Path) -> None:
    path = tmp_path / "rollouts.jsonl"
    rows = [
        rollout(answer(text), metadata={"problem": "7", "attempt": "0", "rollout_index": str(attempt)}, _ng_task_index=0, _ng_rollout_index=attempt)
        | {"reward": float(attempt)}
        for attempt, text in enumerate(("3", "2"))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert execute(Run(inputs=[str(path)], output=tmp_path / "pairs.jsonl", options=DpoOptions(), config=False)).written == 1


def test_a_tool_that_is_declared_twice(tmp_path: Path) -> None:
    one, other = ({"type": "function", "name": "f", "description": text, "parameters": {"type": "object", "properties": {}}} for text in ("a", "b"))
    row = rollout(answer())
    row["responses_create_params"]["tools"] = [one, other, one]
    assert [tool["function"]["description"] for tool in json.loads(read(tmp_path, row, "tools")["tools"])] == ["a", "b"]


def test_transitions_that_do_not_repeat_those_before_are_told(tmp_path: Path) -> None:
    path = tmp_path / "rollouts.jsonl"
    first, second = ([{"role": "user", "content": text}, answer(text)] for text in "ab")
    rows = [rollout([*first], [*first, *second]), rollout([*first], [*second])]
    path.write_text("".join(json.dumps(row | {"responses_create_params": {"input": []}}) + "\n" for row in rows))
    report = execute(Run(inputs=[str(path)], output=tmp_path / "rows.jsonl", options=SftOptions(), config=False))
    assert report.shapes == {"response+empty_input+transitions": 1, "response+empty_input+diverging_transitions": 1}
    assert any(warning.startswith("1 rollouts are lists of transitions") for warning in report.warnings)
    assert [len(json.loads(line)["messages"]) for line in (tmp_path / "rows.jsonl").read_text().splitlines()] == [4, 2]


@pytest.mark.parametrize("given", [[QUESTION], [{"role": "system", "content": "Be brief."}, QUESTION], [QUESTION, answer("3"), QUESTION], "What is 1 + 1?"])
@pytest.mark.parametrize("in_transitions", [True, False])
def test_an_output_that_begins_with_the_input(tmp_path: Path, given: Any, in_transitions: bool) -> None:
    """Aviary's agent writes the conversation so far for each step: the input, what the environment shows first, and what was said and done."""
    start = [*([{"role": "user", "content": given}] if isinstance(given, str) else given), {"role": "user", "content": "A game begins."}]
    played = [*start, CALL, {"type": "function_call_output", "call_id": "c", "output": "won"}, answer()]
    row = rollout() | {"responses_create_params": {"input": given}, "response": {"output": [played[:-1], played] if in_transitions else played}}
    found = read(tmp_path, row, "prompt_kinds", "completion_kinds", "prompt_text", "prompt_key")
    asked = read(tmp_path, rollout(*played[len(start) :]) | {"responses_create_params": {"input": start}}, *found)
    assert found == asked | {"completion_kinds": "COA", "prompt_text": "A game begins."}


def test_a_prompt_of_tools_alone(tmp_path: Path) -> None:
    path = tmp_path / "rollouts.jsonl"
    tools = [{"type": "function", "name": "f", "parameters": {"type": "object"}}]
    rows = [rollout(answer(text)) | {"reward": reward, "responses_create_params": {"input": [], "tools": tools}, "_ng_task_index": 0} for text, reward in (("2", 1.0), ("3", 0.0))]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = DpoOptions(format="preference", keep=("empty_prompt",))
    execute(Run(inputs=[str(path)], output=tmp_path / "pairs.jsonl", options=options, config=False))
    [pair] = map(json.loads, (tmp_path / "pairs.jsonl").read_text().splitlines())
    assert [message["role"] for message in pair["context"]] == ["system"]


@pytest.mark.parametrize(
    ("instructions", "message"),
    [
        pytest.param("be brief", {"role": "system", "content": "be brief"}, id="a text"),
        pytest.param([{"role": "developer", "content": "be brief"}], {"role": "developer", "content": "be brief"}, id="messages"),
        pytest.param([{"type": "input_text", "text": "be "}, "brief"], {"role": "system", "content": "be brief"}, id="parts"),
        pytest.param({"content": "be brief"}, {"role": "system", "content": "be brief"}, id="one message"),
        pytest.param([], None, id="nothing"),
    ],
)
def test_instructions(tmp_path: Path, instructions: Any, message: dict[str, str] | None) -> None:
    row = rollout(answer()) | {"responses_create_params": {"input": [QUESTION], "instructions": instructions}}
    found = read(tmp_path, row, "prompt", "shape")
    assert json.loads(found["prompt"]) == [*([] if message is None else [message]), QUESTION]
    assert found["shape"] == ("response" if message is None else "response+instructions")


def test_a_dot_that_is_part_of_a_name(tmp_path: Path) -> None:
    path = tmp_path / "rollouts.jsonl"
    row = rollout(answer()) | {"file.txt": "whole", "file": {"txt": "part"}, "verifier_metadata": {"a.b": {"c d/e": "deep"}}}
    path.write_text(json.dumps(row) + "\n")
    for field, truth in (("file\\.txt", "whole"), ("file.txt", "part"), ("verifier_metadata.a\\.b.c d/e", "deep")):
        [frame] = Rollouts(str(path), lookup=Lookup(ground_truth_field=field)).batches(["ground_truth_text"])
        assert frame["ground_truth_text"].to_list() == [truth]
