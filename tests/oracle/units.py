"""From items (Responses API items or chat messages) to units: one for each thing that was said or done."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from .jsontext import Object, dumps, get, parse, print_string

TEXT_PARTS = ("text", "input_text", "output_text", "refusal", "summary_text", "reasoning_text")
_MEDIA = ("input_image", "image_url", "image", "computer_screenshot", "input_audio", "input_video", "video_url", "audio_url", "input_file")
_KIND_OF_ROLE = {"assistant": "A", "user": "U", "system": "S", "developer": "D"}
_SPACE = " \t\r\n"


@dataclass(frozen=True)
class Unit:
    """One thing that was said or done. `kind` is a letter:

    A assistant text, E the same but blank, R reasoning, r reasoning without readable text, C tool call, c invalid tool call,
    O tool result, U user, S system, D developer, M message with media, X not understood.
    """

    kind: str
    value: Any = None
    """The text; of a call the arguments as an object, of an invalid call as text; of a media message, and of any result with media, its content."""
    id: str | None = None
    name: Any = None
    """Of calls and results. Of a media message the role."""


def items_of(value: Any) -> list[Any]:
    """The items of a list, of the last of a list of lists, of a single item, or of a text."""
    if isinstance(value, list):
        if value and isinstance(value[0], list):
            return value[-1] if isinstance(value[-1], list) else []
        return value
    if isinstance(value, Object):
        return [value]
    if isinstance(value, str):
        return [Object([("content", value)])]
    return []


def units_of(items: list[Any], speaker: str) -> list[Unit]:
    """What the items say and do. `speaker` is the role of messages that do not name theirs."""
    units = []
    for item in items:
        for single in _unfolded(item):
            units.append(_unit(single, speaker))
    return units


def said(units: list[Unit]) -> str:
    """The text that keys are made of: everything except ids."""
    return "\x1f".join(_said(unit) for unit in units)


def said_prompt(units: list[Unit], items: list[Any]) -> str:
    """The same for a prompt, and then every item that was not understood, whole."""
    unknown = [item for item in items if _unit(item, "user").kind == "X"] if "X" in kinds(units) else []
    return "\x1f".join([said(units), *(_sorted_fields(item) if isinstance(item, Object) else dumps(item) for item in unknown)])


def _sorted_fields(item: Object) -> str:
    fields = [f"{print_string(key)}:{dumps(value)}" for key, value in item.first_pairs() if value is not None]
    return "{" + ",".join(sorted(fields, key=str.encode)) + "}"


def said_in_completion(units: list[Unit]) -> str:
    """The same for completions: words as they are, with their length in bytes before them."""
    return "\x1f".join(f"{unit.kind}{len(unit.value.encode())}:{unit.value}" if unit.kind in ("A", "R") else _said(unit) for unit in units)


def _said(unit: Unit) -> str:
    if unit.kind == "X":
        return "X" if unit.value is None else f"X{dumps(unit.value)}"
    if unit.kind == "M":
        return f"M{unit.name}{dumps(unit.value)}"
    name = dumps(unit.name) if unit.kind in ("C", "c", "O") and unit.name is not None else ""
    return unit.kind + name + dumps(unit.value)


def _unfolded(item: Any) -> list[Any]:
    """A chat message holds reasoning, text and calls at once: one item for each, in this order."""
    reasoning, calls, old_call = get(item, "reasoning_content"), get(item, "tool_calls"), get(item, "function_call")
    if calls in (None, []) and isinstance(old_call, Object) and old_call.pairs:
        calls = [old_call]
    if reasoning is None and get(item, "type") is None:
        reasoning = get(item, "reasoning")
    parts = []
    if reasoning is not None:
        parts.append(Object([("type", "reasoning"), ("content", reasoning)]))
    if not (isinstance(calls, list) and calls and is_empty(get(item, "content")) and get(item, "refusal") is None):
        parts.append(item)
    if isinstance(calls, list):
        parts.extend(_chat_call(call) for call in calls)
    return parts


def _chat_call(call: Any) -> Object:
    """Nested calls keep name and arguments in `function`, flat ones beside the id."""
    name, arguments = get(call, "function", "name"), get(call, "function", "arguments")
    return Object(
        [
            ("type", "function_call"),
            ("call_id", get(call, "id")),
            ("name", get(call, "name") if name is None else name),
            ("arguments", get(call, "arguments") if arguments is None else arguments),
        ]
    )


def _unit(item: Any, speaker: str) -> Unit:
    if not isinstance(item, Object):
        return Unit("X")
    kind, role = as_text(item.get("type")), as_text(item.get("role"))
    if kind == "reasoning":
        return _reasoning(item)
    if kind == "function_call" or (kind is None and role is None and item.get("arguments") is not None):
        return _call(item)
    if kind == "function_call_output" or role in ("tool", "function") or (kind is None and role is None and item.get("output") is not None):
        return _result(item)
    if kind == "message" or (kind is None and (role is not None or item.get("content") is not None)):
        return _message(_content_of(item), speaker if role is None else role, item.get("output"))
    return Unit("X", _media_of(item.get("output")))


def _content_of(item: Object) -> Any:
    """One part alone is a list of it. A refusal may stand beside content that is empty."""
    content, refusal = item.get("content"), item.get("refusal")
    if _is_part(content):
        return [content]
    return refusal if isinstance(refusal, str) and content in (None, "", []) else content


def _is_part(value: Any) -> bool:
    """Whether an object is a part, not data."""
    return any(isinstance(get(value, key), str) for key in ("text", "refusal")) or as_text(get(value, "type")) in _MEDIA


def _message(content: Any, role: str, output: Any) -> Unit:
    if role not in _KIND_OF_ROLE:
        return Unit("X", _media_of(output))
    if holds_media(content):
        return Unit("M", content, name=role)
    text = content_text(content)
    return Unit("E" if role == "assistant" and is_blank(text) else _KIND_OF_ROLE[role], text)


def _reasoning(item: Object) -> Unit:
    given = (item.get("summary"), _content_of(item))
    summary, content = ("\n\n".join(text for text in said_texts(value if isinstance(value, list) else [value]) if text) for value in given)
    text = summary if summary == content else "\n\n".join(text for text in (summary, content) if text)
    return Unit("r" if is_blank(text) else "R", text)


def _call(item: Object) -> Unit:
    name, text = item.get("name"), as_text(item.get("arguments"))
    arguments = _arguments_object(text)
    named = isinstance(name, str) and name != ""
    if named and arguments is not None:
        return Unit("C", arguments, call_id(item), name)
    shown = text if arguments is None else dumps(arguments)
    return Unit("c", shown, call_id(item), name if named else "")


def _arguments_object(text: str | None) -> Object | None:
    """None where the text is no JSON object. A call without arguments is recorded without them, as `""` or as `{}`."""
    if text is None or is_blank(text):
        return Object([])
    try:
        value = parse(text, whole_pairs=True)
    except ValueError:
        return None
    return value if isinstance(value, Object) else None


def _result(item: Object) -> Unit:
    output = item.get("output")
    return Unit("O", _result_value(item.get("content") if output is None else output), call_id(item), item.get("name"))


def _result_value(output: Any) -> Any:
    """Lists of text parts are joined, media stay as they came, in a list, any other list is data: JSON, as text."""
    media = _media_of(output)
    if media is not None:
        return media
    if not isinstance(output, list):
        return content_text(output)
    texts = part_texts(output)
    return "".join(texts) if len(texts) == len(output) else dumps(output)


def _media_of(output: Any) -> list[Any] | None:
    """What a tool gave back, as a list, if it holds an image, audio, video or a file."""
    parts = output if isinstance(output, list) else [output]
    return parts if any(as_text(get(part, "type")) in _MEDIA for part in parts) else None


def call_id(item: Object) -> str | None:
    """An empty id names no call."""
    given = [as_text(item.get(key)) for key in ("call_id", "tool_call_id")]
    return next((text for text in given if text), None)


def as_text(value: Any) -> str | None:
    """A text as it is, anything else as JSON."""
    return value if value is None or isinstance(value, str) else dumps(value)


def is_blank(text: str) -> bool:
    return text.strip(_SPACE) == ""


def is_empty(value: Any) -> bool:
    """Whether a value holds nothing. 0 and false do hold something."""
    return value is None or value == [] or value == Object([]) or (isinstance(value, str) and is_blank(value))


def part_texts(parts: Any) -> list[str]:
    """The texts of a part list; parts without a text are left out."""
    texts = []
    for part in parts if isinstance(parts, list) else []:
        text = get(part, "refusal") if get(part, "text") is None else get(part, "text")
        if isinstance(text, str):
            texts.append(text)
    return texts


def said_texts(parts: Any) -> list[str]:
    """The same for the content of a message, where a part may be a text itself."""
    return [text for part in (parts if isinstance(parts, list) else []) for text in ([part] if isinstance(part, str) else part_texts([part]))]


def content_text(content: Any) -> str:
    """The content of a message as text: parts are joined as they stand."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(said_texts(content))
    return dumps(content)


def holds_media(content: Any) -> bool:
    """Whether a part list holds something else than text: an image, audio, video, a file."""
    for part in content if isinstance(content, list) else []:
        kind = as_text(get(part, "type"))
        if kind is not None and kind not in TEXT_PARTS:
            return True
    return False


def kinds(units: list[Unit]) -> str:
    return "".join(unit.kind for unit in units)


def thought_apart(units: list[Unit], think: str) -> list[Unit]:
    """Units with `<think>` text kept, taken out or moved; what is empty then is called so."""
    shown = []
    for unit in units:
        if unit.kind == "A" and think != "keep" and "</think>" in unit.value:
            thought, _, answer = unit.value.rpartition("</think>")
            thought = thought.lstrip(_SPACE).removeprefix("<think>").strip(_SPACE)
            answer = answer.lstrip(_SPACE)
            if think == "move":
                shown.append(Unit("R" if thought else "r", thought))
            shown.append(replace(unit, kind="A" if answer else "E", value=answer))
        else:
            shown.append(unit)
    return shown


def styled(units: list[Unit], think: str) -> list[Unit]:
    """Units as they are written: without the empty ones and the unknown ones."""
    return [unit for unit in thought_apart(units, think) if unit.kind not in ("E", "r", "X")]
