"""Writing training rows to planned shards, next to shards that are reused from an earlier run."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import polars as pl

from rollout_etl.publish.files import Written, plain_write_errors
from rollout_etl.publish.folders import StagedFolder, shard_name
from rollout_etl.publish.guesses import TypeGuesses
from rollout_etl.publish.outputs import RowsFile
from rollout_etl.publish.rows import Field
from rollout_etl.publish.shard_plan import SHARD, Shard


class PlannedRows:
    """A staged folder of shards. The column `SHARD` says which shard a row goes to, in order; shards without rows are reused, or empty."""

    def __init__(self, path: Path, fields: Sequence[Field], shards: Sequence[Shard], suffix: str, *, guessed_messages: bool = False) -> None:
        self.path = path
        self._fields, self._shards, self._suffix, self._guessed = fields, shards, suffix, guessed_messages
        self._folder = StagedFolder(path)
        self._open: tuple[int, RowsFile] | None = None
        self._made: dict[int, tuple[Written, TypeGuesses]] = {}
        self._first: TypeGuesses | None = None

    @property
    def rows(self) -> int:
        """Rows so far, including those of reused shards."""
        return sum(shard.rows for shard in self._shards if shard.earlier) + self._written

    @property
    def _written(self) -> int:
        return sum(written.rows for written, _ in self._made.values()) + (self._open[1].rows if self._open else 0)

    @property
    def guesses(self) -> Sequence[TypeGuesses]:
        """How a reader that guesses types would read the JSON lines, file by file."""
        taken_over = [TypeGuesses.remembered(shard.guesses) for shard in self._shards if shard.earlier and shard.guesses]
        return [*taken_over, *(guesses for _, guesses in self._made.values()), *(self._open[1].guesses if self._open else ())]

    def append(self, frame: pl.DataFrame) -> None:
        """Write the rows of `frame`."""
        for (number,), rows in frame.partition_by(SHARD, as_dict=True, maintain_order=True).items():
            if self._open is None or self._open[0] != number:
                self._close()
                file = RowsFile(self._folder.staged / f"{number:06}{self._suffix}", self._fields, guessed_messages=self._guessed, first=self._first_guesses())
                self._open = int(number), file
            self._open[1].append(rows)

    def _first_guesses(self) -> TypeGuesses | None:
        """The guesses of the first shard, whose first block decides the types of all."""
        first = next((shard for shard in self._shards if shard.rows), None)
        if self._first is None and first is not None and first.earlier and first.guesses:
            self._first = TypeGuesses.remembered(first.guesses)
        elif self._first is None and self._made:
            self._first = next(iter(self._made.values()))[1]
        return self._first

    def _close(self) -> None:
        """Finish a complete shard, so that one file is open at a time, however many shards there are."""
        if self._open is not None:
            number, file = self._open
            (written,) = file.finish()
            file.publish()
            file.__exit__(None, None, None)
            shard = self._shards[number]
            shard.rows, shard.bytes, shard.sha256, shard.guesses = written.rows, written.bytes, written.sha256, file.guesses[0].to_json()
            self._made[number] = written, file.guesses[0]
            self._open = None

    def finish(self) -> list[Written]:
        """Flush the bytes to disk, number the shards that have rows, and describe the files."""
        self._close()
        found: list[Written] = []
        with plain_write_errors(self.path):
            for number, shard in enumerate(self._shards):
                if shard.rows:
                    name = shard_name(len(found), self._suffix)
                    if shard.earlier:
                        _link(shard.earlier, self._folder.staged / name)
                    else:
                        os.rename(self._folder.staged / f"{number:06}{self._suffix}", self._folder.staged / name)
                    shard.file = f"{self.path.name}/{name}"
                    found.append(Written(os.fspath(self.path / name), shard.rows, shard.bytes, shard.sha256))
        return found

    def publish(self) -> None:
        """Move everything to its place."""
        self._folder.publish()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._open is not None:
            self._open[1].__exit__(kind, error, trace)
        self._folder.__exit__(kind, error, trace)


def _link(old: Path, new: Path) -> None:
    """Link two names to the same file, or copy it if the file system has no links."""
    with contextlib.suppress(OSError):
        os.link(old, new)
        return
    shutil.copyfile(old, new)
