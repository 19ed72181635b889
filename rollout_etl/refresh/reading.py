"""Reading new segments into rows of the store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import polars as pl

from rollout_etl.read.inputs import Input
from rollout_etl.read.lines import line_starts
from rollout_etl.read.quarantine import Account, BadLine
from rollout_etl.read.scan import Rollouts
from rollout_etl.refresh.segments import Segment
from rollout_etl.refresh.store import COLUMNS, TABLE

_PLACES = ("row", "line", "input", "found")


class SegmentReader(Rollouts):
    """Rollouts of segments, which also reports what happened to lines that are not rollouts."""

    def __init__(self, segments: Sequence[tuple[Input, Segment]], like: Rollouts, task_inputs: str | None, threads: int | None, number: int) -> None:
        super().__init__((), style=like.style, lookup=like.lookup, task_inputs=task_inputs, threads=threads, inputs=[of.of(item) for item, of in segments])
        self._segments, self._number = [of for _, of in segments], number
        self._under_way = Account()

    def _without_bad_lines(self, frame: pl.DataFrame, columns: list[str], account: Account) -> pl.DataFrame:
        self._under_way = account
        return super()._without_bad_lines(frame, columns, account)

    def rows(self) -> Iterator[pl.DataFrame]:
        """Rows of the store (see `rollout_etl.refresh.store.TABLE`), segments numbered from `number` on."""
        bad = repaired = 0
        met: set[int] = set()
        for frame in self.batches([*COLUMNS, *_PLACES]):
            account = self._under_way
            damage = pl.DataFrame(account.repairs[repaired:], schema={"row": pl.Int64, "repaired": pl.List(pl.String)}, orient="row")
            refused = pl.DataFrame([_row(line) for line in account.quarantined[bad:]], schema=_BAD, orient="row")
            bad, repaired = len(account.quarantined), len(account.repairs)
            rows = pl.concat([frame.join(damage, on="row", how="left", maintain_order="left"), refused], how="diagonal")
            for (number,), part in rows.partition_by("input", as_dict=True).items():
                met.add(int(number))
                yield self._placed(part, int(number))
        # A row for segments without lines, to record that they were read.
        yield from (self._placed(_MARK, number) for number in range(len(self._segments)) if number not in met)

    def _placed(self, rows: pl.DataFrame, number: int) -> pl.DataFrame:
        """Rows of one segment with their offsets in the file, and the description of the segment."""
        of, starts = self._segments[number], self._starts_of(number)
        places = {}
        if len(starts) and rows is not _MARK:
            line = rows["line"].to_numpy()
            places = {"start": starts[line - 1], "size": starts[line] - starts[line - 1]}
        known = {name: getattr(of, name) for name in ("origin", "before", "upto", "begin", "end")}
        constants = {"segment": self._number + number, **known, "lines": max(len(starts) - 1, 0)}
        found = rows.with_columns(**{name: pl.Series(values) for name, values in places.items()}, **{name: pl.lit(value) for name, value in constants.items()})
        return found.select((pl.col(name) if name in found.columns else pl.lit(None, dtype=dtype).alias(name)).cast(dtype) for name, dtype in TABLE.items())

    @cache  # noqa: B019 - as long-lived as the scan
    def _starts_of(self, number: int) -> np.ndarray:
        item = self.inputs[number]
        return line_starts(item) if item.is_plain else np.empty(0, dtype=np.int64)


_BAD = pl.Schema({"row": pl.Int64(), "line": pl.Int64(), "input": pl.Int32(), "reason": pl.String(), "bad_text": pl.Binary()})

_MARK = pl.DataFrame({"reason": ["no lines"]})


def _row(line: BadLine) -> tuple[object, ...]:
    return line.row, line.line, line.input, line.reason, line.text
