"""The parts of one output: one for each part of a split, in the order of the input or shuffled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import polars as pl

from rollout_etl.publish.folders import StagedFolder
from rollout_etl.publish.outputs import Output
from rollout_etl.publish.staging import SHUFFLE

if TYPE_CHECKING:
    from rollout_etl.publish.partitioned import PartitionedWriter

BUCKETS = 16
"""Default number of buckets of a shuffle, which holds one bucket of rows in memory at a time."""
_HELD_BYTES = 1 << 26


class Parts:
    """Staged outputs by the name of their part. Columns of frames say where rows go: `part` (String), `place` (UInt64) in a shuffled order."""

    def __init__(self, files: Mapping[str, Output], *, shuffled: bool = False, buckets: int = BUCKETS) -> None:
        self.files = dict(files)
        self._shuffled = shuffled
        self._width = (1 << 64) // buckets + 1
        self._stack = ExitStack()
        self._aside: PartitionedWriter | None = None

    @property
    def main(self) -> Output:
        """The first part, which has the name of the output."""
        return next(iter(self.files.values()))

    @property
    def rows(self) -> dict[str, int]:
        """Rows of each part; known after `settle`."""
        return {name: file.rows for name, file in self.files.items()}

    def append(self, frame: pl.DataFrame) -> None:
        """Write rows, or set them aside until all are there to be shuffled."""
        if not self._shuffled:
            self._write(frame)
            return
        from rollout_etl.publish.partitioned import PART, PartitionedWriter

        if self._aside is None:
            path = self.main.path
            folder = self._stack.enter_context(StagedFolder(path.with_name(f"{path.name}{SHUFFLE}"))).staged
            self._aside = self._stack.enter_context(PartitionedWriter(folder / "rows.parquet", _HELD_BYTES))
        self._aside.append(frame.with_columns((pl.col("place") // self._width).cast(pl.Int64).alias(PART)))

    def settle(self) -> None:
        """Write the rows that were set aside, in their shuffled order."""
        if self._aside is None:
            return
        from rollout_etl.publish.partitioned import PartitionedFile

        self._aside.finish({})
        rows = PartitionedFile(self._aside.path)
        for bucket in rows.parts:
            self._write(pl.concat(rows.frames(bucket)).sort("place", maintain_order=True))

    def _write(self, frame: pl.DataFrame) -> None:
        for name, file in self.files.items():
            file.append(frame.filter(pl.col("part") == name) if len(self.files) > 1 else frame)

    def __enter__(self) -> Self:
        for file in self.files.values():
            self._stack.enter_context(file)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()


class Tally(Parts):
    """Counts the rows of each part without writing them."""

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__({})
        self._counts = Counter(dict.fromkeys(names, 0))

    @property
    def rows(self) -> dict[str, int]:
        """Rows of each part."""
        return dict(self._counts)

    def append(self, frame: pl.DataFrame) -> None:
        """Count rows."""
        if len(self._counts) > 1:
            self._counts.update(dict(frame["part"].value_counts().iter_rows()))


def part_path(output: Path, part: str) -> Path:
    """Path of a part: `train.jsonl` for the first, `train.val.jsonl` for the one named `val`."""
    return output.with_name(f"{output.stem}.{part}{output.suffix}")
