"""A judge that needs little memory: it reads range by range, keeps results on disk, and returns them bucket by bucket or piece by piece."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import pyarrow as pa

from rollout_etl.bounded.passes import Pass, Span, add_facts
from rollout_etl.bounded.ranges import Range
from rollout_etl.curate import plan
from rollout_etl.curate.groups import GROUP, group_table
from rollout_etl.curate.options import Curation
from rollout_etl.curate.rules import Rule
from rollout_etl.engines import Engine
from rollout_etl.progress import Stage
from rollout_etl.publish.files import plain_write_errors
from rollout_etl.publish.partitioned import PART, PartitionedFile
from rollout_etl.read.quarantine import Account
from rollout_etl.read.scan import Rollouts
from rollout_etl.run.judging import TIED, Judge, empty
from rollout_etl.run.report import Report
from rollout_etl.run.stretches import stretch_bounds


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """How a run is divided."""

    ranges: Sequence[Range]
    buckets: int
    piece_bytes: int
    """Bytes that are written at a time: lines of pairs, or rows being partitioned."""


class BoundedJudge(Judge):
    """Does what `Judge` does, with tasks that an engine executes in `folder`."""

    def __init__(self, rollouts: Rollouts, curation: Curation, report: Report, *, bounds: Bounds, folder: Path, engine: Engine) -> None:
        super().__init__(rollouts, curation, report)
        self._bounds, self._folder, self._engine = bounds, folder, engine
        self._whole = Judge(rollouts, curation, report).over(rollouts.inputs)
        self._spans = [Span()] * len(bounds.ranges)
        self._bucket = 0
        self.tasks = self.done_before = self.lines_before = 0

    def judged(self, rules: Sequence[Rule], columns: Sequence[str], min_reward: float | None = None) -> Iterator[pl.DataFrame]:
        """See `Judge`."""
        yield from self._in_order(self._judged(rules, columns, min_reward), columns)

    def chosen(self, rules: Sequence[Rule], columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """See `Judge`: a frame for each bucket of groups, in the order of their keys."""
        yield from self._narrow(rules, columns, counted=True)

    def glimpsed(self, rules: Sequence[Rule], columns: Sequence[str]) -> Iterator[pl.DataFrame] | None:
        """See `Judge`."""
        return self._narrow(rules, columns, counted=False)

    def fetched(self, columns: Sequence[str], rows: np.ndarray) -> Iterator[pl.DataFrame]:
        """See `Judge`."""
        wanted = pl.DataFrame({"row": rows}, schema={"row": pl.Int64}).with_columns(pl.lit(0, dtype=pl.Int64).alias(PART))
        yield from self._in_order(self._fetch(columns, wanted), columns)

    def together(self, columns: Sequence[str], pairs: pl.DataFrame, sizes: pl.Series) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
        """See `Judge`: stretches are pieces, which are written in turn."""
        bounds = stretch_bounds(sizes, self._bounds.piece_bytes)
        files = self._fetch(columns, _in_pieces(pairs, bounds))
        for number, (start, end) in enumerate(pairwise(bounds)):
            yield pairs[start:end], pl.concat(self._placed(frame, at).select(columns) for at, file in enumerate(files) for frame in file.frames(number))
            # Arrow keeps the memory of a piece, which the frames of the next one cannot use.
            pa.default_memory_pool().release_unused()

    @property
    def _votes(self) -> pl.LazyFrame:
        return pl.concat([empty((*GROUP, "reward")), *(frame for file in self._voted for frame in file.frames(self._bucket))]).lazy()

    @cached_property
    def statistics(self) -> pl.DataFrame:
        """See `Judge`."""
        tables = []
        for bucket in range(self._bounds.buckets):
            self._bucket = bucket
            tables.append(group_table(self._votes, self.curation.success).collect())
        return pl.concat(tables)

    @cached_property
    def _voted(self) -> list[PartitionedFile]:
        return self._done(self._pass("voting", buckets=self._bounds.buckets))

    def _narrow(self, rules: Sequence[Rule], columns: Sequence[str], counted: bool) -> Iterator[pl.DataFrame]:
        for narrow in self._in_buckets(rules, columns):
            left = self.stepped(narrow, counted)
            # Content was read with the rest, because another pass would cost more; it breaks the same ties as in memory.
            late = self._is_content_late(columns)
            yield left.with_columns(completion_key=pl.when(TIED).then("completion_key")) if late else left

    def _in_buckets(self, rules: Sequence[Rule], columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        names = list(dict.fromkeys(["row", *columns, *plan.narrow_columns(self.curation)]))
        files = self._judged(rules, list(dict.fromkeys([*names, *GROUP])), None, self._bounds.buckets)
        for bucket in range(self._bounds.buckets):
            self._bucket = bucket
            yield pl.concat([empty(names), *(self._placed(frame, number).select(names) for number, file in enumerate(files) for frame in file.frames(bucket))])

    def _judged(self, rules: Sequence[Rule], columns: Sequence[str], min_reward: float | None, buckets: int = 1) -> list[PartitionedFile]:
        """The files of the first pass; its counts go into the report."""
        first = self._pass("judged", columns=columns, rules=rules, min_reward=min_reward, buckets=buckets)
        if self.rollouts.account is not None:
            return [PartitionedFile(first.path(number)) for number in range(len(first.ranges))]
        files = self._done(first)
        account, lines, seen = Account(), 0, 0
        for number, (file, inputs) in enumerate(zip(files, first.ranges, strict=True)):
            # A range that does not begin its file continues the line numbers of the previous one.
            lines, seen = (lines, seen - 1) if inputs[0].start else (0, seen)
            self._spans[number] = Span(account.read, file.facts["read"], lines, seen)
            add_facts(self.report, account, file.facts, self._spans[number])
            lines, seen = lines + file.facts["lines"], seen + len(inputs)
        self.report.remarks += files[-1].facts["remarks"] if files else []
        self.rollouts.account = account
        self.report.count_lines(account)
        return files

    def _fetch(self, columns: Sequence[str], wanted: pl.DataFrame) -> list[PartitionedFile]:
        # Another run with the same fingerprint may have wanted other rollouts, some of which are there already.
        digest = hashlib.sha256(wanted["row"].to_numpy().tobytes())
        digest.update(wanted[PART].to_numpy().tobytes())
        path = self._folder / f"wanted-{digest.hexdigest()[:12]}.parquet"
        if not path.exists():
            with plain_write_errors(path):
                wanted.write_parquet(path.with_suffix(".partial"), row_group_size=1 << 16)
                path.with_suffix(".partial").rename(path)
        return self._done(self._pass("fetched", columns=columns, wanted=path))

    def _pass(self, kind: Literal["judged", "voting", "fetched"], **asked: Any) -> Pass:
        name = hashlib.sha256(repr([asked.get("columns"), asked.get("wanted")]).encode()).hexdigest()[:12]
        return Pass(
            name=f"{kind}-{name}", kind=kind, folder=self._folder, judge=self._whole, ranges=self._bounds.ranges, held_bytes=self._bounds.piece_bytes, **asked
        )

    def _done(self, one: Pass) -> list[PartitionedFile]:
        """The files of a pass, including those of tasks that were done in an earlier run."""
        paths = [one.path(number) for number in range(len(one.ranges))]
        left = [number for number, path in enumerate(paths) if not path.exists()]
        self.tasks += len(paths)
        self.done_before += len(paths) - len(left)
        with Stage("fetch" if one.kind == "fetched" else "read") as stage:
            for rows in self._engine.run(one.run, [(number, self._spans[number]) for number in left]):
                stage.advance(rows=rows)
        files = [PartitionedFile(path) for path in paths]
        self.rollouts.unsure = max(self.rollouts.unsure, sum(file.facts.get("unsure", 0) for file in files))
        self.lines_before += sum(file.facts.get("read", 0) for number, file in enumerate(files) if number not in set(left))
        return files

    def _in_order(self, files: Sequence[PartitionedFile], columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        for number, file in enumerate(files):
            for frame in file.frames():
                yield self._placed(frame, number).select(columns)

    def _placed(self, frame: pl.DataFrame, number: int) -> pl.DataFrame:
        """Rows and lines of a range, numbered as in the whole input."""
        span = self._spans[number]
        return frame.with_columns(pl.col(name) + first for name, first in (("row", span.first_row), ("line", span.first_line)) if name in frame.columns)


def _in_pieces(pairs: pl.DataFrame, bounds: Sequence[int]) -> pl.DataFrame:
    """The rollouts of pairs (`row`), once for each piece (`PART`) that needs them. `bounds` are those of the pieces."""
    count = max(len(bounds) - 1, 1)
    pieces = np.repeat(np.arange(len(bounds) - 1, dtype=np.int64), np.diff(bounds)) if bounds else np.empty(0, dtype=np.int64)
    # One number for both, sorted in place: two columns would take several times as much memory for millions of pairs.
    wanted = np.concatenate([pairs[side].to_numpy() * count + pieces for side in ("chosen_row", "rejected_row")])
    wanted.sort()
    wanted = wanted[np.flatnonzero(np.diff(wanted, prepend=-1))]
    return pl.DataFrame({"row": wanted // count, PART: wanted % count})
