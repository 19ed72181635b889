"""A rollout as a conversation for the terminal. Model output is hostile text: what a terminal would obey is taken out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

# Escape sequences (CSI, OSC and other strings, two-byte ones), then whatever control characters are left, and marks that turn text around.
_SEQUENCE = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?|\x1b[ -/]*[0-~]")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_FLAGS = {"is_masked": "masked", "is_failure": "failed", "is_truncated": "truncated"}


def harmless(text: str) -> str:
    """Text without escape sequences and control characters; newlines and tabs stay."""
    return _CONTROL.sub("", _SEQUENCE.sub("", text.replace("\r\n", "\n")))


def cut(text: str, limit: int) -> str:
    """The first `limit` characters, and how many more there are; all of them with 0."""
    if limit <= 0 or len(text) <= limit:
        return text
    return f"{text[:limit]} [... {len(text) - limit:,} more characters]"


def conversation(row: dict[str, Any], limit: int) -> list[tuple[str, str]]:
    """Lines of a rollout (columns `selection.SHOWN`), each with its style: `head`, `role`, `text` or `call`. No text is longer than `limit`."""
    lines = [("head", _title(row))]
    for part in ("prompt", "completion"):
        for message in json.loads(row[part] or "[]"):
            lines += _message(message, limit)
    return [(style, harmless(text)) for style, text in lines]


def _title(row: dict[str, Any]) -> str:
    reward = "none" if row["reward"] is None else f"{row['reward']:g}"
    facts = [f"{row['source']}:{row['line']}", f"reward {reward}"]
    facts += [str(row[name]) for name in ("task_name", "agent_name") if row[name]]
    facts += [f"group {row['task_key'][:8]}"] + ([f"attempt {row['attempt']}"] if row["attempt"] is not None else [])
    # A name is one line, whatever it holds.
    return " | ".join(" ".join(fact.split()) for fact in [*facts, *(label for name, label in _FLAGS.items() if row[name])])


def _message(message: dict[str, Any], limit: int) -> Iterator[tuple[str, str]]:
    name = f" {message['name']}" if isinstance(message.get("name"), str) else ""
    yield "role", f"{message.get('role', '?')}{name}"
    if isinstance(message.get("reasoning_content"), str):
        yield "call", _indented(cut(f"(reasoning) {message['reasoning_content']}", limit))
    text = _text(message.get("content"))
    if text:
        yield "text", _indented(cut(text, limit))
    for call in message.get("tool_calls") or []:
        function = call.get("function", call)
        arguments = function.get("arguments")
        shown = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        yield "call", _indented(cut(f"-> {function.get('name')}({shown})", limit))


def _text(content: Any) -> str:
    """Text of a message; parts that are no text are named."""
    if isinstance(content, list):
        parts = [part if isinstance(part, dict) else {} for part in content]
        return "".join(str(part.get("text") or part.get("refusal") or f"[{part.get('type', 'part')}]") for part in parts)
    return content if isinstance(content, str) else "" if content is None else json.dumps(content, ensure_ascii=False)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.split("\n"))
