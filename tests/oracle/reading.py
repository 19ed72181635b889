"""One line of a rollout file as one row of the canonical table, step by step as docs/reading.md tells it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from math import isfinite
from typing import Any

from rollout_etl.read.canonical import Lookup, Style
from rollout_etl.read.repair import look_again
from rollout_etl.read.structure import GROUND_TRUTH_FIELDS, ID_FIELDS, STATIC_FIELDS

from .fields import count_of, extra_of, gym_row_of, is_true, metadata_of, metrics_of, number_of, tools_of
from .flags import is_failure, is_truncated
from .folding import fold
from .jsontext import Number, Object, dumps, get, parse_damaged
from .units import Unit, as_text, is_blank, is_empty, items_of, kinds, said, styled, units_of

_ROLLOUT_KEYS = ("responses_create_params", "response", "output", "messages", "reward", "_ng_rollout_index", "_ng_failure_class")


def canonical(
    line: bytes, *, source: str, line_number: int, namespace: str, style: Style | None = None, lookup: Lookup | None = None
) -> dict[str, Any] | None:
    """Every column but `row`; None where the line is quarantined."""
    style, lookup = style or Style(), lookup or Lookup()
    text, x = parsed(line)
    if x is None:
        return None
    found = recorded(x)
    prompt = fold(styled(found.prompt, "keep"), "prompt_call_")
    completion = fold(styled(found.completion, "keep"), "call_")
    shown = fold(styled(found.completion, style.think), "call_")
    tools = tools_of(first_filled(x, "responses_create_params.tools", "response.tools", "tools"))
    metadata = metadata_of(get(x, "responses_create_params", "metadata"))
    origin = ground_truth_origin(x, lookup)
    ground_truth = None if origin is None else get(x, *origin.split("."))
    prompt_key = md5(said(found.prompt), tools, metadata).hex()
    reward = number_of(get(x, "reward"))
    return {
        "source": source,
        "line": line_number,
        "shape": shape(x, found),
        "task_name": as_text(get(x, "task_name")),
        "agent_name": as_text(get(x, "agent_ref", "name")),
        "task_index": printed(get(x, "_ng_task_index")),
        "attempt": count_of(get(x, "_ng_rollout_index")),
        "task_key": task_key(x, text, namespace, lookup, found, metadata, prompt_key, ground_truth),
        "prompt_key": prompt_key,
        "messages_key": md5(said(found.prompt)).hex(),
        "completion_key": lower_half(md5(said(found.completion), as_text(get(x, "response", "id")))),
        "prompt": prompt.messages(style),
        "completion": shown.messages(style),
        "tools": tools,
        "prompt_text": prompt.question(),
        "response_text": shown.answer(),
        "ground_truth": printed(ground_truth),
        "ground_truth_text": as_text(ground_truth),
        "ground_truth_origin": origin,
        "reward": reward if reward is not None and isfinite(reward) else None,
        "is_nonfinite": reward is not None and not isfinite(reward),
        "is_masked": is_true(get(x, "mask_sample")) or is_true(get(x, "instance_config", "mask_sample")),
        "is_failure": is_failure(x, found.completion),
        "is_unverified": is_true(get(x, "verification_skipped")),
        "is_truncated": is_truncated(x, found.completion),
        "says_error": kinds(found.completion).endswith("A") and says_error(found.completion[-1].value),
        "has_media": has_media(x, found),
        "is_prompt_empty": not any(is_question(unit) for unit in found.prompt),
        "prompt_kinds": kinds(found.prompt),
        "completion_kinds": kinds(found.completion),
        "has_inexact_number": any(unit.kind == "C" and holds_inexact(unit.value) for unit in found.prompt + found.completion),
        "has_earlier_reasoning": thinks_before_a_question([*styled(found.prompt, "keep"), *styled(found.completion, style.think)]),
        "num_messages": len(prompt.entries),
        "prompt_chars": chars(found.prompt),
        "completion_chars": chars([unit for unit in found.completion if unit.kind in "AERCc"]),
        "response_key": lower_half(md5(said(found.completion))),
        "tool_names": tool_names(found.completion),
        "num_turns": len(completion.turns),
        "num_tool_calls": len(completion.calls),
        "num_unanswered": prompt.count_unanswered(found.prompt) + completion.count_unanswered(found.completion),
        "num_orphans": prompt.count_orphans() + completion.count_orphans(),
        "num_encrypted": kinds(found.completion).count("r"),
        "num_empty": kinds(found.completion).count("E"),
        "num_unknown": kinds(found.prompt + found.completion).count("X"),
        "token_calls": token_calls(x),
        "prompt_tokens": tokens(x, "input_tokens", "prompt_tokens"),
        "completion_tokens": tokens(x, "output_tokens", "completion_tokens"),
        "statics": statics(x),
        "metrics": metrics_of(x),
        "extra": extra_of(x),
        "gym_row": gym_row_of(x),
    }


def parsed(line: bytes) -> tuple[str, Object | None]:
    """The line as text and as a JSON object with its damage repaired; None where it is no rollout."""
    try:
        text = line.decode("utf-8").removeprefix("\ufeff")
        x = parse_damaged(text)
    except (ValueError, RecursionError):
        return "", None
    if not isinstance(x, Object) or all(x.get(key) is None for key in _ROLLOUT_KEYS):
        return text, None
    return look_again(line).text or text, x


@dataclass(frozen=True)
class Recorded:
    """What was said, as recorded, and where it was found."""

    prompt: list[Unit]
    completion: list[Unit]
    input: Any
    output: Any
    output_place: str | None


def recorded(x: Object) -> Recorded:
    """Prompt and completion of a row. Empty places are passed over."""
    given = first_filled(x, "responses_create_params.input", "messages")
    place, output = output_of(x)
    asked, answered = units_of(items_of(given), "user"), units_of(items_of(output), "assistant")
    problem = get(x, "responses_create_params", "metadata", "problem_statement")
    if not asked:
        opening = 0
        while opening < len(answered) and is_opening(answered[opening]):
            opening += 1
        asked, answered = answered[:opening], answered[opening:]
    if not asked and isinstance(problem, str) and not is_blank(problem):
        asked = [Unit("U", problem)]
    instructions = get(x, "responses_create_params", "instructions")
    if isinstance(instructions, str) and not is_blank(instructions):
        asked = [Unit("S", instructions), *asked]
    return Recorded(asked, answered, given, output, place)


def is_opening(unit: Unit) -> bool:
    return unit.kind in ("U", "S", "D") or (unit.kind == "M" and unit.name != "assistant")


def output_of(x: Object) -> tuple[str | None, Any]:
    """What the model gave back, and the place where it was found."""
    response = x.get("response")
    choices = get(response, "choices")
    places = {
        "response.output": get(response, "output"),
        "output": x.get("output"),
        "response.choices": get(choices[0], "message") if isinstance(choices, list) and choices else None,
        "response.output_text": get(response, "output_text"),
        "response.message": get(response, "message"),
    }
    if isinstance(response, (str, list)) or get(response, "role") is not None or get(response, "content") is not None:
        places["response"] = response
    for place, value in places.items():
        if not is_empty(value):
            return place, value
    return None, None


def shape(x: Object, found: Recorded) -> str:
    """Where the row keeps what was said."""
    has_params, has_messages = get(x, "responses_create_params") is not None, get(x, "messages") is not None
    if isinstance(get(x, "response", "output"), list):
        name = "response" if has_params else "messages" if has_messages else "response_only"
    elif get(x, "output") is not None:
        name = "output"
    elif units_of(items_of(found.output), "assistant"):
        name = "messages" if has_messages and not has_params else "response_text"
    else:
        name = "no_response" if has_params or has_messages else "no_prompt"
    items = found.output if found.output_place == "output" and isinstance(found.output, list) else []
    if any(has_key(item, "role") for item in items) and not any(has_key(item, "type") for item in items):
        name += "+chat"
    if isinstance(found.input, str):
        name += "+string_input"
    if has_params and found.input is None:
        name += "+empty_input"
    if isinstance(found.output, list) and isinstance(found.output[0], list):
        name += "+transitions"
    instructions = get(x, "responses_create_params", "instructions")
    if isinstance(instructions, str) and not is_blank(instructions):
        name += "+instructions"
    return name


def has_key(item: Any, key: str) -> bool:
    return isinstance(item, Object) and any(name == key for name, _ in item.pairs)


def task_key(x: Object, text: str, namespace: str, lookup: Lookup, found: Recorded, metadata: str | None, prompt_key: str, ground_truth: Any) -> str:
    """The key that the attempts at one task share: the first of five that is there."""
    agent = as_text(get(x, "agent_ref", "name")) or ""
    fields = [get(x, *path.split(".")) for path in lookup.group_by]
    if any(value is not None for value in fields):
        return md5("fields", *(dumps(value) for value in fields)).hex()
    if get(x, "_ng_task_index") is not None:
        return md5("index", namespace, agent, dumps(get(x, "_ng_task_index"))).hex()
    for name in ID_FIELDS:
        if not is_empty(get(x, name)):
            return md5("id", namespace, agent, f"{name}:{dumps(get(x, name))}", prompt_key).hex()
    if not found.prompt and metadata is None:
        return md5("line", text.strip(" \t\r\n")).hex()
    return md5("prompt", prompt_key, printed(ground_truth), statics(x)).hex()


def md5(*parts: str | None) -> bytes:
    """The md5 of the parts that are there."""
    return hashlib.md5("\x1e".join(part for part in parts if part is not None).encode()).digest()


def lower_half(digest: bytes) -> int:
    """The last eight bytes as a number, the least byte first."""
    return int.from_bytes(digest[8:], "little")


def ground_truth_origin(x: Object, lookup: Lookup) -> str | None:
    """The first field that holds a ground truth; 0 and false are one."""
    paths = GROUND_TRUTH_FIELDS if lookup.ground_truth_field is None else (lookup.ground_truth_field,)
    for path in paths:
        if not is_empty(get(x, *path.split("."))):
            return path
    return None


def has_media(x: Object, found: Recorded) -> bool:
    return "M" in kinds(found.prompt + found.completion) or get(x, "responses_create_params", "metadata", "audio_url") is not None


def is_question(unit: Unit) -> bool:
    return unit.kind == "M" or (unit.kind == "U" and not is_blank(unit.value))


def thinks_before_a_question(units: list[Unit]) -> bool:
    questions = [number for number, unit in enumerate(units) if unit.kind == "U" or (unit.kind == "M" and unit.name == "user")]
    thoughts = [number for number, unit in enumerate(units) if unit.kind == "R" or (unit.kind == "A" and "</think>" in unit.value)]
    return bool(questions and thoughts) and thoughts[0] < questions[-1]


def says_error(text: str) -> bool:
    """Whether a text begins as an error message does."""
    return re.match(r"[\n\r\t \[*#<]*(ERROR|FAILED|Error:|Failed:|Traceback \()", text) is not None


def chars(units: list[Unit]) -> int:
    """Characters of texts, and of arguments as they are written out."""
    return sum(len(dumps(unit.value) if unit.kind == "C" else unit.value or "") for unit in units if unit.kind not in "MX")


def tool_names(units: list[Unit]) -> str | None:
    names = [unit.name if isinstance(unit.name, str) else "" for unit in units if unit.kind in "Cc"]
    return dumps(names) if names else None


def tokens(x: Object, *names: str) -> int | None:
    """The first token count that is there."""
    for name in names:
        count = count_of(get(x, "response", "usage", name))
        if count is not None:
            return count
    return None


def statics(x: Object) -> str | None:
    """The fields that belong to the task, null where one is missing."""
    if all(x.get(name) is None for name in STATIC_FIELDS):
        return None
    return dumps(Object([(name, x.get(name)) for name in STATIC_FIELDS]))


def holds_inexact(value: Any) -> bool:
    """A fraction, or an integer of 16 digits or more, anywhere in a JSON value."""
    if isinstance(value, Object):
        return any(holds_inexact(member) for _, member in value.pairs)
    if isinstance(value, list):
        return any(holds_inexact(member) for member in value)
    return isinstance(value, Number) and re.search(r"\d[.eE]|\d{16}", dumps(value)) is not None


def printed(value: Any) -> str | None:
    return None if value is None else dumps(value)


def first_filled(x: Object, *paths: str) -> Any:
    """The first value that holds something."""
    for path in paths:
        value = get(x, *path.split("."))
        if not is_empty(value):
            return value
    return None


def token_calls(x: Object) -> str | None:
    """The assistant's items with the ids of their tokens."""
    output = first_filled(x, "response.output", "output")
    calls = []
    for item in output if isinstance(output, list) else []:
        if isinstance(item, Object) and item.get("type") in ("message", "function_call") and item.get("role") in (None, "assistant"):
            ids = [(name, item.get(name)) for name in ("prompt_token_ids", "generation_token_ids")]
            calls.append(Object([("type", item.get("type")), ("role", item.get("role")), *ids]))
    return dumps(calls) if calls else None
