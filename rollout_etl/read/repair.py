"""The second look at lines that did not come out as rollouts: repaired where that is safe, otherwise told apart by reason."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

_BOM = "\ufeff"
_NONFINITE = r"[-+]?(?:nan|inf(?:inity)?)"
# Strings are matched first, so that nothing inside them is taken for a number.
_VALUES = re.compile(
    rf'(?P<reward>"reward"\s*:\s*){_NONFINITE}\b|(?P<string>"(?:[^"\\]|\\.)*")|(?P<value>{_NONFINITE}\b)', re.IGNORECASE | re.DOTALL
)
_ESCAPES = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[dD][89a-fA-F][0-9a-fA-F]{2}|\\.", re.DOTALL)


class SecondLook(NamedTuple):
    """What became of a line: `text` when it was repaired, else the `reason` for its quarantine."""

    text: str | None
    reason: str
    damage: tuple[str, ...] = ()


def look_again(line: bytes) -> SecondLook:
    """Repair a line, or say why it is no rollout."""
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
    finite = _VALUES.sub(_finite, text)
    if finite != text:
        text = finite
        damage.append("nonfinite_number")
    reason = _why_no_rollout(text)
    return SecondLook(text if damage and not reason.startswith("not JSON") else None, reason, tuple(damage))


def _finite(match: re.Match[str]) -> str:
    if match["string"] is not None:
        return match["string"]
    # Overflows to infinity when it is read, so that the rollout is counted under its own rule.
    return f"{match['reward']}1e999" if match["reward"] is not None else "null"


def _why_no_rollout(text: str) -> str:
    try:
        value = json.loads(text, parse_int=len, parse_float=len)
    except RecursionError:
        return "not JSON: nested too deep"
    except ValueError as error:
        return f"not JSON: {error}"
    names = {dict: "object", list: "array", str: "string", int: "number", float: "number", bool: "boolean", type(None): "null"}
    if not isinstance(value, dict):
        return f"a JSON {names[type(value)]}, not an object"
    return "no prompt, response, reward or attempt number"
