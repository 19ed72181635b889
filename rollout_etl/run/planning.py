"""Planning shards: what the rows of each example depend on, and which shards an earlier run has made already."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import polars as pl

from rollout_etl import __version__
from rollout_etl.curate import order, plan
from rollout_etl.curate.groups import GROUP
from rollout_etl.publish.shard_plan import EXAMPLE, SHARD, ShardPlan
from rollout_etl.recipes import dpo
from rollout_etl.run.judging import Judge, empty
from rollout_etl.targets.columns import STATISTICS, needs_statistics, with_statistics
from rollout_etl.targets.target import Job, Rows

SIDES = ("chosen_", "rejected_")
_KEY = "_key"
_SOURCE = "_source"
"""The name of a file as a number."""


class Planner:
    """Plans the shards of a run, over its judge."""

    def __init__(self, judge: Judge, job: Job, rows: Rows, shards: ShardPlan, longer_prompts: bool = False, also: Sequence[str] = ()) -> None:
        """`also` names canonical columns of examples to keep."""
        self._judge, self._job, self._rows, self._shards, self._longer, self._also = judge, job, rows, shards, longer_prompts, also
        self._sides = SIDES if job.per == "pair" else ("",)
        self._numbered = pl.DataFrame()

    def to_make(self, examples: pl.DataFrame) -> pl.DataFrame:
        """The examples that have to be written, with `SHARD` and `EXAMPLE`. Those in shards that an earlier run made are counted and left out."""
        known, names = self._known(examples)
        placed = plan.placed(known, self._judge.curation, self._sides)
        if self._judge.curation.shuffle is not None:
            placed = placed.sort("place", maintain_order=True)
        elif self._job.per != "pair":
            placed = placed.sort("row", maintain_order=True)
        copy = pl.col("copy").cast(pl.UInt64) if "copy" in placed.columns else pl.lit(0, dtype=pl.UInt64)
        key = order.mixed(pl.col(f"{self._sides[0]}line_key") ^ copy)
        for side in self._sides[1:]:
            key = order.mixed(key ^ pl.col(f"{side}line_key"))
        chained = self._rows.reader == "guesses" and self._job.container == ".jsonl"
        names += ["copy"] if "copy" in placed.columns else []
        keys = [name for name in (*examples.columns, "part", *(f"{self._sides[0]}{name}" for name in self._also)) if name in placed.columns]
        self._numbered = self._shards.numbered(placed.with_columns(key.alias(_KEY)), _KEY, names, self._settings(), chained).select(
            *dict.fromkeys(keys), SHARD, EXAMPLE
        )
        report, (built, dropped, _) = self._judge.report, self._shards.counted()
        report.built += built
        report.examples_dropped += dropped
        report.written += built - dropped.total()
        return self._shards.to_make(self._numbered)

    def kept(self) -> pl.DataFrame:
        """All examples of the output, whichever run wrote them."""
        return self._shards.kept(self._numbered)

    def measures(self) -> dict[str, float]:
        """`rollout_etl.recipes.dpo.measures` of all pairs of the output, whichever run wrote them."""
        pairs = self.kept()
        rows = pl.concat([pairs[f"{side}row"] for side in SIDES]).unique().sort().to_numpy()
        lengths = pl.concat(list(self._judge.read(["row", "completion_chars"], rows)))
        return dpo.measures(dpo.with_sides(pairs, lengths).select(dpo.MEASURED).rechunk())

    def _known(self, examples: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
        """`examples` with the columns that their rows depend on (besides the options) and those that place them; the names of the former."""
        judge, wanted = self._judge, {name.removeprefix("chosen_").removeprefix("rejected_") for name in self._rows.columns}
        numbers = pl.concat([examples[f"{side}row"] for side in self._sides]).unique().sort().to_numpy()
        columns = ["line_key", *(name for name in ("row", "source", "line") if name in wanted)]
        if judge.rollouts.holds(["origin"]):
            columns.append("origin")
        else:
            # Lines alone do not say which task inputs lie next to their file.
            self._shards.forget_earlier()
        placing = [*plan.placing_columns(judge.curation), *self._also]
        grouped = needs_statistics(self._rows.columns)
        read = list(dict.fromkeys(["row", *columns, *placing, *((*GROUP, "reward") if grouped else ())]))
        frames = list(judge.read(read, numbers))
        found = pl.concat(frames) if frames else empty([name for name in read if name != "origin"]).with_columns(origin=pl.lit(0, dtype=pl.UInt64))
        if "source" in columns:
            # Under a separate name, because examples may have the text already.
            numbered = pl.col("source").replace_strict({path: _number(path) for path in found["source"].unique()}, return_dtype=pl.UInt64)
            found = found.with_columns(numbered.alias(_SOURCE))
        deciding = [_SOURCE if name == "source" else name for name in columns]
        if grouped:
            found = with_statistics(found, judge.statistics, judge.curation.advantage)
        deciding += [name for name in STATISTICS if grouped and name in found.columns]
        joined = examples
        for side in self._sides:
            names = [name for name in (*deciding, *placing) if f"{side}{name}" not in examples.columns]
            about = found.select(pl.col(*dict.fromkeys(["row", *names])).name.prefix(side))
            joined = joined.join(about, on=f"{side}row", how="left", maintain_order="left")
        return joined, [f"{side}{name}" for side in self._sides for name in deciding]

    def _settings(self) -> str:
        report = self._judge.report
        return json.dumps([__version__, report.recipe, report.target, report.options, self._job.container, self._longer], sort_keys=True, default=str)


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
