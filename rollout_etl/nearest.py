"""The name that somebody may have meant by one that is not there."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, names: Iterable[str]) -> str:
    """The one of `names` that is spelt most like `name`, however far it is."""
    return get_close_matches(name, list(names), n=1, cutoff=0)[0]


def meant_or_all(name: str, names: Iterable[str], what: str, more: str = "") -> str:
    """`did_you_mean`, or where none comes near all the names, `what` they are."""
    known = list(names)
    return did_you_mean(name, known) or f"; {what} are {', '.join(known)}{more}"


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """The names that may have been meant, as the end of a message; empty where none comes near, or `name` is there."""
    known = list(names)
    close = get_close_matches(name, known, n=3, cutoff=0.6) if name not in known else []
    return f"; did you mean {' or '.join(close)}?" if close else ""
