"""The temporary folder of a run in ranges: the files of its tasks, and whether an interrupted run can be resumed."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rollout_etl.errors import LockedError, UnreadableError, UsageError, WriteError
from rollout_etl.publish.files import plain_write_errors
from rollout_etl.read.inputs import Input

_RECORD, _LOCK = "run.json", "lock"
_ENDS = 1 << 16
"""Bytes at both ends of a file that are hashed, to distinguish files of the same size and time."""


class Workspace:
    """The folder for an output path, inside `parent`. A run that is killed leaves it; one that ends removes it."""

    def __init__(self, parent: Path, output: Path, fingerprint: Mapping[str, Any]) -> None:
        place = hashlib.sha256(os.path.realpath(output).encode()).hexdigest()[:12]
        self.folder = parent / f".{output.name}.{place}.unfinished"
        self._fingerprint = json.loads(json.dumps(fingerprint))
        self.starts_over = False
        """Whether the folder was left by a run with other inputs or options."""

    def __enter__(self) -> Self:
        if self.folder.parent.exists() and not self.folder.parent.is_dir():
            raise UsageError(f"{self.folder.parent} is not a folder for temporary files")
        with plain_write_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = (self.folder / _LOCK).open("a+")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise LockedError(f"another run for the same output is using {self.folder}") from error
        record = self.folder / _RECORD
        try:
            earlier = json.loads(record.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            earlier = None
        if earlier != self._fingerprint:
            self.starts_over = earlier is not None
            with plain_write_errors(self.folder):
                self._clear()
                staged = record.with_suffix(".partial")
                staged.write_text(json.dumps(self._fingerprint), encoding="utf-8")
                os.replace(staged, record)
        return self

    def _clear(self) -> None:
        for path in self.folder.iterdir():
            if path.name != _LOCK:
                path.unlink()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # A run stopped by a full disk or Ctrl-C can be resumed; an error in the input would only occur again.
        if kind is None or (issubclass(kind, UsageError | UnreadableError) and not issubclass(kind, WriteError)):
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()


def fingerprint_of(inputs: Iterable[Input]) -> list[list[Any]]:
    """What identifies unchanged files: path, size, time, and a hash of both ends; for remote files only the path."""
    return [[item.path, item.name, item.number, *(entry for path in _files(item) for entry in _entry(path))] for item in inputs]


def fingerprint_of_named(paths: Iterable[str | None]) -> list[list[Any]]:
    """The same for files that options name; a folder counts with its files, and what is no file (a name on a hub) is left out."""
    found = [sorted(path.iterdir()) if path.is_dir() else [path] for path in map(Path, filter(None, paths))]
    return [_entry(str(path)) for some in found for path in some if path.is_file()]


def _files(item: Input) -> list[str]:
    if item.stored is not None:
        return item.stored.files if item.number == 0 else []
    return [path for path in (item.local_path, item.task_inputs) if path is not None]


def _entry(path: str) -> list[Any]:
    try:
        with open(path, "rb") as file:
            found = os.fstat(file.fileno())
            digest = hashlib.sha256(file.read(_ENDS))
            file.seek(max(found.st_size - _ENDS, 0))
            digest.update(file.read(_ENDS))
    except OSError as error:
        raise UnreadableError(f"cannot read {path}: {error.strerror}") from error
    return [path, found.st_size, found.st_mtime_ns, digest.hexdigest()]
