"""Versions of published training files, and the pointer to the current one.

    training/
      current -> versions/000007        moved in one step: readers see one version or the other
      versions/000007/sft.jsonl         training files with their run files and manifests, a README
      versions/000007/version.json      what the version was made from; written last, so a folder without it is not a version
      .refresh/                         the lock, remembered fingerprints, the report of the last refresh
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from rollout_etl.errors import LockedError, UnreadableError, UsageError
from rollout_etl.own_files import REFRESH_STATE
from rollout_etl.publish.files import StagedFile, holds, plain_write_errors

RECORD = "version.json"
CURRENT = "current"
_RELEASED = "released"
_NAME = re.compile(r"\d{6,}")

_OF_RECORDS = {"version", "created", "key", "inputs", "outputs", "gates", "statistics"}
"""Keys of every record."""


class Versions:
    """The versions in a folder that a pipeline publishes to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / REFRESH_STATE

    def path(self, number: int) -> Path:
        """The folder of a version."""
        return self.folder / "versions" / f"{number:06}"

    def numbers(self) -> list[int]:
        """Numbers of complete versions, from oldest to newest."""
        return [number for number in self._all_numbers() if (self.path(number) / RECORD).is_file()]

    def _all_numbers(self) -> list[int]:
        with contextlib.suppress(FileNotFoundError):
            return sorted(int(entry.name) for entry in os.scandir(self.folder / "versions") if _NAME.fullmatch(entry.name))
        return []

    def record(self, number: int) -> dict[str, Any]:
        """The record of what a version was made from. Raises `UnreadableError` for a damaged record."""
        path = self.path(number) / RECORD
        try:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UnreadableError(f"cannot read {path}: {getattr(error, 'strerror', None) or 'it is not JSON'}") from error
        if not isinstance(found, dict) or not found.keys() >= _OF_RECORDS:
            raise UnreadableError(f"cannot read {path}: it was not written by a refresh; remove the folder of that version")
        return found

    @property
    def current(self) -> int | None:
        """The version that `current` points to; None if it is not a complete version."""
        return self._named if self._named in self.numbers() else None

    @property
    def _named(self) -> int | None:
        try:
            return int(os.path.basename(os.readlink(self.folder / CURRENT)))
        except (OSError, ValueError):
            return None

    @property
    def _released(self) -> int:
        """The newest version that has been current, 0 if none is known."""
        try:
            return int((self.state / _RELEASED).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return self._named or 0

    def begin(self) -> tuple[int, Path]:
        """A number and an empty folder for a new version. Removes what killed refreshes have left."""
        for number in self._all_numbers():
            if not (self.path(number) / RECORD).is_file():
                shutil.rmtree(self.path(number), ignore_errors=True)
        # A number that readers have seen is not reused, even if its version is gone.
        number = max([*self._all_numbers(), self._released, self._named or 0]) + 1
        path = self.path(number)
        with plain_write_errors(path):
            path.mkdir(parents=True)
        return number, path

    def publish(self, number: int, record: dict[str, Any]) -> None:
        """Complete the version and make it current."""
        write_text(self.path(number) / RECORD, json.dumps(record, ensure_ascii=False, indent=2) + "\n")
        self.release(number)

    def release(self, number: int) -> None:
        """Make a complete version current, and record that it was."""
        self.point_to(number)
        write_text(self.state / _RELEASED, f"{number}\n")

    @property
    def is_released(self) -> bool:
        """Whether there is a current version and the newest has been current: it has not if a refresh was killed just before that."""
        return self.current is not None and self._released >= max(self.numbers())

    def check(self, number: int) -> None:
        """Raise `UsageError` for a version that is not there."""
        if number not in self.numbers():
            raise UsageError(f"there is no version {number}; there are {', '.join(map(str, self.numbers())) or 'none'}")

    def point_to(self, number: int) -> None:
        """Make a version current, in one step. Raises `UsageError` if it does not exist."""
        self.check(number)
        staged = self.folder / f".{CURRENT}.{os.getpid()}"
        with plain_write_errors(self.folder / CURRENT):
            staged.unlink(missing_ok=True)
            staged.symlink_to(Path("versions") / f"{number:06}")
            os.replace(staged, self.folder / CURRENT)
            _sync(self.folder)

    def retire(self, keep: int, pinned: Collection[int]) -> list[int]:
        """Remove the oldest versions, except the last `keep`, the current one and pinned ones. Returns the removed numbers."""
        gone = [number for number in self.numbers()[:-keep] if number != self.current and number not in pinned]
        for number in gone:
            # A folder without its record is not a version, so leftovers of an interrupted removal go next time.
            (self.path(number) / RECORD).unlink(missing_ok=True)
            shutil.rmtree(self.path(number), ignore_errors=True)
        return gone

    @contextlib.contextmanager
    def locked(self, wait: float = 0.0) -> Iterator[None]:
        """Lock the folder. The system releases the lock when the process ends, however it ends. Raises `LockedError`."""
        with plain_write_errors(self.folder):
            self.state.mkdir(parents=True, exist_ok=True)
            lock = (self.state / "lock").open("a+")
        with lock:
            until = time.monotonic() + wait
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError as error:
                    if time.monotonic() >= until:
                        raise LockedError(f"another refresh is using {self.folder}; --wait SECONDS waits for it") from error
                    time.sleep(0.1)
            yield


def link_if_same(new: Path, old: Path, sha256: str) -> bool:
    """Let two files with that SHA-256 share disk space. False if the old one has changed since it was written."""
    if new.exists() and old.exists() and new.samefile(old):
        return True
    if not holds(old, sha256):
        return False
    staged = new.with_name(f".{new.name}.link")
    # If the file system has no links, the copy stays.
    with contextlib.suppress(OSError):
        staged.unlink(missing_ok=True)
        os.link(old, staged)
        os.replace(staged, new)
    return True


def write_text(path: Path, text: str) -> None:
    """Write a file that appears whole, and flush it to disk."""
    with StagedFile(path) as file:
        file.write(text.encode())
        file.finish()
        file.publish()
    _sync(path.parent)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
