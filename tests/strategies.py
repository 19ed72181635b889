"""Hypothesis strategies for lines of rollout files: every shape of rollout that NeMo Gym is known to write, and odd ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

Strategy = st.SearchStrategy[Any]


class Raw(str):
    """Text that stands in the line as it is: numbers and literals that Python would spell otherwise."""

    __slots__ = ()


class Pairs(list[tuple[str, Any]]):
    """An object whose keys may stand twice."""


_PIECES = (
    "a",
    "Blue.",
    "42",
    " ",
    "\n",
    "\t",
    "\r",
    "\\n",
    "\\",
    '"',
    "'",
    "/",
    "\x00",
    "\x1f",
    "\x7f",
    "\u0085",
    "\u2028",
    "é",
    "e\u0301",
    "😀",
    "\ufffd",
    "},{",
    '"text":',
    "<think>",
    "</think>",
    "NaN",
    "inf",
    "null",
    "$1",
    "\\1",
    "|",
    ",",
    "[",
    "{}",
)
texts: Strategy = st.lists(st.sampled_from(_PIECES), max_size=4).map("".join) | st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
names: Strategy = st.sampled_from(("get_weather", "f", "", 'odd "name"'))
numbers: Strategy = (
    st.sampled_from([Raw(text) for text in ("0", "-0", "-0.0", "1.10", "1E5", "1e16", "1e22", "1e-7", "9" * 30, "2.50e0", "9e307")])
    | st.integers(-3, 100)
    | st.floats(allow_nan=False, allow_infinity=False)
)
values: Strategy = st.recursive(
    st.none() | st.booleans() | numbers | texts | st.sampled_from(("", [], {})),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)


def some(optional: Mapping[str, Strategy], **required: Strategy) -> Strategy:
    """Objects with the required fields and any of the optional ones."""
    return st.fixed_dictionaries(required, optional=dict(optional))


ids: Strategy = st.sampled_from(("c1", "c2", "c3", 'c"4'))
maybe_ids: Strategy = st.none() | ids | st.just(7) | st.just("")
arguments: Strategy = (
    st.dictionaries(texts, values, max_size=2).map(lambda value: to_json(value, space=True))
    | st.sampled_from(
        (
            "", " \n", "not json", "[1]", '"text"', '{"a": NaN}', '{"a": "NaN", "b": 1.10}', '{"a":1', '{"a":1} x', '{"a":"\\ud83d"}', "null", "{}",
            '{"a": nan}', '{"a": 1e400}', '{"a": [-1E+999]}', '{"a": "1e400 ,]", "b": 1e300}', '{"a": 1,}', '{"a": [1, ]}', '{"a":' * 99 + "1" + "}" * 99, '{"a":' * 100 + "1" + "}" * 100,
        )
    )
    | st.dictionaries(texts, values, max_size=2)
    | st.none()
)

# Responses API items
_text_kinds = ("text", "input_text", "output_text", "refusal", "summary_text")
text_parts: Strategy = some({"annotations": st.just([]), "logprobs": st.none()}, type=st.sampled_from(_text_kinds), text=texts) | st.one_of(
    st.fixed_dictionaries({"text": texts}),
    st.fixed_dictionaries({"type": st.just("refusal"), "refusal": texts}),
    st.just({"type": "output_text", "text": None}),
    st.none(),
)
media_parts: Strategy = st.sampled_from(
    (
        {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "auto"},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
        {"type": "input_file", "file_id": "file-1"},
    )
)
part_lists: Strategy = st.lists(text_parts, max_size=3)
media_lists: Strategy = st.lists(text_parts | media_parts, min_size=1, max_size=3)
contents: Strategy = texts | texts | part_lists | media_lists | st.none()
plain_messages: Strategy = texts.map(
    lambda text: {
        "type": "message",
        "role": "assistant",
        "id": "msg_1",
        "status": "completed",
        "content": [{"type": "output_text", "text": text, "annotations": []}],
    }
)
assistant_messages: Strategy = some(
    {
        "type": st.just("message"),
        "role": st.just("assistant"),
        "name": st.just("model"),
        "reasoning_content": texts,
        "prompt_token_ids": st.sampled_from(([], [0])),
    },
    content=texts | part_lists | media_lists,
)
other_messages: Strategy = some(
    {"type": st.just("message"), "name": st.just("ann")}, role=st.sampled_from(("user", "user", "system", "developer", "critic")), content=contents
)
calls: Strategy = some(
    {"id": st.just("fc_1"), "name": names | st.none() | st.just(3), "arguments": arguments, "call_id": maybe_ids}, type=st.just("function_call")
)
plain_calls: Strategy = some({}, type=st.just("function_call"), name=names, arguments=arguments, call_id=ids)
results: Strategy = some(
    {"call_id": maybe_ids, "name": names}, type=st.just("function_call_output"), output=texts | part_lists | media_lists | values
)
plain_results: Strategy = some({}, type=st.just("function_call_output"), output=texts, call_id=ids)
reasonings: Strategy = some(
    {"summary": part_lists | st.none(), "content": part_lists | texts | st.none(), "encrypted_content": texts, "id": st.just("rs_1")},
    type=st.just("reasoning"),
)
plain_reasonings: Strategy = texts.map(lambda text: {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": text}]})
unknown_items: Strategy = st.sampled_from(
    (None, {}, {"type": "web_search_call", "id": "ws_1", "status": "completed"}, {"type": "mcp_call", "name": "f", "arguments": "{}"}, 5, "text")
)
plain_items: Strategy = plain_messages | plain_messages | plain_calls | plain_results | plain_reasonings
items: Strategy = plain_items | assistant_messages | other_messages | calls | results | reasonings | unknown_items

# Chat messages
chat_calls: Strategy = some({"id": maybe_ids, "type": st.just("function")}, function=some({"name": names, "arguments": arguments})) | some(
    {"id": maybe_ids}, name=names, arguments=arguments
)
chat_assistant: Strategy = some(
    {"content": contents, "reasoning_content": texts | st.none(), "tool_calls": st.lists(chat_calls, max_size=3) | st.none()},
    role=st.just("assistant"),
)
chat_results: Strategy = some({"tool_call_id": maybe_ids, "name": names}, role=st.just("tool"), content=contents)
chat_messages: Strategy = chat_assistant | chat_assistant | chat_results | other_messages

# Where the prompt and the completion stand
plain_inputs: Strategy = st.lists(
    some({"type": st.just("message")}, role=st.sampled_from(("user", "system", "developer", "assistant")), content=texts), min_size=1, max_size=3
)
inputs: Strategy = (
    plain_inputs | plain_inputs | st.one_of(texts, st.just([]), st.none(), st.lists(items, max_size=3), st.lists(chat_messages, max_size=3))
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
        "a b": values,
    }
)
params: Strategy = some(
    {"instructions": texts | st.none(), "tools": tools, "metadata": metadata, "ground_truth": values, "temperature": st.just(0.7)}, input=inputs
)
usage: Strategy = st.none() | some(
    {name: st.integers(0, 9) | st.none() for name in ("input_tokens", "output_tokens", "prompt_tokens", "completion_tokens")}
)
response_fields: dict[str, Strategy] = {
    "id": st.sampled_from(("resp_1", "resp_2-failed", "x-timeout", None)),
    "status": st.sampled_from((None, "completed", "incomplete")),
    "incomplete_details": st.none() | st.just({"reason": "max_output_tokens"}),
    "tools": tools,
    "usage": usage,
    "expected_answer": values,
    "output_text": texts,
    "error": st.none() | texts,
}
placeholders: Strategy = st.sampled_from(("Failed: no sandbox", "Timed out", "Failedly", "Skipped"))
placeholder_outputs: Strategy = placeholders.map(
    lambda text: [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}]
)
responses: Strategy = some(response_fields, output=outputs | placeholder_outputs)
other_responses: Strategy = st.one_of(
    texts,
    st.lists(items, max_size=2),
    chat_assistant,
    st.none(),
    st.fixed_dictionaries({"choices": st.lists(st.fixed_dictionaries({"message": chat_assistant}), max_size=2)}),
    st.fixed_dictionaries({"message": chat_assistant | texts}),
    some(response_fields),
)
bodies: Strategy = st.one_of(
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
    **dict.fromkeys(("mask_sample", "verification_skipped", "context_length_exceeded_error"), flags),
    "verifier_metadata": st.none() | some(dict.fromkeys(("ground_truth", "ideal", "target"), values)),
    "metadata": values | some(dict.fromkeys(("ground_truth", "answer", "expected", "level"), values)),
    "agent_ref": st.none() | some({"name": names | st.none()}),
    "instance_config": st.none() | some({"mask_sample": flags}),
    "error": values | st.sampled_from((False, "", 0)),
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


def to_json(value: Any, *, ascii_only: bool = False, space: bool = False) -> str:
    """JSON as Python writes it, with `Raw` and `Pairs` put in."""
    colon, comma = (": ", ", ") if space else (":", ",")
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, (dict, Pairs)):
        pairs = value.items() if isinstance(value, dict) else value
        return "{" + comma.join(to_json(k, ascii_only=ascii_only) + colon + to_json(v, ascii_only=ascii_only, space=space) for k, v in pairs) + "}"
    if isinstance(value, list):
        return "[" + comma.join(to_json(v, ascii_only=ascii_only, space=space) for v in value) + "]"
    return json.dumps(value, ensure_ascii=ascii_only)


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
