"""What was said in a row, where it was found, and the shape of the row by that."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from .jsontext import Object, dumps, get
from .units import Unit, is_blank, is_empty, items_of, units_of


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
    repeated = len(asked) if asked and asked[0].kind in "USDM" and answered[: len(asked)] == asked else 0
    if not asked or repeated:
        opening = repeated
        while opening < len(answered) and is_opening(answered[opening]):
            opening += 1
        asked, answered = answered[:opening], answered[opening:]
    if not asked and isinstance(problem, str) and not is_blank(problem):
        asked = [Unit("U", problem)]
    instructions = get(x, "responses_create_params", "instructions")
    if not is_empty(instructions):
        asked = [*units_of(_instruction_items(instructions), "system"), *asked]
    return Recorded(asked, answered, given, output, place)


def _instruction_items(instructions: Any) -> list[Any]:
    """A list of messages, one message, or the content of one."""
    items = [] if isinstance(instructions, str) else items_of(instructions)
    return items if items and has_key(items[0], "content") else [Object([("content", instructions)])]


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
    name += input_mark(x, found, name.partition("+")[0])
    if isinstance(found.output, list) and isinstance(found.output[0], list):
        texts = [dumps(transition) for transition in found.output]
        name += "+transitions" if all(later.startswith(before[:-1]) for before, later in pairwise(texts)) else "+diverging_transitions"
    instructions = get(x, "responses_create_params", "instructions")
    if not is_empty(instructions):
        name += "+instructions"
    return name


def input_mark(x: Object, found: Recorded, name: str) -> str:
    """What a row for Gym would lack: an input of its own, whether the prompt stands elsewhere or nowhere."""
    if get(x, "responses_create_params") is None:
        return "+no_input" if name in ("output", "response_text", "no_response") else ""
    if found.input is None:
        return "+empty_input"
    return "+no_input" if is_empty(get(x, "responses_create_params", "input")) else ""


def has_key(item: Any, key: str) -> bool:
    return isinstance(item, Object) and any(name == key for name, _ in item.pairs)


def first_filled(x: Object, *paths: str) -> Any:
    """The first value that holds something."""
    for path in paths:
        value = get(x, *path.split("."))
        if not is_empty(value):
            return value
    return None
