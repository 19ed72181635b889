"""Making values valid JSON."""

from __future__ import annotations

import math
from typing import Any


def finite(value: Any, *, text_keys: bool = False) -> Any:
    """A value with null for numbers that JSON cannot express, also inside lists and objects; with `text_keys`, all keys become texts."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [finite(part, text_keys=text_keys) for part in value]
    if isinstance(value, dict):
        return {str(name) if text_keys else name: finite(part, text_keys=text_keys) for name, part in value.items()}
    return value
