"""What a rollout says about itself: that it failed, that it was cut off."""

from __future__ import annotations

from typing import Any

from .fields import is_true
from .jsontext import Object, dumps, get
from .units import Unit, as_text, is_empty


def is_failure(x: Object, completion: list[Unit]) -> bool:
    """The infrastructure failed: it says so, or the model server does, or there is an error and no completion, or a placeholder in its place."""
    if not is_empty(get(x, "_ng_failure_class")) or (not completion and holds_error(get(x, "error"))):
        return True
    if is_true(get(x, "judge_failed")) or is_true(get(x, "invalid_judge_response")) or holds_error(get(x, "judge_error")):
        return True
    if as_text(get(x, "response", "status")) in ("failed", "cancelled"):
        return True
    response_id = as_text(get(x, "response", "id")) or ""
    text = completion[-1].value if completion else None
    if not isinstance(text, str) or not response_id.endswith(("-failed", "-timeout", "-killed", "-skipped", "-incomplete")):
        return False
    for word in ("Failed", "Timed out", "Killed", "Skipped", "Incomplete"):
        following = text.removeprefix(word)[:1]
        if text.startswith(word) and not (following.isascii() and (following.isalnum() or following == "_")):
            return True
    return False


def holds_error(value: Any) -> bool:
    """`"error": false` says that there was none."""
    return not is_empty(value) and dumps(value) not in ("false", "0")


def is_truncated(x: Object, completion: list[Unit]) -> bool:
    """The response says that it is incomplete, or its reasoning never ends."""
    if get(x, "response", "incomplete_details", "reason") is not None or get(x, "response", "status") == "incomplete":
        return True
    choices = get(x, "response", "choices")
    if isinstance(choices, list) and choices and get(choices[0], "finish_reason") == "length":
        return True
    if is_true(get(x, "context_length_exceeded_error")):
        return True
    last = completion[-1] if completion else Unit("X")
    return last.kind == "A" and "<think>" in last.value and "</think>" not in last.value
