"""Suggesting the right name for a misspelt one."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, names: Iterable[str]) -> str:
    """The one of `names` with the most similar spelling, however different it is."""
    return get_close_matches(name, list(names), n=1, cutoff=0)[0]


def meant_or_all(name: str, names: Iterable[str], what: str, more: str = "") -> str:
    """`did_you_mean`, or if no name is similar, a list of all names; `what` they are."""
    known = list(names)
    return did_you_mean(name, known) or f"; {what} are {', '.join(known)}{more}"


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """The most similar names, as the end of a message; empty if none is similar, or if `name` exists."""
    known = list(names)
    close = get_close_matches(name, known, n=3, cutoff=0.6) if name not in known else []
    return f"; did you mean {' or '.join(close)}?" if close else ""
