"""Hypothesis strategies for lines of rollout files: every shape of rollout that NeMo Gym is known to write, and odd ones."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.strategy_items import (
    Pairs,
    Raw,
    Strategy,
    chat_assistant,
    chat_messages,
    items,
    names,
    numbers,
    part_lists,
    plain_items,
    some,
    texts,
    to_json,
    values,
)

# Where the prompt and the completion stand
plain_inputs: Strategy = st.lists(
    some({"type": st.just("message")}, role=st.sampled_from(("user", "system", "developer", "assistant")), content=texts), min_size=1, max_size=3
)
inputs: Strategy = (
    plain_inputs | plain_inputs | st.one_of(texts, st.just([]), st.none(), items, chat_messages, st.lists(items, max_size=3), st.lists(chat_messages, max_size=3))
)
plain_outputs: Strategy = st.lists(plain_items, max_size=5)
transitions: Strategy = st.lists(items, max_size=4).map(lambda steps: [steps[:end] for end in range(len(steps) + 1)])
outputs: Strategy = plain_outputs | plain_outputs | st.lists(items, max_size=5) | st.lists(chat_messages, max_size=4) | transitions | st.none()
schemas: Strategy = st.just({"type": "object", "properties": {}}) | st.dictionaries(texts, values, max_size=2)
flat_tools: Strategy = some(
    {
        "type": st.just("function"),
        "description": texts | st.none(),
        "parameters": schemas,
        "strict": st.booleans() | st.none(),
        "defer_loading": st.none(),
        "doc": texts,
    },
    name=names,
)
nested_tools: Strategy = some({"type": st.just("function")}, function=some({"description": texts, "parameters": schemas}, name=names))
tools: Strategy = st.none() | st.just([]) | st.lists(flat_tools | nested_tools | st.none() | st.just({"type": "web_search"}), max_size=3)
extra_body: Strategy = st.sampled_from(('{"seed": 0}', '{"seed": 1}'))
metadata: Strategy = st.none() | some(
    {
        "problem_statement": texts,
        "audio_url": texts,
        "answer": texts,
        "ground_truth": texts,
        "extra_body": extra_body,
        "k": texts | st.none(),
        "attempt": st.sampled_from(("0", "1")),
        "_ng_rollout_index": st.integers(0, 2),
        "a b": values,
    }
)
params: Strategy = some(
    {"instructions": texts | st.none() | part_lists | chat_messages | st.lists(chat_messages, max_size=2), "tools": tools, "metadata": metadata, "ground_truth": values, "temperature": st.just(0.7)}, input=inputs
)
usage: Strategy = st.none() | some(
    {name: st.integers(0, 9) | st.none() for name in ("input_tokens", "output_tokens", "prompt_tokens", "completion_tokens")}
)
response_fields: dict[str, Strategy] = {
    "id": st.sampled_from(("resp_1", "resp_2-failed", "x-timeout", None)),
    "status": st.sampled_from((None, "completed", "completed", "incomplete", "failed", "cancelled")),
    "incomplete_details": st.none() | st.just({"reason": "max_output_tokens"}),
    "tools": tools,
    "usage": usage,
    "expected_answer": values,
    "output_text": texts,
    "error": st.none() | texts,
}
placeholders: Strategy = st.sampled_from(("Failed: no sandbox", "Timed out", "Failedly", "Skipped", "Incomplete: no file"))
placeholder_outputs: Strategy = placeholders.map(
    lambda text: [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}]
)
responses: Strategy = some(response_fields, output=outputs | placeholder_outputs)
other_responses: Strategy = st.one_of(
    texts,
    st.lists(items, max_size=2),
    chat_assistant,
    st.none(),
    st.fixed_dictionaries({"choices": st.lists(st.fixed_dictionaries({"message": chat_assistant}, optional={"finish_reason": st.sampled_from(["stop", "length", "tool_calls", None, 1])}), max_size=2)}),
    st.fixed_dictionaries({"message": chat_assistant | texts}),
    some(response_fields),
)
histories: Strategy = plain_inputs | st.lists(items | chat_messages, min_size=1, max_size=3)
repeating: Strategy = st.tuples(histories, st.lists(items, max_size=3), st.booleans()).map(
    lambda told: {
        "responses_create_params": {"input": told[0]},
        "response": {"output": [told[0], [*told[0], *told[1]]] if told[2] else [*told[0], *told[1]]},
    }
)
bodies: Strategy = st.one_of(
    repeating,
    some({}, responses_create_params=params, response=responses),
    some({}, responses_create_params=some({}, input=plain_inputs), response=some(response_fields, output=plain_outputs)),
    some({"response": responses | other_responses, "responses_create_params": params}, output=outputs | texts),
    some(
        {"responses_create_params": params, "tools": tools},
        messages=st.lists(chat_messages, max_size=3) | texts,
        response=responses | other_responses,
    ),
    some({"response": responses | other_responses}, responses_create_params=params | st.none()),
    some({"policy_response": texts}),
)

# Fields beside what was said
flags: Strategy = st.sampled_from((True, False, None, 0, 1, "true", "True", "false", Raw("1.0")))
rewards: Strategy = numbers | st.sampled_from((0.0, 1.0, True, False, None, "1.0", [1], {"a": 1}, -2.0000000000000004, Raw("1e400"), Raw("-1e400")))
statics: Strategy = st.sampled_from(("easy", "hard", 1, 2.5, None, ["x"]))
_fields: dict[str, Strategy] = {
    **dict.fromkeys(("reward",) * 1, rewards),
    **dict.fromkeys(("_ng_task_index", "_ng_rollout_index"), st.integers(0, 3) | st.none()),
    **dict.fromkeys(("task_id", "uuid", "id", "question_id", "task_idx"), st.sampled_from((None, 0, 1, "t1", "", 'q"'))),
    **dict.fromkeys(("difficulty", "category", "task_name", "level"), statics),
    **dict.fromkeys(("expected_answer", "ground_truth", "answer", "gold_sql", "target", "label"), values),
    **dict.fromkeys(("mask_sample", "verification_skipped", "context_length_exceeded_error", "judge_failed", "invalid_judge_response"), flags),
    "verifier_metadata": st.none() | some(dict.fromkeys(("ground_truth", "ideal", "target"), values)),
    "metadata": values | some(dict.fromkeys(("ground_truth", "answer", "expected", "level"), values)),
    "agent_ref": st.none() | some({"name": names | st.none()}),
    "instance_config": st.none() | some({"mask_sample": flags}),
    **dict.fromkeys(("error", "judge_error"), values | st.sampled_from((False, "", 0))),
    "_ng_failure_class": st.none() | texts,
    "seed": numbers,
    "accuracy": numbers | st.booleans(),
    "row_index": numbers,
    'odd "key" é': values,
}
fields: Strategy = st.lists(st.sampled_from(sorted(_fields)), max_size=4, unique=True).flatmap(
    lambda keys: st.fixed_dictionaries({key: _fields[key] for key in keys})
)
rollouts: Strategy = st.tuples(bodies, fields).map(lambda both: {**both[0], **both[1]})


def line_of(row: Any, ascii_only: bool = False, space: bool = True) -> bytes:
    return to_json(row, ascii_only=ascii_only, space=space).encode()


rollout_lines: Strategy = st.builds(line_of, rollouts, ascii_only=st.booleans(), space=st.booleans())
"""Lines that are rollouts or, rarely, objects without any of a rollout's keys; none needs a repair."""


@st.composite
def lines_with_repeated_keys(draw: st.DrawFn) -> bytes:
    """Rollouts in which a key stands twice."""
    row = draw(rollouts)
    pairs = Pairs(row.items())
    params = row.get("responses_create_params")
    if isinstance(params, dict) and params.get("metadata"):
        doubled = Pairs([*params["metadata"].items(), ("k", "again"), ("k", "and again")])
        pairs = Pairs({**row, "responses_create_params": {**params, "metadata": doubled}}.items())
    key = draw(st.sampled_from([*row, "accuracy", "note"]))
    return line_of(Pairs([*pairs, (key, draw(values)), (key, draw(values))]))


@st.composite
def damaged_lines(draw: st.DrawFn) -> bytes:
    """Rollouts that need a repair: a byte order mark, half of a surrogate pair, NaN and infinities, commas before a closing bracket."""
    nonfinite = st.sampled_from([Raw(text) for text in ("NaN", "Infinity", "-Infinity", "nan", "-inf", "1e400", "-1E+400", "9" * 400)])
    loose = st.sampled_from((Raw("[1,]"), Raw('{"a": [2] , }'), Raw("[NaN , ]")))
    wrong = {"reward": nonfinite, "accuracy": nonfinite, "label": st.lists(nonfinite, max_size=2), "seed": loose, "metadata": st.fixed_dictionaries({"reward": nonfinite})}
    row = {**draw(rollouts), "note": draw(texts), **draw(st.fixed_dictionaries({}, optional=wrong))}
    line = line_of(row, ascii_only=draw(st.booleans()))
    if draw(st.booleans()):
        line = line.replace(b'"note": "', b'"note": "' + draw(st.sampled_from((b"\\ud83d", b"\\ude00x", b"\\ud83d\\ud83d\\ude00", b"\\\\ud83d"))))
    if draw(st.booleans()):
        line = line[:-1] + draw(st.sampled_from((b",}", b" , }")))
    return b"\xef\xbb\xbf" + line if draw(st.booleans()) else line


bad_lines: Strategy = st.sampled_from(
    (
        b"<PLACEHOLDER ROW>",
        b'"ClientResponseError(...)"',
        b"[]",
        b"[1, {}]",
        b"null",
        b"5",
        b"{}",
        b'{"a": 1}',
        b'{"reward": null}',
        b'{"reward": 1.0',
        b'{"reward": "\xff"}',
        b"{'reward': 1}",
    )
)
"""Lines that belong in the quarantine."""


@st.composite
def rollout_groups(draw: st.DrawFn, max_size: int = 6) -> list[bytes]:
    """Attempts at one task: the same prompt and index, few different rewards and completions, so that they often tie."""
    start = draw(plain_inputs)
    index = draw(st.none() | st.integers(0, 2))
    answers = draw(st.lists(plain_outputs, min_size=1, max_size=3))
    lines = []
    for attempt in range(draw(st.integers(1, max_size))):
        row: dict[str, Any] = {"responses_create_params": {"input": start}, "response": {"output": draw(st.sampled_from(answers))}}
        row["reward"] = draw(st.sampled_from((0.0, 0.5, 1.0, 1.0, 0.9999999999999998, -1, True, None)))
        if index is not None:
            row |= {"_ng_task_index": index, "_ng_rollout_index": attempt}
        lines.append(line_of(row))
    return lines
