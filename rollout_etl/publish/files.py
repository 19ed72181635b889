"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import polars as pl
import pyarrow.parquet as pq

from rollout_etl.errors import InternalError, UsageError, WriteError
from rollout_etl.publish.guesses import TypeGuesses
from rollout_etl.publish.rows import Field, arrow_table, json_lines

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
    """Turn what the system says while `path` is written into one plain line."""
    try:
        yield
    except OSError as error:
        reason = "no space left on the disk" if error.errno in (errno.ENOSPC, errno.EDQUOT) else (error.strerror or str(error))
        raise WriteError(f"cannot write {path}: {reason}; what was there before is untouched") from error


class StagedFile:
    """A file written beside its place and moved there on `publish`. Left without publishing, it goes."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.rows = 0
        self._digest = hashlib.sha256()
        self._bytes = 0
        self._staged = self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")
        with plain_write_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _remove_leftovers(self.path)
            self._file = self._staged.open("wb", buffering=0)
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="writer")
        self._pending: deque[Future[None]] = deque()

    def write(self, data: Any, rows: int = 0) -> None:
        """Append bytes (anything with the buffer protocol, not changed afterwards) that hold `rows` rows.

        They are written by a thread, so an error may show at the next call.
        """
        view = memoryview(data).cast("B")
        self._bytes += len(view)
        self.rows += rows
        self._pending.append(self._writer.submit(self._write_now, view))
        self._settle(_WRITES_AHEAD)

    def _write_now(self, view: memoryview) -> None:
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
        """Bring the bytes to the disk and say what they are."""
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

    # What pyarrow asks of a file to write Parquet into.
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


def _remove_leftovers(path: Path) -> None:
    """Staged files of runs that died."""
    pattern = re.compile(re.escape(f".{path.name}.") + r"(\d+)\.partial")
    for entry in os.scandir(path.parent):
        match = pattern.fullmatch(entry.name)
        if match and not _is_running(int(match[1])):
            # Another run may be tidying up at the same time.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(entry.path)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return process != os.getpid()


class RowsFile:
    """A staged file of training rows, `.jsonl` or `.parquet` by its name."""

    def __init__(self, path: str | os.PathLike[str], fields: Sequence[Field], *, guessed_messages: bool = False) -> None:
        if not str(path).endswith((".jsonl", ".parquet")):
            raise UsageError(f"the output {path} must end with .jsonl or .parquet")
        self.staged = StagedFile(path)
        self._fields = fields
        self._parquet: pq.ParquetWriter | None = None
        self.guesses = TypeGuesses(fields, messages=guessed_messages)
        """What a reader that guesses types would make of the JSON lines."""

    def append(self, frame: pl.DataFrame) -> None:
        """Write the rows that `frame` makes."""
        if frame.is_empty():
            return
        if self.staged.path.suffix == ".jsonl":
            lines = json_lines(frame, self._fields)
            self.guesses.look(frame, lines.str.len_bytes())
            arrow = lines.to_arrow(compat_level=pl.CompatLevel.oldest())
            if arrow.null_count:
                raise InternalError(f"{arrow.null_count} rows came out empty: a bug in rollout-etl, please report it; nothing was published")
            _, offsets, data = arrow.buffers()
            bounds = memoryview(offsets).cast("q")[arrow.offset : arrow.offset + len(arrow) + 1]
            self.staged.write(data[bounds[0] : bounds[-1]], rows=len(frame))
            return
        table = arrow_table(frame, self._fields)
        with plain_write_errors(self.staged.path):
            if self._parquet is None:
                self._parquet = pq.ParquetWriter(self.staged, table.schema, compression="zstd")
            self._parquet.write_table(table, row_group_size=50_000)
        self.staged.rows += len(frame)

    def finish(self) -> Written:
        """Bring the bytes to the disk and say what they are."""
        if self._parquet is not None:
            with plain_write_errors(self.staged.path):
                self._parquet.close()
        return self.staged.finish()

    def __enter__(self) -> Self:
        self.staged.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # A writer that is left open writes its end when it is collected, into a file that is gone by then.
        with contextlib.suppress(Exception):
            if self._parquet is not None:
                self._parquet.close()
        self.staged.__exit__(kind, error, trace)
