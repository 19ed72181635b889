"""Writing training rows to an output: one file, or a folder of shards."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

import polars as pl
import pyarrow as pa

from rollout_etl.errors import InternalError, UsageError
from rollout_etl.option_values import check_least
from rollout_etl.publish.cuts import Cuts
from rollout_etl.publish.files import StagedFile, Written, plain_write_errors
from rollout_etl.publish.folders import StagedFolder, shard_name
from rollout_etl.publish.guesses import TypeGuesses
from rollout_etl.publish.rows import Field, arrow_table, json_lines
from rollout_etl.publish.text_bytes import bytes_of

if TYPE_CHECKING:
    import pyarrow.parquet as pq

_GROUP_ROWS, _GROUP_BYTES = 50_000, 1 << 27
"""A row group of Parquet is closed when either limit is reached."""
_OTHER_FILES = 100


@dataclass(frozen=True)
class Sharding:
    """How rows are distributed to shards: by size, in turn, or at content-defined boundaries. Exactly one of the three is set."""

    size: int | None = None
    """Bytes of a shard: JSON lines as written, or texts before Parquet compresses them. A longer row is a shard of its own."""
    count: int | None = None
    rows: int | None = None
    """Approximate number of examples in a shard (see `rollout_etl.publish.shard_plan`)."""

    def __post_init__(self) -> None:
        ways = [name for name in ("size", "count", "rows") if getattr(self, name) is not None]
        if len(ways) != 1:
            raise UsageError(f"Sharding takes one of size, count and rows, not {' and '.join(ways) or 'none'}")
        check_least(ways[0], getattr(self, ways[0]))


class Output(Protocol):
    """Where the rows of one part are written."""

    path: Path

    @property
    def rows(self) -> int:
        """Rows so far."""

    def append(self, frame: pl.DataFrame) -> None:
        """Write the rows of `frame`."""

    @property
    def guesses(self) -> Sequence[TypeGuesses]:
        """How a reader that guesses types would read the JSON lines, file by file."""

    def finish(self) -> list[Written]:
        """Flush the bytes to disk and describe the files."""

    def publish(self) -> None:
        """Move everything to its place."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: Any) -> None: ...


class RowsFile:
    """A staged file of training rows, `.jsonl` or `.parquet` by its name."""

    def __init__(self, path: Path, fields: Sequence[Field], *, guessed_messages: bool = False, first: TypeGuesses | None = None, share: int = 1) -> None:
        """A shard needs the guesses of the `first` one, and how many are written at the same time (`share`)."""
        if path.suffix not in (".jsonl", ".parquet"):
            raise UsageError(f"the output {path} must end with .jsonl or .parquet")
        self.path = path
        self._staged = StagedFile(path)
        self._fields = fields
        self._parquet: pq.ParquetWriter | None = None
        self._group: list[pa.Table] = []
        self._cuts = Cuts(_GROUP_BYTES // share, max(1, _GROUP_ROWS // share))
        self._guesses: TypeGuesses = TypeGuesses(fields, messages=guessed_messages, first=first)

    @property
    def rows(self) -> int:
        return self._staged.rows

    @property
    def guesses(self) -> Sequence[TypeGuesses]:
        return [self._guesses]

    def append(self, frame: pl.DataFrame) -> None:
        if frame.is_empty():
            return
        if self.path.suffix == ".jsonl":
            self.append_lines(frame, json_lines(frame, self._fields))
            return
        table = arrow_table(frame, self._fields)
        for start, length, begins in self._cuts.pieces(text_bytes(frame, self._fields)):
            if begins:
                self._write_group()
            self._group.append(table.slice(start, length))
        self._staged.rows += len(frame)

    def append_lines(self, frame: pl.DataFrame, lines: pl.Series) -> None:
        """Write JSON lines that were made from `frame`."""
        self._guesses.look(frame, lines.str.len_bytes())
        if empty := lines.null_count():
            raise InternalError(f"{empty} rows came out empty: a bug in rollout-etl, please report it; nothing was published")
        self._staged.write(*bytes_of(lines), rows=len(frame))

    def _write_group(self) -> None:
        if not self._group:
            return
        import pyarrow.parquet as pq

        # In one piece: pages end where pieces end, and rollouts arrive in varying chunks.
        table = pa.concat_tables(self._group).combine_chunks()
        self._group = []
        with plain_write_errors(self.path):
            if self._parquet is None:
                self._parquet = pq.ParquetWriter(self._staged, table.schema, compression="zstd")
            self._parquet.write_table(table, row_group_size=len(table))

    def finish(self) -> list[Written]:
        self._write_group()
        if self._parquet is not None:
            with plain_write_errors(self.path):
                self._parquet.close()
        return [self._staged.finish()]

    def publish(self) -> None:
        self._staged.publish()

    def __enter__(self) -> Self:
        self._staged.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # An open writer would write its footer when it is garbage-collected, into a file that is gone by then.
        with contextlib.suppress(Exception):
            if self._parquet is not None:
                self._parquet.close()
        self._staged.__exit__(kind, error, trace)


class ShardedRows:
    """A staged folder of shards, `part-00000.jsonl` and so on."""

    def __init__(self, path: Path, fields: Sequence[Field], sharding: Sharding, suffix: str, *, guessed_messages: bool = False) -> None:
        self.path = path
        self.rows = 0
        self._fields, self._suffix, self._guessed = fields, suffix, guessed_messages
        self._sharding = sharding
        self._folder = StagedFolder(path)
        self._shards: list[RowsFile] = []
        self._written: list[Written] = []
        self._cuts = Cuts(sharding.size or 0)
        _allow_open_files(sharding.count or 0)

    @property
    def guesses(self) -> Sequence[TypeGuesses]:
        return [shard.guesses[0] for shard in self._shards]

    def append(self, frame: pl.DataFrame) -> None:
        if frame.is_empty():
            return
        if self._sharding.count is not None:
            self._deal_in_turn(frame, self._sharding.count)
        else:
            self._fill_one_by_one(frame)
        self.rows += len(frame)

    def _deal_in_turn(self, frame: pl.DataFrame, count: int) -> None:
        while len(self._shards) < min(count, self.rows + len(frame)):
            self._open(share=count)
        for number, shard in enumerate(self._shards):
            shard.append(frame.gather_every(count, offset=(number - self.rows) % count))

    def _fill_one_by_one(self, frame: pl.DataFrame) -> None:
        lines = json_lines(frame, self._fields) if self._suffix == ".jsonl" else None
        sizes = text_bytes(frame, self._fields) if lines is None else lines.str.len_bytes()
        for start, length, begins in self._cuts.pieces(sizes):
            if begins:
                self._close_next()
                self._open()
            if lines is None:
                self._shards[-1].append(frame.slice(start, length))
            else:
                self._shards[-1].append_lines(frame.slice(start, length), lines.slice(start, length))

    def _open(self, share: int = 1) -> None:
        path = self._folder.staged / shard_name(len(self._shards), self._suffix)
        first = self._shards[0].guesses[0] if self._shards else None
        self._shards.append(RowsFile(path, self._fields, guessed_messages=self._guessed, first=first, share=share))

    def _close_next(self) -> None:
        """Finish a full shard, so that few files are open, however many shards there are."""
        if len(self._written) < len(self._shards):
            shard = self._shards[len(self._written)]
            self._written += shard.finish()
            shard.publish()
            # Its thread goes as well.
            shard.__exit__(None, None, None)

    def finish(self) -> list[Written]:
        while len(self._written) < len(self._shards):
            self._close_next()
        return [replace(written, path=os.fspath(self.path / os.path.basename(written.path))) for written in self._written]

    def publish(self) -> None:
        self._folder.publish()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for shard in self._shards:
            shard.__exit__(kind, error, trace)
        self._folder.__exit__(kind, error, trace)


def _allow_open_files(count: int) -> None:
    """Raise the limit of open files to the number of shards that are written side by side, and some more, as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def text_bytes(frame: pl.DataFrame, fields: Sequence[Field]) -> pl.Series:
    """Bytes of the texts in each row."""
    names = {name for field in fields for name in field.sources if frame.schema.get(name) == pl.String}
    return frame.with_columns(_bytes=pl.sum_horizontal(pl.lit(0), *(pl.col(name).str.len_bytes() for name in sorted(names))))["_bytes"]
