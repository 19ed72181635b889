"""Values of options as Python code gives them, where nothing has parsed them before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from math import isfinite
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from rollout_etl.errors import UsageError


def check_values(of: Any) -> None:
    """Raise `UsageError` for a field of a dataclass of options that is NaN or infinite, or one text where several are taken."""
    for field in fields(of):
        value = getattr(of, field.name)
        if isinstance(value, float) and not isfinite(value):
            raise UsageError(f"--{field.name.replace('_', '-')} {value} is not a number to compare with")
        _refuse_single(field.name, value, isinstance(field.default, tuple))


def checked(given: Mapping[str, Any], of: type) -> dict[str, Any]:
    """Fields of the dataclass `of`, with paths for their texts. Raises `UsageError` for a choice that there is not."""
    hints, found = get_type_hints(of), dict(given)
    for name, value in given.items():
        kinds = [hints[name], *get_args(hints[name])]
        choices = [choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
        if choices and value is not None and value not in choices:
            raise UsageError(f"{name} is {value!r}, which is none of {', '.join(map(repr, choices))}")
        _refuse_single(name, value, any(get_origin(kind) in (tuple, Sequence) for kind in kinds))
        if isinstance(value, str) and Path in kinds:
            found[name] = Path(value)
    return found


def _refuse_single(name: str, value: Any, takes_several: bool) -> None:
    # Python would take a text for its letters.
    if takes_several and isinstance(value, str):
        raise UsageError(f"{name} takes several texts: write [{value!r}]")
