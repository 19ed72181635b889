"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rollout_etl.errors import UsageError, WriteError
from rollout_etl.publish.staging import give_back, hold, make_room, refuse_home, staged_path

_WRITES_AHEAD = 3


@dataclass(frozen=True)
class Written:
    """A file that was written."""

    path: str
    rows: int
    bytes: int
    sha256: str


@contextlib.contextmanager
def plain_write_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn system errors while `path` is written into one plain line."""
    try:
        yield
    except OSError as error:
        reason = "no space left on the disk" if error.errno in (errno.ENOSPC, errno.EDQUOT) else (error.strerror or str(error))
        raise WriteError(f"cannot write {path}: {reason}; what was there before is untouched") from error


def sha256_of(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file's bytes. Raises `OSError`."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def holds(path: Path, sha256: str) -> bool:
    """Whether a file is there, readable, and what it was when it was written."""
    try:
        return sha256_of(path) == sha256
    except OSError:
        return False


def refuse_place(path: str | os.PathLike[str], inputs: Iterable[str | None], kind: str = "output") -> None:
    """Raise `UsageError` if `path`, the place for a file of this `kind`, begins with `~/` or is one of `inputs` (None: not on this machine)."""
    refuse_home(Path(path))
    if os.path.realpath(path) in {os.path.realpath(local) for local in inputs if local is not None}:
        raise UsageError(f"{path} is an input; give the {kind} another name")


class StagedFile:
    """A file that is written next to its place and moved there by `publish`. Without that, it is removed."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.rows = 0
        self._digest = hashlib.sha256()
        self._bytes = 0
        self._staged = staged_path(self.path)
        # Moving a file to the place of a device or a pipe would replace it for everybody. /dev/stdout is a link, which may lead to a file.
        is_open_file = self.path.is_symlink() and os.readlink(self.path).startswith("/proc/")
        if is_open_file or (self.path.exists() and not self.path.is_file() and not self.path.is_dir()):
            raise WriteError(f"cannot write {self.path}: it is not a regular file")
        with plain_write_errors(self.path):
            self._made = make_room(self.path)
            self._file = self._staged.open("wb", buffering=0)
        hold(self._file.fileno())
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="writer")
        self._pending: deque[Future[None]] = deque()

    def write(self, *pieces: Any, rows: int = 0) -> None:
        """Append bytes (anything with the buffer protocol, not changed afterwards) that hold `rows` rows.

        A thread writes them, so an error may be raised by a later call.
        """
        views = [memoryview(piece).cast("B") for piece in pieces]
        self._bytes += sum(len(view) for view in views)
        self.rows += rows
        self._pending.append(self._writer.submit(self._write_now, views))
        self._settle(_WRITES_AHEAD)

    def _write_now(self, views: Sequence[memoryview]) -> None:
        for view in views:
            done = 0
            while done < len(view):
                done += self._file.write(view[done:]) or 0
            self._digest.update(view)

    def _settle(self, left: int) -> None:
        """Wait until at most `left` writes are under way."""
        with plain_write_errors(self.path):
            while len(self._pending) > left:
                self._pending.popleft().result()

    def finish(self) -> Written:
        """Flush the bytes to disk and describe the file."""
        self._settle(0)
        with plain_write_errors(self.path):
            os.fsync(self._file.fileno())
            self._file.close()
        return Written(str(self.path), self.rows, self._bytes, self._digest.hexdigest())

    def publish(self) -> None:
        """Move the file to its place, in one step."""
        with plain_write_errors(self.path):
            os.replace(self._staged, self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._writer.shutdown(cancel_futures=True)
        self._file.close()
        self._staged.unlink(missing_ok=True)
        give_back(self._made)

    # The methods that pyarrow needs to write Parquet into a file.
    closed = False

    def tell(self) -> int:
        return self._bytes

    def flush(self) -> None:
        return None

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def close(self) -> None:
        return None
