"""A pass over the input as tasks: each reads one range and writes one file, so that tasks can run anywhere, in any order, and be repeated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from rollout_etl.bounded.ranges import Range, count_lines
from rollout_etl.curate.rules import Rule
from rollout_etl.publish.partitioned import PART, PartitionedWriter
from rollout_etl.read.quarantine import Account, BadLine
from rollout_etl.run.judging import Judge
from rollout_etl.run.report import Report


@dataclass(frozen=True)
class Span:
    """The position of a range in the whole input."""

    first_row: int = 0
    rows: int = 0
    first_line: int = 0
    first_input: int = 0


@dataclass(frozen=True, kw_only=True)
class Pass:
    """What is read from every range, and how its rows are partitioned. It is pickled and sent to other machines."""

    name: str
    """Prefix of the file names."""
    kind: Literal["judged", "voting", "fetched"]
    """What to read: rollouts that no rule drops, with counts; keys and rewards that count for groups; or the rollouts of `wanted`."""
    folder: Path
    judge: Judge
    """For the whole input."""
    ranges: Sequence[Range]
    columns: Sequence[str] = ()
    rules: Sequence[Rule] = ()
    min_reward: float | None = None
    buckets: int = 1
    """Number of buckets into which rows are partitioned by group."""
    held_bytes: int
    """Bytes of rows that are partitioned together, so that a part from many batches is written in few pieces."""
    wanted: Path | None = None
    """Parquet file of `row` (Int64, sorted) and `PART`: the rollouts to fetch, and the part or parts that they go to."""

    def path(self, number: int) -> Path:
        """The file of the range with that number."""
        return self.folder / f"{self.name}-{number:06}.parquet"

    def run(self, number: int, span: Span) -> int:
        """Execute the task of one range; returns how many lines were read. In its file, rows and lines count from the start of the range."""
        judge = self.judge.over(self.ranges[number])
        with PartitionedWriter(self.path(number), self.held_bytes) as file:
            for frame in self._frames(judge, span):
                file.append(frame)
            counted = _facts(judge, self.ranges[number]) if self.kind == "judged" else {}
            file.finish({**counted, "unsure": judge.rollouts.unsure})
        return judge.report.read

    def _frames(self, judge: Judge, span: Span) -> Iterator[pl.DataFrame]:
        if self.kind == "fetched":
            yield from self._fetched(judge, span)
            return
        frames = judge.voting() if self.kind == "voting" else judge.judged(self.rules, self.columns, self.min_reward)
        for frame in frames:
            yield frame.with_columns(_bucket(self.buckets) if self.buckets > 1 else pl.lit(0, dtype=pl.Int64).alias(PART))

    def _fetched(self, judge: Judge, span: Span) -> Iterator[pl.DataFrame]:
        assert self.wanted is not None
        row = pl.col("row")
        inside = pl.scan_parquet(self.wanted).filter(row >= span.first_row, row < span.first_row + span.rows)
        wanted = inside.with_columns(row - span.first_row).collect()
        if len(wanted):
            for frame in judge.read(self.columns, wanted["row"].unique().sort().to_numpy()):
                yield frame.join(wanted, on="row", how="inner", maintain_order="left")


def _bucket(buckets: int) -> pl.Expr:
    """The bucket of a rollout by the beginning of its `task_key`, so that buckets are in the order of keys."""
    return (pl.col("task_key").str.slice(0, 8).str.to_integer(base=16, dtype=pl.Int64) * buckets // (1 << 32)).alias(PART)


def _facts(judge: Judge, files: Range) -> dict[str, Any]:
    """The counts, as JSON values."""
    report, account = judge.report, judge.rollouts.account
    assert account is not None
    return {
        "lines": count_lines(files[0]) if files[0].end is not None else 0,
        "dropped": report.dropped, "kept": report.kept, "shapes": report.shapes, "left_out": report.left_out, "clamped": report.clamped,
        "remarks": report.remarks, "held": report.held, "read": account.read, "rollouts": account.rollouts, "repairs": account.repairs, "found": account.found,
        "quarantined": [[bad.source, bad.line, bad.reason, bad.text.decode("latin-1"), bad.row, bad.input] for bad in account.quarantined],
    }


def add_facts(report: Report, account: Account, facts: dict[str, Any], span: Span) -> None:
    """Add the counts of a task."""
    for name in ("dropped", "shapes", "left_out", "held"):
        getattr(report, name).update(facts[name])
    report.kept += facts["kept"]
    report.clamped += facts["clamped"]
    account.read += facts["read"]
    account.rollouts += facts["rollouts"]
    account.repairs += [(row + span.first_row, tuple(damage)) for row, damage in facts["repairs"]]
    account.found.update(Counter(facts["found"]))
    account.quarantined += [
        BadLine(source, line + span.first_line, reason, text.encode("latin-1"), row + span.first_row, at + span.first_input)
        for source, line, reason, text, row, at in facts["quarantined"]
    ]
