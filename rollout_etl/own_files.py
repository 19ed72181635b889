"""Files that this program writes next to data, recognised by how they begin: only these are overwritten, and they are not rollouts."""

from __future__ import annotations

import os
import re
from typing import Literal

REFRESH_STATE = ".refresh"
"""Folder for the state of a refresh, inside the folder that it publishes in."""
Kind = Literal["profile", "quarantine", "run file"]
_BEGINNINGS: dict[Kind, re.Pattern[bytes]] = {
    "profile": re.compile(rb'\{\n  "seconds": '),
    "quarantine": re.compile(rb'\{"source": ?"(?:[^"\\]|\\.)*", ?"line": ?\d+, ?"reason": ?"'),
    "run file": re.compile(rb"(?:#!/usr/bin/env bash\n)?# Run file for |---\nconfigs:\n  - config_name: default\n"),
}
_ENOUGH = 1 << 14
"""Bytes to look at: an escaped path of 4096 bytes may come before the identifying text."""
_UNFINISHED = re.compile(r"\..+\.(?:\d+\.(?:partial|replaced|old)|[0-9a-f]{12}\.unfinished)")


def begins_as(path: str | os.PathLike[str], *kinds: Kind) -> bool:
    """Whether a file is one of these kinds. Raises `OSError` if it cannot be read."""
    with open(path, "rb") as file:
        beginning = file.read(_ENOUGH)
    return any(_BEGINNINGS[kind].match(beginning) for kind in kinds)


def is_own_place(path: str) -> bool:
    """Whether a file or folder belongs to the state or the versions of a refresh."""
    parts = os.path.normpath(path).split(os.sep)
    kept = (number for number, part in enumerate(parts) if part in (REFRESH_STATE, "versions", "current"))
    return any(os.path.isdir(os.path.join(os.sep.join(parts[:number]) or (os.sep if number else os.curdir), REFRESH_STATE)) for number in kept)


def is_own_folder(path: str) -> bool:
    """Whether a folder belongs to a refresh, or was left by a killed run, or is in use by a run."""
    return _UNFINISHED.fullmatch(os.path.basename(path)) is not None or os.path.isdir(os.path.join(path, REFRESH_STATE)) or is_own_place(path)
