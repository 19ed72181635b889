"""Hypothesis strategies for what rollouts are made of: texts, parts, messages, calls, results, items, chat messages."""

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
    texts,
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
contents: Strategy = texts | texts | part_lists | media_lists | text_parts | media_parts | st.none()
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
    content=contents,
)
other_messages: Strategy = some(
    {"type": st.just("message"), "name": st.just("ann")}, role=st.sampled_from(("user", "user", "system", "developer", "critic")), content=contents
)
calls: Strategy = some(
    {"id": st.just("fc_1"), "name": names | st.none() | st.just(3), "arguments": arguments, "call_id": maybe_ids}, type=st.just("function_call")
)
plain_calls: Strategy = some({}, type=st.just("function_call"), name=names, arguments=arguments, call_id=ids)
results: Strategy = some(
    {"call_id": maybe_ids, "name": names}, type=st.just("function_call_output"), output=texts | part_lists | media_lists | media_parts | values
)
plain_results: Strategy = some({}, type=st.just("function_call_output"), output=texts, call_id=ids)
reasonings: Strategy = some(
    {"summary": part_lists | text_parts | st.none(), "content": part_lists | texts | st.none(), "encrypted_content": texts, "id": st.just("rs_1")},
    type=st.just("reasoning"),
)
plain_reasonings: Strategy = texts.map(lambda text: {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": text}]})
unknown_items: Strategy = st.sampled_from(
    (
        None, {}, {"type": "web_search_call", "id": "ws_1", "status": "completed"}, {"type": "web_search_call", "status": None, "id": "ws_2"},
        {"type": "mcp_call", "name": "f", "arguments": "{}"}, {"type": "custom_tool_call_output", "output": ["text"]}, 5, "text", "other",
        {"type": "computer_call_output", "call_id": "c1", "output": {"type": "computer_screenshot", "image_url": "data:image/png;base64,AA=="}},
    )
)
plain_items: Strategy = plain_messages | plain_messages | plain_calls | plain_results | plain_reasonings
items: Strategy = plain_items | assistant_messages | other_messages | calls | results | reasonings | unknown_items

# Chat messages
chat_calls: Strategy = some({"id": maybe_ids, "type": st.just("function")}, function=some({"name": names, "arguments": arguments})) | some(
    {"id": maybe_ids}, name=names, arguments=arguments
)
old_calls: Strategy = some({"arguments": arguments}, name=names) | st.just({})
chat_assistant: Strategy = some(
    {
        "content": contents,
        "reasoning_content": texts | st.none(),
        "reasoning": texts | part_lists | st.none(),
        "tool_calls": st.lists(chat_calls, max_size=3) | st.none(),
        "function_call": old_calls | st.none(),
        "refusal": texts | st.none(),
    },
    role=st.just("assistant"),
)
chat_results: Strategy = some({"tool_call_id": maybe_ids, "name": names}, role=st.sampled_from(("tool", "tool", "function")), content=contents | values)
chat_messages: Strategy = chat_assistant | chat_assistant | chat_results | other_messages


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
