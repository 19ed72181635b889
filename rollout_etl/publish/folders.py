"""Folders of shards that appear whole or not at all."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
from pathlib import Path
from types import TracebackType
from typing import Self

from rollout_etl.errors import UsageError
from rollout_etl.publish.files import plain_write_errors
from rollout_etl.publish.staging import give_back, hold, make_room, staged_path

SHARD = re.compile(r"part-\d{5,}\.(jsonl|parquet)")
_HERE, _EXCHANGE = -100, 2


def shard_name(number: int, suffix: str) -> str:
    """Name of a shard in its folder; `suffix` is `.jsonl` or `.parquet`."""
    return f"part-{number:05}{suffix}"


def check_replaceable(path: Path) -> None:
    """Raise `UsageError` for a folder that holds anything but shards, which would be lost."""
    if path.is_dir():
        for entry in os.scandir(path):
            if not (SHARD.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)):
                raise UsageError(f"{path} holds {entry.name}, which is not a shard: a run replaces the whole folder, so name another one")


def files_of(path: Path) -> list[Path]:
    """The shards of a folder, or the file itself. Raises `UsageError` if it does not exist, and for a folder without shards."""
    if not path.is_dir():
        if not path.is_file():
            raise UsageError(f"no such file: {path}")
        return [path]
    found = sorted(entry for entry in path.iterdir() if SHARD.fullmatch(entry.name))
    if not found:
        raise UsageError(f"{path} holds no shards: name a file")
    return found


class StagedFolder:
    """A folder that is filled next to its place and moved there by `publish`, in one step if the system can. Without that, it is removed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.staged = staged_path(path)
        with plain_write_errors(path):
            self._made = make_room(path)
            self.staged.mkdir()
            self._held = os.open(self.staged, os.O_RDONLY)
        hold(self._held)

    def publish(self) -> None:
        """Move the folder to its place, replacing what was there."""
        with plain_write_errors(self.path):
            if not _exchanged(self.staged, self.path):
                aside = self.staged.with_suffix(".replaced")
                if self.path.exists():
                    os.rename(self.path, aside)
                os.rename(self.staged, self.path)
                shutil.rmtree(aside, ignore_errors=True)
        self._clear()

    def _clear(self) -> None:
        if self.staged.is_dir():
            shutil.rmtree(self.staged, ignore_errors=True)
        else:
            self.staged.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self._held)
        self._clear()
        give_back(self._made)


def _exchanged(one: Path, other: Path) -> bool:
    """Swap two paths in one step. False if one does not exist, or if the system or file system cannot do that (Linux can)."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    if rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOENT, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        return False
    raise OSError(code, os.strerror(code))
