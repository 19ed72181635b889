"""The second look at lines that did not come out as rollouts: repair them if that is safe, otherwise find the reason."""

from __future__ import annotations

import json
import re
from math import isinf
from typing import NamedTuple

_BOM = "\ufeff"
_ESCAPES = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[dD][89a-fA-F][0-9a-fA-F]{2}|\\.", re.DOTALL)
# Strings are matched first, so that their content is never mistaken for a number or a comma.
_STRING = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_TOKENS = re.compile(
    rf"(?P<string>{_STRING})|(?P<bracket>[\[\]{{}}])|(?P<comma>(?<=[^\s,:\[{{])\s*,(?=\s*[\]}}]))"
    r"|(?P<constant>[-+]?(?:nan|inf(?:inity)?)\b)|(?P<number>-?[0-9]+(?:\.[0-9]+)?(?:e[-+]?[0-9]+)?)",
    re.IGNORECASE | re.DOTALL | re.ASCII,
)
_SUSPECT = re.compile(r"nan|inf|,\s*[\]}]|[0-9]e\+?[0-9]{3}|[0-9]{300}", re.IGNORECASE | re.ASCII)
_DEEP = re.compile(r"[\]}]{100}")
_NOT_CLOSING = re.compile(rf"{_STRING}|[ \t\r\n]+", re.DOTALL)
_ROLLOUT_FIELDS = {"responses_create_params", "response", "output", "messages", "reward", "_ng_rollout_index", "_ng_failure_class"}


class SecondLook(NamedTuple):
    """The result for a line: its `text` (repaired or unchanged) if it may be a rollout, and the `reason` for its quarantine if it is not."""

    text: str | None
    reason: str
    damage: tuple[str, ...] = ()


def look_again(line: bytes) -> SecondLook:
    """Repair a line, or say why it is not a rollout."""
    try:
        text = line.decode("utf-8").strip(" \t\r\n")
    except UnicodeDecodeError as error:
        return SecondLook(None, f"not UTF-8: byte 0x{line[error.start]:02x} at {error.start}")
    damage = []
    if text.startswith(_BOM):
        text = text.lstrip(_BOM)
        damage.append("byte_order_mark")
    paired = _ESCAPES.sub(lambda m: "\\ufffd" if m[0][:2] == "\\u" and len(m[0]) == 6 else m[0], text)
    if paired != text:
        text = paired
        damage.append("lone_surrogate")
    # Most of these lines are either valid JSON or not JSON at all, and checking all tokens is slow.
    text, more = _mended(text) if _SUSPECT.search(text) else (text, [])
    may_be_rollout, reason = _judged(text)
    return SecondLook(text if may_be_rollout else None, reason, (*damage, *more))


def _mended(text: str) -> tuple[str, list[str]]:
    """A line without the numbers and commas that JSON does not allow, and the kind of damage."""
    depth, key = 0, ""
    damage: dict[str, None] = {}

    def mend(match: re.Match[str]) -> str:
        nonlocal depth, key
        token, kind = match[0], match.lastgroup
        if kind == "string":
            key = token if depth == 1 else key
        elif kind == "bracket":
            depth += 1 if token in "[{" else -1
        elif kind == "comma":
            damage["loose_comma"] = None
            return ""
        elif kind == "constant" or isinf(float(token)):
            is_reward = depth == 1 and key == '"reward"'
            if kind == "constant" or not is_reward:
                damage["nonfinite_number"] = None
            # Overflows to infinity when it is read, so that the rollout is counted under its own rule.
            return "1e999" if is_reward else "null"
        return token

    return _TOKENS.sub(mend, text), list(damage)


def _is_deep(text: str) -> bool:
    """Whether a hundred brackets close in a row, where other JSON readers give up."""
    return text.count("]") + text.count("}") >= 100 and _DEEP.search(_NOT_CLOSING.sub("", text)) is not None


def _judged(text: str) -> tuple[bool, str]:
    """Whether a text may be a rollout, and the reason if it turns out not to be one."""
    try:
        value = json.loads(text, parse_int=len, parse_float=len)
    except RecursionError:
        return False, "nested too deep"
    except ValueError as error:
        return False, f"not JSON: {error}"
    names = {dict: "object", list: "array", str: "string", int: "number", float: "number", bool: "boolean", type(None): "null"}
    if not isinstance(value, dict):
        return False, f"a JSON {names[type(value)]}, not an object"
    if _is_deep(text):
        return False, "nested too deep"
    return not _ROLLOUT_FIELDS.isdisjoint(value), "no prompt, response, reward or attempt number"
