"""Text that is safe to show: file names and rollouts may contain terminal control characters, or bytes that are not text."""

from __future__ import annotations

import os
import re

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Control characters except tabs and newlines, and marks that reverse text direction."""


def plain(text: str) -> str:
    """Text without `CONTROL` characters."""
    return CONTROL.sub("?", text)


def one_line(text: str) -> str:
    """Text without control characters, in one line."""
    return plain(text).replace("\n", "?")


def plural(count: int, noun: str) -> str:
    """`line` for a count of 1, `lines` otherwise."""
    return noun if count == 1 else f"{noun}s"


def counted(count: int, noun: str) -> str:
    """`1 line`, `2,000 lines`."""
    return f"{count:,} {plural(count, noun)}"


def readable_name(name: str) -> str:
    """A file name as it can be shown; it differs from the real name if that is not UTF-8."""
    return name if name.isascii() else os.fsencode(name).decode(errors="replace")


def first_line(error: BaseException) -> str:
    """The message of an error in one line, or its type if the message is empty."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def quoted(text: str) -> str:
    """Text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def quoted_name(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
