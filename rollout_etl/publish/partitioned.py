"""Parquet files partitioned by a number: each row group holds rows of one part, so that a part can be read without the others."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from rollout_etl.publish.files import plain_write_errors

PART = "_part"
"""Column (Int64) that says which part a row belongs to; it is not written."""


class PartitionedWriter:
    """A file that appears whole, with `facts` (JSON values) about it, when it is finished.

    Rows of `held_bytes` are partitioned together, so that a part from many small frames is written in few pieces.
    """

    def __init__(self, path: Path, held_bytes: int = 0) -> None:
        self.path = path
        self._held_bytes = held_bytes
        self._held: list[pl.DataFrame] = []
        self._size = 0
        # Two workers may make the same file if one was wrongly thought lost.
        self._staged = path.with_name(f".{path.name}.{uuid4().hex}.partial")
        self._writer: pq.ParquetWriter | None = None
        self._parts: list[int] = []

    def append(self, frame: pl.DataFrame) -> None:
        """Write rows; the rows of a part keep their order."""
        self._held.append(frame)
        self._size += int(frame.estimated_size())
        if self._size >= self._held_bytes:
            self._put_apart()

    def _put_apart(self) -> None:
        if not self._held:
            return
        frame = pl.concat(self._held)
        self._held, self._size = [], 0
        with plain_write_errors(self.path):
            for (part,), rows in sorted(frame.partition_by(PART, as_dict=True, include_key=False, maintain_order=True).items()):
                self._write(rows.to_arrow(compat_level=pl.CompatLevel.oldest()))
                self._parts.append(int(part))

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Move the file to its place. Without rows it has only facts."""
        self._put_apart()
        with plain_write_errors(self.path):
            if self._writer is None:
                self._open(pa.schema([]))
            assert self._writer is not None
            self._writer.add_key_value_metadata({"parts": json.dumps(self._parts), "facts": json.dumps(facts)})
            self._writer.close()
            os.replace(self._staged, self.path)

    def _open(self, schema: pa.Schema) -> None:
        # Every row group is read as a whole, once, so dictionaries and statistics would not help.
        self._writer = pq.ParquetWriter(self._staged, schema, compression="lz4", use_dictionary=False, write_statistics=False)

    def _write(self, table: pa.Table) -> None:
        if self._writer is None:
            self._open(table.schema)
        assert self._writer is not None
        # A row group belongs to one part, however many rows it has.
        self._writer.write_table(table, row_group_size=max(len(table), 1))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None and self._writer is not None:
            self._writer.close()
        self._staged.unlink(missing_ok=True)


class PartitionedFile:
    """A file that `PartitionedWriter` wrote."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with pq.ParquetFile(path) as file:
            self._metadata = file.metadata
        found = self._metadata.metadata
        self._parts: list[int] = json.loads(found[b"parts"])
        self.facts: dict[str, Any] = json.loads(found[b"facts"])

    @property
    def parts(self) -> list[int]:
        """The parts that have rows, in their order."""
        return sorted(set(self._parts))

    def frames(self, part: int | None = None) -> Iterator[pl.DataFrame]:
        """The row groups of a part, or all, in the order they were written."""
        groups = [number for number, of in enumerate(self._parts) if part is None or of == part]
        if groups:
            with pq.ParquetFile(self.path, metadata=self._metadata) as file:
                for group in groups:
                    frame = pl.from_arrow(file.read_row_group(group))
                    assert isinstance(frame, pl.DataFrame)
                    yield frame
