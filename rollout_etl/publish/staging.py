"""The temporary place next to an output where it is made: locks, leftovers of killed runs, and folders that were made for it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from rollout_etl.errors import LockedError, UsageError

SHUFFLE = ".shuffle"
"""Follows the name of an output in that of the folder for its rows until they are shuffled."""
_OF_DUCKDB = r"(?:\.wal|\.tmp)?"
"""DuckDB adds a file for its latest changes, and a folder for what memory does not hold, to a database."""
_USED: set[Path] = set()
"""Temporary places of this process."""


def staged_path(path: Path) -> Path:
    """Where `path` is made: next to its place, under a name with the number of the process."""
    staged = path.with_name(f".{path.name}.{os.getpid()}.partial")
    _USED.add(staged)
    return staged


def discard() -> None:
    """Remove what this process was making. Ctrl-C may come after a file was made, but before the code that removes it is responsible."""
    for path in _USED:
        with contextlib.suppress(OSError):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def refuse_home(path: Path) -> None:
    """Raise `UsageError` for a path that begins with `~/`: a folder of that name would be made."""
    if path.parts[:1] == ("~",) and len(path.parts) > 1 and not os.path.exists("~"):
        raise UsageError(f"{path} begins with ~, which only a shell replaces, outside of quotes: write the home folder out")


def make_room(path: Path) -> list[Path]:
    """Make the folders above `path`, and remove leftovers of killed runs. Returns the new folders, the innermost first.

    Raises `LockedError` if another run is making `path`, and `UsageError` for a path that begins with `~/`.
    """
    refuse_home(path)
    made = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    pattern = re.compile(re.escape(f".{path.name}") + rf"(?:{re.escape(SHUFFLE)})?\.(\d+)\.(replaced|partial{_OF_DUCKDB})")
    for entry in os.scandir(path.parent):
        match = pattern.fullmatch(entry.name)
        if not match:
            continue
        if _is_held(entry.path):
            raise LockedError(f"another run is writing {path}; wait for it, or give the output another name")
        # The replaced folder may be the only copy of an output.
        if not _is_running(int(match[1])) and (match[2] != "replaced" or path.exists()):
            # Another run may be cleaning up at the same time.
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else os.unlink(entry.path)
    return made


def give_back(made: Iterable[Path]) -> None:
    """Remove the folders that `make_room` made, if they are empty."""
    with contextlib.suppress(OSError):
        for folder in made:
            folder.rmdir()


def hold(descriptor: int) -> None:
    """Lock the file or folder for as long as it is open, so that other runs notice. Some file systems have no locks."""
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_held(path: str) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return process != os.getpid()
