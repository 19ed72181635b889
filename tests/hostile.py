"""Rollout lines with something wrong with them, the same ones every time."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]
DEMO = Path(__file__).parent.parent / "demo" / "rollouts.jsonl"
REAL = Path(__file__).parents[2] / "shared" / "rollouts"
_PLACE = "@@PLACE@@"


def rollout(number: int) -> Row:
    """A plain rollout; four share a prompt, and their rewards differ."""
    task, attempt = divmod(number, 4)
    asked = {"role": "user", "content": f"What is {task} + 1?"}
    answer = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": f"It is {task + attempt}.", "annotations": []}]}
    row: Row = {
        "responses_create_params": {"input": [asked], "temperature": 0.7},
        "response": {"id": f"resp_{number}", "output": [answer], "usage": {"input_tokens": 9, "output_tokens": 5}},
        "reward": [1.0, 0.75, 0.25, 0.0][attempt],
        "expected_answer": str(task + 1),
        "agent_ref": {"name": "adder"},
    }
    if task % 2:
        schema = {"type": "object", "properties": {"a": {"type": "number", "minimum": 0}}}
        row["responses_create_params"]["tools"] = [{"type": "function", "name": "add", "description": "adds", "parameters": schema}]
        row["response"]["output"] = [
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "add them"}]},
            {"type": "function_call", "name": "add", "arguments": json.dumps({"a": task, "b": [1]}), "call_id": "call_9"},
            {"type": "function_call_output", "call_id": "call_9", "output": str(task + 1)},
            answer,
        ]
    return row


def base_lines() -> list[bytes]:
    """Sound lines: generated ones, those of the demo, and short ones of real rollouts where they are at hand."""
    lines = [json.dumps(rollout(number)).encode() for number in range(40)]
    lines += DEMO.read_bytes().split(b"\n")
    for path in sorted(REAL.rglob("*.jsonl"))[:40]:
        lines += [line for line in path.read_bytes().split(b"\n")[:2] if len(line) < 8_000]
    return [line for line in lines if _is_object(line)]


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


Mutation = Callable[[random.Random, bytes], bytes]
# Places that reach an output: as JSON, as text, or not at all.
_PATHS = (
    "note",
    "responses_create_params.metadata.k",
    "responses_create_params.top_p",
    "responses_create_params.tools.0.parameters",
    "responses_create_params.tools.0.strict",
    "responses_create_params.input.0.content",
    "responses_create_params.instructions",
    "response.output.0.arguments",
    "response.output.0.content",
    "response.output.0.content.0.text",
    "response.output.0.output",
    "expected_answer",
    "metadata.reward",
    "reward",
)


def _put(node: Any, path: str, value: Any) -> Any:
    """`node` with the value at a path; what is in the way is replaced."""
    name, _, deeper = path.partition(".")
    if name.isdigit():
        items = node if isinstance(node, list) and node else [None]
        return [_put(items[0], deeper, value) if deeper else value, *items[1:]]
    node = node if isinstance(node, dict) else {}
    return {**node, name: _put(node.get(name), deeper, value) if deeper else value}


def spelt(literal: str) -> Mutation:
    """Text that stands as a value of the line, somewhere."""

    def mutate(rng: random.Random, line: bytes) -> bytes:
        path = rng.choice(_PATHS)
        row = _put(json.loads(line), path, rng.choice([_PLACE, {"deeper": [1, _PLACE]}]))
        if path.endswith("arguments"):
            row["response"]["output"][0] |= {"type": "function_call", "name": "add", "call_id": "call_9"}
        return json.dumps(row).replace(f'"{_PLACE}"', literal).encode()

    return mutate


def at(path: str, *values: Any) -> Mutation:
    """A value of the wrong kind at a path."""

    def mutate(rng: random.Random, line: bytes) -> bytes:
        return json.dumps(_put(json.loads(line), path, rng.choice(values))).encode()

    return mutate


def arguments(*texts: str) -> Mutation:
    """A tool call whose arguments are this text."""

    def mutate(rng: random.Random, line: bytes) -> bytes:
        call = {"type": "function_call", "name": "add", "arguments": rng.choice(texts), "call_id": "call_9"}
        said = [call, {"type": "function_call_output", "call_id": "call_9", "output": "3"}, {"role": "assistant", "content": "3"}]
        return json.dumps(_put(json.loads(line), "response.output", said)).encode()

    return mutate


def line_of(*lines: bytes) -> Mutation:
    """One of these lines, whatever it was before."""
    return lambda rng, line: rng.choice(lines)


def inside(piece: bytes) -> Mutation:
    """Bytes put in anywhere."""

    def mutate(rng: random.Random, line: bytes) -> bytes:
        place = rng.randrange(len(line) + 1)
        return line[:place] + piece + line[place:]

    return mutate


def _cut(rng: random.Random, line: bytes) -> bytes:
    return line[: rng.randrange(1, len(line))]


def _repeated_key(rng: random.Random, line: bytes) -> bytes:
    key = rng.choice(["reward", "response", "note", "expected_answer"])
    return line[:-1] + f', "{key}": 0.5, "{key}": NaN, "note": {{"a": 1, "a": 2}}}}'.encode()


def _nested(depth: int) -> Mutation:
    return lambda rng, line: spelt(rng.choice(["[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth]))(rng, line)


_WRONG = ("text", 5, True, None, [], {}, [[]], [None], [5, "text", {}], {"a": {"b": None}}, [[{"role": "user"}], 5])
_BROKEN_ARGUMENTS = ("{", "not json", "[1]", "null", '"text"', "{'a': 1}", '{"a": 1,}', '{"a": [1,]}', '{"a": NaN}', '{"a": nan}', '{"a": -inf}', '{"a": 1e400}', '{"a": ' + "9" * 400 + "}", '{"a": "\ud83d"}', '{"a": "\\ud83d"}', '{"a": "\x01"}', '{"a": 1} // sum', "\x00", "\ufeff{}", '{"a":' * 2_000 + "1" + "}" * 2_000)

MUTATIONS: dict[str, Mutation] = {
    "cut": _cut,
    "doubled": lambda rng, line: line + line,
    "half of another": lambda rng, line: line[rng.randrange(1, len(line)) :],
    "not UTF-8": inside(b"\xff"),
    "cut character": inside(b"\xe2\x82"),
    "surrogate bytes": inside(b"\xed\xa0\x80"),
    "NUL": inside(b"\x00"),
    "control character": inside(b"\x01"),
    "quote": inside(b'"'),
    "backslash": inside(b"\\"),
    "carriage return": inside(b"\r"),
    "byte order mark": lambda rng, line: b"\xef\xbb\xbf" + line,
    "byte order mark inside": inside(b"\xef\xbb\xbf"),
    "CRLF": lambda rng, line: line + b"\r",
    "NaN": spelt("NaN"),
    "nan": spelt("nan"),
    "Infinity": spelt("-Infinity"),
    "inf": spelt("inf"),
    "1e400": spelt("1e400"),
    "-1e400": spelt("-1E+400"),
    "30 digits": spelt("9" * 30),
    "400 digits": spelt("-" + "9" * 400),
    "5000 digits": spelt("9" * 5_000),
    "1e-400": spelt("1e-400"),
    "lone surrogate": spelt('"\\ud83d"'),
    "lone surrogates": spelt('"\\ude00\\ud83d \\\\ud83d"'),
    "\\u0000": spelt('"\\u0000"'),
    "comment": spelt("1 /* one */"),
    "comment at the end": lambda rng, line: line + b" // the end",
    "single quotes": lambda rng, line: line.replace(b'"', b"'"),
    "hexadecimal": spelt("0x10"),
    "plus sign": spelt("+1"),
    "capital literal": spelt("True"),
    "trailing comma": lambda rng, line: line[:-1] + rng.choice([b",}", b", }", b',"note":[1,]}']),
    "trailing comma inside": spelt("[1, ]"),
    "doubled comma": spelt("[1,,2]"),
    "repeated key": _repeated_key,
    "17 levels": _nested(17),
    "2000 levels": _nested(2_000),
    "long text": spelt('"' + "long " * 60_000 + '"'),
    "long key": spelt('{"' + "k" * 1_000_000 + '": 1}'),
    "UTF-16": lambda rng, line: line.decode().encode("utf-16")[: len(line)],
    "JSON string": lambda rng, line: json.dumps(line.decode()).encode(),
    "array": line_of(b"[]", b'[{"reward": 1.0}]', b"[1, 2]"),
    "scalar": line_of(b"null", b"5", b"true", b"NaN", b'"text"', b"1e400"),
    "empty object": line_of(b"{}", b'{"": ""}', b'{"reward": null}', b'{"a": {}}'),
    "blank": line_of(b"", b" ", b"\t \r", b"\r"),
    "only NUL": line_of(b"\x00", b"\x00" * 100),
    "only a byte order mark": line_of(b"\xef\xbb\xbf", b"\xef\xbb\xbf\r", b"\xef\xbb\xbf \xef\xbb\xbf"),
    "odd white space": line_of(b"\x0b", b"\x0c", b"\xc2\xa0", b"\xe2\x80\xa8", b"\x85"),
    "markup": line_of(b"<PLACEHOLDER ROW>", b"<html>", b"reward: 1.0", b"a,b,c"),
    "reward": at("reward", "1.0", "", "NaN", [1.0], {"a": 1}, True, False, float("nan"), float("inf"), -0.0, 1e308),
    "response": at("response", *_WRONG),
    "output": at("response.output", *_WRONG),
    "output at the top": at("output", *_WRONG),
    "content": at("response.output.0.content", *_WRONG),
    "input": at("responses_create_params.input", *_WRONG),
    "params": at("responses_create_params", *_WRONG),
    "messages": at("messages", *_WRONG),
    "tools": at("responses_create_params.tools", *_WRONG),
    "metadata": at("responses_create_params.metadata", *_WRONG),
    "agent": at("agent_ref", *_WRONG),
    "indices": at("_ng_rollout_index", *_WRONG, -1, 1e300, 10**30),
    "usage": at("response.usage", *_WRONG),
    "error": at("error", *_WRONG, False, ""),
    "arguments": arguments(*_BROKEN_ARGUMENTS),
    "blank names": at("response.output", [{"type": "function_call", "name": "", "call_id": "", "arguments": "{}"}]),
}


_HUGE = {"long text", "long key"}


def mutated_lines(count: int, seed: int = 0) -> Iterator[bytes]:
    """`count` lines of each kind of damage, a few of the huge ones, mixed with sound lines."""
    rng = random.Random(seed)
    sound = base_lines()
    lines = [mutate(rng, rng.choice(sound)) for kind, mutate in MUTATIONS.items() for _ in range(3 if kind in _HUGE else count)]
    rng.shuffle(lines)
    for line in lines:
        yield line
        if rng.random() < 0.2:
            yield rng.choice(sound)
