"""One line of a rollout file as one row of the canonical table, step by step as docs/reading.md tells it."""

from __future__ import annotations

import re
from math import isfinite
from typing import Any

from rollout_etl.read.canonical import Lookup, Style
from rollout_etl.read.repair import look_again
from rollout_etl.read.structure import GROUND_TRUTH_FIELDS

from .fields import count_of, extra_of, gym_row_of, is_true, metadata_of, metrics_of, number_of, tools_of
from .flags import is_failure, is_truncated
from .folding import fold
from .jsontext import Number, Object, dumps, get, parse_damaged
from .keys import lower_half, md5, printed, statics, task_key
from .recorded import Recorded, first_filled, recorded, shape
from .units import Unit, as_text, is_blank, is_empty, items_of, kinds, said_in_completion, said_prompt, styled, thought_apart

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
    asked = said_prompt(found.prompt, items_of(found.input))
    prompt_key = md5(asked, tools, metadata).hex()
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
        "messages_key": md5(asked).hex(),
        "completion_key": lower_half(md5(said_in_completion(found.completion), as_text(get(x, "response", "id")))),
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
        "completion_kinds": kinds(thought_apart(found.completion, style.think)),
        "has_inexact_number": any(unit.kind == "C" and holds_inexact(unit.value) for unit in found.prompt + found.completion),
        "has_earlier_reasoning": thinks_before_a_question([*styled(found.prompt, "keep"), *styled(found.completion, style.think)]),
        "num_messages": len(prompt.entries),
        "prompt_chars": chars(found.prompt),
        "completion_chars": chars([unit for unit in found.completion if unit.kind in "AERCc"]),
        "response_key": lower_half(md5(said_in_completion(found.completion))),
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


def ground_truth_origin(x: Object, lookup: Lookup) -> str | None:
    """The first field that holds a ground truth; 0 and false are one."""
    paths = GROUND_TRUTH_FIELDS if lookup.ground_truth_field is None else (lookup.ground_truth_field,)
    for path in paths:
        if not is_empty(get(x, *path.split("."))):
            return path
    return None


def has_media(x: Object, found: Recorded) -> bool:
    units = found.prompt + found.completion
    given = any(unit.kind in "OX" and isinstance(unit.value, list) for unit in units)
    return "M" in kinds(units) or given or get(x, "responses_create_params", "metadata", "audio_url") is not None


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
    return sum(len(dumps(unit.value) if unit.kind == "C" else unit.value or "") for unit in units if unit.kind not in "MX" and not isinstance(unit.value, list))


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


def holds_inexact(value: Any) -> bool:
    """A fraction, or an integer of 16 digits or more, anywhere in a JSON value."""
    if isinstance(value, Object):
        return any(holds_inexact(member) for _, member in value.pairs)
    if isinstance(value, list):
        return any(holds_inexact(member) for member in value)
    return isinstance(value, Number) and re.search(r"\d[.eE]|\d{16}", dumps(value)) is not None


def token_calls(x: Object) -> str | None:
    """The assistant's items with the ids of their tokens."""
    calls = []
    for item in items_of(first_filled(x, "response.output", "output")):
        if isinstance(item, Object) and item.get("role") in (None, "assistant") and is_said_or_called(item):
            ids = [(name, item.get(name)) for name in ("prompt_token_ids", "generation_token_ids")]
            calls.append(Object([("type", item.get("type")), ("role", item.get("role")), *ids]))
    return dumps(calls) if calls else None


def is_said_or_called(item: Object) -> bool:
    if item.get("type") is None:
        return any(item.get(key) is not None for key in ("role", "content", "arguments"))
    return item.get("type") in ("message", "function_call")
