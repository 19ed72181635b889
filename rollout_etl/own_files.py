"""Files that this program writes beside data, told by how they begin: nothing else is written over, and they are no rollouts."""

from __future__ import annotations

import os
import re
from typing import Literal

REFRESH_STATE = ".refresh"
"""Folder in which a refresh keeps what it knows, in the one where it publishes."""
Kind = Literal["profile", "quarantine", "run file"]
_BEGINNINGS: dict[Kind, re.Pattern[bytes]] = {
    "profile": re.compile(rb'\{\n  "seconds": '),
    "quarantine": re.compile(rb'\{"source": ?"(?:[^"\\]|\\.)*", ?"line": ?\d+, ?"reason": ?"'),
    "run file": re.compile(rb"(?:#!/usr/bin/env bash\n)?# Run file for |---\nconfigs:\n  - config_name: default\n"),
}
_ENOUGH = 1 << 14
"""Bytes: a path of 4096 may stand in front of what tells, escaped."""
_UNFINISHED = re.compile(r"\..+\.(?:\d+\.(?:partial|replaced|old)|[0-9a-f]{12}\.unfinished)")


def begins_as(path: str | os.PathLike[str], *kinds: Kind) -> bool:
    """Whether a file is one of these kinds. Raises `OSError` where it cannot be read."""
    with open(path, "rb") as file:
        beginning = file.read(_ENOUGH)
    return any(_BEGINNINGS[kind].match(beginning) for kind in kinds)


def is_own_place(path: str) -> bool:
    """Whether a file or folder is, or lies in, what a refresh keeps in the folder where it publishes."""
    parts = os.path.normpath(path).split(os.sep)
    kept = (number for number, part in enumerate(parts) if part in (REFRESH_STATE, "versions", "current"))
    return any(os.path.isdir(os.path.join(os.sep.join(parts[:number]) or (os.sep if number else os.curdir), REFRESH_STATE)) for number in kept)


def is_own_folder(path: str) -> bool:
    """Whether a folder is one that a refresh publishes in or keeps there, or what a run that died has left, or one that is under way."""
    return _UNFINISHED.fullmatch(os.path.basename(path)) is not None or os.path.isdir(os.path.join(path, REFRESH_STATE)) or is_own_place(path)
