"""Checking option values that are given from Python and that no parser has seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import cache
from math import isfinite
from os import PathLike
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from rollout_etl.errors import UsageError

_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "True or False", Path: "a path", NoneType: "None"}
_TAKEN: dict[Any, Any] = {str: str, int: int, float: (int, float), bool: bool, Path: (str, PathLike), NoneType: NoneType}


def check_values(of: Any) -> None:
    """Raise `UsageError` for a field of an options dataclass that is not of its declared type, or is a number that is not finite."""
    kind: Any = type(of)
    for field in fields(of):
        check_value(field.name, getattr(of, field.name), _hints(kind)[field.name])


def checked(given: Mapping[str, Any], of: type) -> dict[str, Any]:
    """Values for fields of the dataclass `of`, with paths for their texts. Raises `UsageError` as `check_values` does."""
    found = dict(given)
    for name, value in given.items():
        hint = _hints(of)[name]
        check_value(name, value, hint)
        if isinstance(value, str) and Path in _kinds(hint):
            found[name] = Path(value)
    return found


def check_arguments(of: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Raise `UsageError` for an argument of a function that is not of its declared type, or is a number that is not finite."""
    for name, value in given.items():
        check_value(name, value, _hints(of)[name])


def check_fraction(name: str, value: Any) -> None:
    """Raise `UsageError` for a value that is not from 0 to 1."""
    check_value(name, value, float)
    if not 0 <= value <= 1:
        raise UsageError(f"{name} {value} is not in the range 0<=x<=1")


def check_least(name: str, value: Any, least: int = 1) -> None:
    """Raise `UsageError` for a value that is not a whole number of at least `least`; None is accepted."""
    check_value(name, value, int | None)
    if value is not None and value < least:
        raise UsageError(f"{name} {value} is not in the range x>={least}")


@cache
def _hints(of: Any) -> dict[str, Any]:
    return get_type_hints(of)


def _kinds(hint: Any) -> tuple[Any, ...]:
    """The types that a hint allows."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def check_value(name: str, value: Any, hint: Any) -> None:
    """Raise `UsageError` for a value that does not match a type hint, or is a number that is not finite."""
    if isinstance(value, float) and not isfinite(value):
        raise UsageError(f"--{name.replace('_', '-')} {value} is not a number to compare with")
    kinds = _kinds(hint)
    if any(_fits(value, kind) for kind in kinds):
        return
    choices = [choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
    if choices:
        raise UsageError(f"{name} is {value!r}, which is not one of {', '.join(map(repr, choices))}")
    if isinstance(value, str) and any(_is_list(kind) for kind in kinds):
        # Python would iterate over the letters of a text.
        raise UsageError(f"{name} takes several texts: write [{value!r}]")
    raise UsageError(f"{name} takes {' or '.join(map(_words, kinds))}, not {value!r}")


def _fits(value: Any, kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if _is_list(kind):
        return isinstance(value, list | tuple) and all(_fits(each, get_args(kind)[0]) for each in value)
    if kind in (int, float) and isinstance(value, bool):
        return False
    # Anything else, such as a function, is not checked.
    return not isinstance(kind, type) or getattr(kind, "_is_protocol", False) or isinstance(value, _TAKEN.get(kind, kind))


def _is_list(kind: Any) -> bool:
    return get_origin(kind) in (tuple, Sequence)


def _words(kind: Any) -> str:
    return "a list of texts" if _is_list(kind) else _WORDS.get(kind, f"a {getattr(kind, '__name__', kind)}")
