"""Versions of published training files, and the pointer to the one to use.

    training/
      current -> versions/000007        moved in one step: readers see one version or the other
      versions/000007/sft.jsonl         training files, the run files and manifests beside them, a README
      versions/000007/version.json      what the version was made of; written last, so a folder without it is none
      .refresh/                         the lock, remembered fingerprints, what the last refresh did
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
from rollout_etl.publish.files import StagedFile, plain_write_errors

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
        """Numbers of whole versions, from the oldest to the newest."""
        return [number for number in self._all_numbers() if (self.path(number) / RECORD).is_file()]

    def _all_numbers(self) -> list[int]:
        with contextlib.suppress(FileNotFoundError):
            return sorted(int(entry.name) for entry in os.scandir(self.folder / "versions") if _NAME.fullmatch(entry.name))
        return []

    def record(self, number: int) -> dict[str, Any]:
        """What a version was made of. Raises `UnreadableError` for a record that is damaged."""
        path = self.path(number) / RECORD
        try:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UnreadableError(f"cannot read {path}: {getattr(error, 'strerror', None) or 'it is no JSON'}") from error
        if not isinstance(found, dict) or not found.keys() >= _OF_RECORDS:
            raise UnreadableError(f"cannot read {path}: it is not what a refresh writes; remove the folder of that version")
        return found

    @property
    def current(self) -> int | None:
        """The version that `current` names; None where it names none that is whole."""
        return self._named if self._named in self.numbers() else None

    @property
    def _named(self) -> int | None:
        try:
            return int(os.path.basename(os.readlink(self.folder / CURRENT)))
        except (OSError, ValueError):
            return None

    @property
    def _released(self) -> int:
        """The newest version that has been the one to use, 0 where none is known."""
        try:
            return int((self.state / _RELEASED).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return self._named or 0

    def begin(self) -> tuple[int, Path]:
        """A number and an empty folder for a new version. What refreshes left that died goes."""
        for number in self._all_numbers():
            if not (self.path(number) / RECORD).is_file():
                shutil.rmtree(self.path(number), ignore_errors=True)
        # A number that readers have met is not given again, though its version be gone.
        number = max([*self._all_numbers(), self._released, self._named or 0]) + 1
        path = self.path(number)
        with plain_write_errors(path):
            path.mkdir(parents=True)
        return number, path

    def publish(self, number: int, record: dict[str, Any]) -> None:
        """Make the version whole and the one to use."""
        write_text(self.path(number) / RECORD, json.dumps(record, ensure_ascii=False, indent=2) + "\n")
        self.release(number)

    def release(self, number: int) -> None:
        """Make a whole version the one to use, and note that it was."""
        self.point_to(number)
        write_text(self.state / _RELEASED, f"{number}\n")

    @property
    def is_released(self) -> bool:
        """Whether there is one to use, and the newest has been it: it was not where a refresh died just before."""
        return self.current is not None and self._released >= max(self.numbers())

    def check(self, number: int) -> None:
        """Raise `UsageError` for a version that is not there."""
        if number not in self.numbers():
            raise UsageError(f"there is no version {number}; there are {', '.join(map(str, self.numbers())) or 'none'}")

    def point_to(self, number: int) -> None:
        """Make a version the one to use, in one step. Raises `UsageError` for one that is not there."""
        self.check(number)
        staged = self.folder / f".{CURRENT}.{os.getpid()}"
        with plain_write_errors(self.folder / CURRENT):
            staged.unlink(missing_ok=True)
            staged.symlink_to(Path("versions") / f"{number:06}")
            os.replace(staged, self.folder / CURRENT)
            _sync(self.folder)

    def retire(self, keep: int, pinned: Collection[int]) -> list[int]:
        """Remove the oldest versions but the last `keep`, the current one and pinned ones; the numbers that went."""
        gone = [number for number in self.numbers()[:-keep] if number != self.current and number not in pinned]
        for number in gone:
            # Without its record a version is none: what is left if this stops half-way goes next time.
            (self.path(number) / RECORD).unlink(missing_ok=True)
            shutil.rmtree(self.path(number), ignore_errors=True)
        return gone

    @contextlib.contextmanager
    def locked(self, wait: float = 0.0) -> Iterator[None]:
        """Hold the folder. The system lets go when the process ends, however it ends. Raises `LockedError`."""
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
                        raise LockedError(f"another refresh is at work on {self.folder}; --wait SECONDS waits for it") from error
                    time.sleep(0.1)
            yield


def link_if_same(new: Path, old: Path) -> None:
    """Let two files that hold the same share their place on the disk."""
    if new.exists() and old.exists() and new.samefile(old):
        return
    staged = new.with_name(f".{new.name}.link")
    # Where the file system has no links, the copy stays.
    with contextlib.suppress(OSError):
        staged.unlink(missing_ok=True)
        os.link(old, staged)
        os.replace(staged, new)


def write_text(path: Path, text: str) -> None:
    """Write a file that appears whole, and survives the machine."""
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
