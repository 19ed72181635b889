"""JSON in and out, spelled the way DuckDB (yyjson) spells it.

Values are None, bool, str, list, and two kinds of our own: `Number`, because the text of a number matters and not its value,
and `Object`, because a key may stand twice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from math import isinf
from typing import Any

_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


@dataclass(frozen=True)
class Number:
    """A number as its printed text."""

    text: str

    def as_float(self) -> float:
        return float(self.text)


@dataclass(frozen=True)
class Object:
    """A JSON object: every pair is kept, and the first of equal keys is the one that counts."""

    pairs: list[tuple[str, Any]]

    def get(self, key: str) -> Any:
        for name, value in self.pairs:
            if name == key:
                return value
        return None

    def first_pairs(self) -> Iterator[tuple[str, Any]]:
        """The pairs that count, in their order."""
        seen = set()
        for name, value in self.pairs:
            if name not in seen:
                seen.add(name)
                yield name, value


def get(value: Any, *path: str) -> Any:
    """The value at the end of a path of keys; None where the path leads nowhere."""
    for key in path:
        value = value.get(key) if isinstance(value, Object) else None
    return value


def parse(text: str, whole_pairs: bool = False) -> Any:
    """A JSON text as values. Raises ValueError where it is none: NaN, Infinity, numbers too large for a double and half surrogate
    pairs (unless they become U+FFFD) are no JSON, and what is nested too deep is none that others read."""
    value = _decode(text, nonfinite=None)
    if whole_pairs:
        return _whole_pairs(value)
    if _has_half_pair(value):
        raise ValueError("half of a surrogate pair")
    return value


def parse_damaged(text: str) -> Any:
    """The same for a line: half pairs become U+FFFD, a comma before a closing bracket goes; NaN, Infinity and numbers too large for
    a double become null, but stay what they are in `reward`."""
    try:
        decoded = _decode(text, nonfinite=_Nonfinite)
    except json.JSONDecodeError:
        decoded = _decode(_without_lax_spellings(text), nonfinite=_Nonfinite)
    value = _whole_pairs(decoded)
    if isinstance(value, Object):
        pairs = [(key, Number(v.text) if key == "reward" and isinstance(v, _Nonfinite) else v) for key, v in value.pairs]
        value = Object(pairs)
    return _without_nonfinite(value)


def _split(text: str) -> tuple[str, list[str]]:
    """What stands outside of strings, with a NUL for each string, and the strings."""
    bare, strings, at = "", [], 0
    while at < len(text):
        end = at + 1
        if text[at] == '"':
            while end < len(text) and text[end] != '"':
                end += 2 if text[end] == "\\" else 1
            end = min(end + 1, len(text))
            strings.append(text[at:end])
            bare += "\0"
        elif text[at] == "\0":
            raise ValueError("a NUL byte")
        else:
            bare += text[at]
        at = end
    return bare, strings


def _without_lax_spellings(text: str) -> str:
    bare, strings = _split(text)
    bare = re.sub(r"([^\s,:\[{])\s*,(?=\s*[\]}])", r"\1", bare)
    bare = re.sub(r"[-+]?\b(?:nan|infinity|inf)\b", "NaN", bare, flags=re.IGNORECASE)
    rest = iter(strings)
    return "".join(next(rest) if c == "\0" else c for c in bare)


def _is_deep(text: str) -> bool:
    """A hundred brackets close in a row."""
    return "]" * 100 in re.sub(r"\s", "", _split(text)[0]).replace("}", "]") if text.count("]") + text.count("}") >= 100 else False


@dataclass(frozen=True)
class _Nonfinite:
    text: str


def _decode(text: str, nonfinite: Any) -> Any:
    def constant(spelling: str) -> Any:
        if nonfinite is None:
            raise ValueError(f"{spelling} is no JSON")
        return nonfinite(spelling)

    def integer(spelling: str) -> Any:
        return constant(spelling) if isinf(float(spelling)) else Number("0" if spelling == "-0" else spelling)

    def fraction(spelling: str) -> Any:
        return constant(spelling) if isinf(float(spelling)) else Number(print_float(float(spelling)))

    if _is_deep(text):
        raise ValueError("nested too deep")
    return json.loads(text, object_pairs_hook=Object, parse_int=integer, parse_float=fraction, parse_constant=constant)


def _has_half_pair(value: Any) -> bool:
    if isinstance(value, str):
        return any(_is_half_pair(c) for c in value)
    if isinstance(value, list):
        return any(_has_half_pair(v) for v in value)
    if isinstance(value, Object):
        return any(_has_half_pair(key) or _has_half_pair(v) for key, v in value.pairs)
    return False


def _is_half_pair(character: str) -> bool:
    return "\ud800" <= character <= "\udfff"


def _whole_pairs(value: Any) -> Any:
    if isinstance(value, str):
        return "".join("\ufffd" if _is_half_pair(c) else c for c in value)
    if isinstance(value, list):
        return [_whole_pairs(v) for v in value]
    if isinstance(value, Object):
        return Object([(_whole_pairs(key), _whole_pairs(v)) for key, v in value.pairs])
    return value


def _without_nonfinite(value: Any) -> Any:
    if isinstance(value, _Nonfinite):
        return None
    if isinstance(value, list):
        return [_without_nonfinite(v) for v in value]
    if isinstance(value, Object):
        return Object([(key, _without_nonfinite(v)) for key, v in value.pairs])
    return value


def dumps(value: Any) -> str:
    """A value as JSON text without space."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Number):
        return value.text
    if isinstance(value, str):
        return print_string(value)
    if isinstance(value, list):
        return "[" + ",".join(dumps(v) for v in value) + "]"
    return "{" + ",".join(print_string(key) + ":" + dumps(v) for key, v in value.pairs) + "}"


def print_string(text: str) -> str:
    """Only what JSON does not allow as it is is escaped."""
    return '"' + "".join(_ESCAPES.get(c) or (f"\\u{ord(c):04X}" if c < " " else c) for c in text) + '"'


def print_float(value: float) -> str:
    """The fewest digits that give the same number again, with a fraction, and an exponent beyond 21 and below -6 places."""
    negative, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    assert isinstance(exponent, int)
    shown = "".join(map(str, digits))
    point = len(shown) + exponent
    if value == 0:
        text = "0.0"
    elif not -6 < point <= 21:
        text = shown[0] + ("." + shown[1:] if len(shown) > 1 else "") + f"e{point - 1}"
    elif point <= 0:
        text = "0." + "0" * -point + shown
    elif point >= len(shown):
        text = shown + "0" * (point - len(shown)) + ".0"
    else:
        text = shown[:point] + "." + shown[point:]
    return "-" + text if negative else text
