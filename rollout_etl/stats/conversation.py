"""A rollout as a conversation for the terminal. Model output is not trusted: anything that a terminal would interpret is removed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from rollout_etl.plain_text import CONTROL

# Escape sequences (CSI, OSC and other strings, two-byte ones), then all remaining control characters, and marks that reverse text direction.
_SEQUENCE = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?|\x1b[ -/]*[0-~]")
_FLAGS = {"is_masked": "masked", "is_failure": "failed", "is_truncated": "truncated"}


def harmless(text: str) -> str:
    """Text without escape sequences and control characters; newlines and tabs stay."""
    return CONTROL.sub("", _SEQUENCE.sub("", text.replace("\r\n", "\n")))


def one_line(text: str, limit: int = 0) -> str:
    """Harmless text on one line, cut after `limit` characters with a mark for the rest; 0 means no limit."""
    line = " ".join(harmless(text).split())
    return line if limit <= 0 or len(line) <= limit else line[:limit] + "…"


def cut(text: str, limit: int) -> str:
    """The first `limit` characters, and how many more there are; 0 means no limit."""
    if limit <= 0 or len(text) <= limit:
        return text
    return f"{text[:limit]} [... {len(text) - limit:,} more characters]"


class Part(NamedTuple):
    """A piece of a message: a `role` opens it, `reasoning` and `text` follow, and a `call` has the name of its tool as `label`."""

    kind: Literal["role", "reasoning", "text", "call"]
    text: str
    label: str = ""


def parts(messages: str | None, limit: int) -> Iterator[Part]:
    """The pieces of chat messages (JSON), as harmless text no longer than `limit`."""
    for message in json.loads(messages or "[]"):
        for kind, text, label in _message(message):
            yield Part(kind, harmless(text if kind == "role" else cut(text, limit)), harmless(label))


def conversation(row: dict[str, Any], limit: int) -> list[tuple[str, str]]:
    """Lines of a rollout (columns `selection.SHOWN`), each with its style: `head`, `role`, `text` or `call`. No text is longer than `limit`."""
    lines = [("head", harmless(title(row)))]
    for kind, text, label in (part for name in ("prompt", "completion") for part in parts(row[name], limit)):
        if kind == "role":
            lines.append((kind, text))
        else:
            said = {"text": text, "reasoning": f"(reasoning) {text}", "call": f"-> {label}({text})"}[kind]
            lines.append(("text" if kind == "text" else "call", "\n".join(f"  {line}" for line in said.split("\n"))))
    return lines


def title(row: dict[str, Any]) -> str:
    """File, line and key facts of a rollout, on one line."""
    reward = "none" if row["reward"] is None else f"{row['reward']:g}"
    facts = [f"{row['source']}:{row['line']}", f"reward {reward}"]
    facts += [str(row[name]) for name in ("task_name", "agent_name") if row[name]]
    facts += [f"group {row['task_key'][:8]}"] + ([f"attempt {row['attempt']}"] if row["attempt"] is not None else [])
    # A name is shown on one line, whatever it contains.
    return " | ".join(" ".join(fact.split()) for fact in [*facts, *(label for name, label in _FLAGS.items() if row[name])])


def _message(message: dict[str, Any]) -> Iterator[Part]:
    name = f" {message['name']}" if isinstance(message.get("name"), str) else ""
    yield Part("role", f"{message.get('role', '?')}{name}")
    if isinstance(message.get("reasoning_content"), str):
        yield Part("reasoning", message["reasoning_content"])
    text = _text(message.get("content"))
    if text:
        yield Part("text", text)
    for call in message.get("tool_calls") or []:
        function = call.get("function", call)
        arguments = function.get("arguments")
        yield Part("call", arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False), str(function.get("name")))


def _text(content: Any) -> str:
    """Text of a message; parts that are not text are named."""
    if isinstance(content, list):
        pieces = [piece if isinstance(piece, dict) else {} for piece in content]
        return "".join(str(piece.get("text") or piece.get("refusal") or f"[{piece.get('type', 'part')}]") for piece in pieces)
    return content if isinstance(content, str) else "" if content is None else json.dumps(content, ensure_ascii=False)
