"""Writing examples to staged files: checked by rules once more, counted, and appended as rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import polars as pl

from rollout_etl import named_fields
from rollout_etl.curate import plan, split
from rollout_etl.curate.groups import GROUP
from rollout_etl.curate.options import Curation
from rollout_etl.curate.rules import Rule, verdict
from rollout_etl.errors import GateError
from rollout_etl.publish.outputs import Output, RowsFile, ShardedRows, Sharding
from rollout_etl.publish.parts import BUCKETS, Parts, Tally, part_path
from rollout_etl.publish.planned_rows import PlannedRows
from rollout_etl.publish.shard_plan import EarlierShards, ShardPlan
from rollout_etl.read.schema import PLAIN, SCHEMA
from rollout_etl.recipes import kto
from rollout_etl.recipes.options import KtoOptions
from rollout_etl.run.judging import Judge
from rollout_etl.run.planning import SIDES
from rollout_etl.targets.columns import needs_statistics, with_statistics
from rollout_etl.targets.target import Job, Rows, Target

LOSSY, TOOLLESS, GOOD = "flattened", "without_tools", "good"
"""What is counted in rows besides the counts of the target."""
_LOST = ("num_messages", "tools")
"""Canonical columns that show what rows of texts have no place for."""
_READ = {*SCHEMA, *PLAIN}


class Writer:
    """Writes the examples of one run, counting in one report."""

    def __init__(
        self, job: Job, target: Target, judge: Judge, sharding: Sharding | None = None, dry_run: bool = False,
        earlier: EarlierShards | None = None, note_prompts: bool = False, buckets: int = BUCKETS,
    ) -> None:
        """A shuffle uses this many `buckets`. `earlier` are shards of an earlier run to reuse; with `note_prompts` the report records
        which prompts went to which part.
        """
        self.job, self.target, self.judge, self.sharding, self.dry_run = job, target, judge, sharding, dry_run
        self.report, self.curation = judge.report, judge.curation
        self.shards = None if sharding is None or sharding.rows is None else ShardPlan(sharding.rows, earlier)
        self.counts: Counter[str] = Counter()
        """How often each of the rows' `counts` was true."""
        self._buckets = buckets
        self._noted: list[pl.DataFrame] | None = [] if note_prompts else None

    def _open(self, rows: Rows, stack: ExitStack) -> Parts:
        if self.dry_run:
            return stack.enter_context(Tally(output_paths(self.job, self.curation)))
        guessed = rows.reader == "guesses"
        files: dict[str, Output] = {}
        for name, path in output_paths(self.job, self.curation).items():
            if self.shards is not None:
                files[name] = PlannedRows(path, rows.fields, self.shards.parts.get(name, []), self.job.container, guessed_messages=guessed)
            elif self.sharding is None:
                files[name] = RowsFile(path, rows.fields, guessed_messages=guessed)
            else:
                files[name] = ShardedRows(path, rows.fields, self.sharding, self.job.container, guessed_messages=guessed)
        return stack.enter_context(Parts(files, shuffled=self.curation.shuffle is not None, buckets=self._buckets))

    def _append(self, parts: Parts, rows: Rows, examples: pl.DataFrame, extra: Sequence[Rule] = ()) -> pl.DataFrame:
        """Count examples and write those that no rule drops."""
        sides = SIDES if self.job.per == "pair" else ("",)
        judged = rows.prepare(plan.placed(examples, self.curation, sides)).with_columns(verdict([*rows.example_rules, *extra]))
        self.report.count_examples(judged)
        kept = judged.filter(pl.col("rule").is_null())
        parts.append(kept)
        if self.shards is None:
            self._note_prompts(kept)
        else:
            self.shards.count(judged, self._counts(rows))
        for name, holds in self._counts(rows).items():
            self.counts[name] += int(kept.select(holds.sum()).item() or 0)
        return kept

    def _note_prompts(self, kept: pl.DataFrame) -> None:
        """Record which prompts go to which part, if requested."""
        if self._noted is not None and len(kept):
            part = pl.col("part") if "part" in kept.columns else pl.lit(split.TRAIN)
            key = pl.col(f"chosen_{split.KEY}" if self.job.per == "pair" else split.KEY)
            self._noted.append(kept.select(part.alias("part"), key.alias(split.KEY)).unique())

    def _counts(self, rows: Rows) -> dict[str, pl.Expr]:
        """The conditions that are counted over the written rows."""
        side = "chosen_" if self.job.per == "pair" else ""
        lossy = {LOSSY: pl.col(f"{side}num_messages") > 1, TOOLLESS: pl.col(f"{side}tools").is_not_null()} if rows.flat else {}
        return {**rows.counts, **lossy, **named_fields.of_rows(rows.fields), **({GOOD: pl.col("label")} if isinstance(self.job.options, KtoOptions) else {})}

    def missing_fields(self) -> list[str]:
        """Warnings for names in options that no rollout or written example has, and for fields that were left out of rows by their name."""
        rollouts, rows = self.judge.rollouts, self.target.rows(self.job, longer_prompts=False)
        found = named_fields.warnings(rollouts, self.report.held) if self.report.kept + self.report.dropped.total() else []
        if self.report.written:
            found += named_fields.warnings(rollouts, {name: self.counts[name] for name in named_fields.of_rows(rows.fields)}, "example")
        return found + (named_fields.guessed(rollouts) if "gym_row" in rows.columns else [])

    def _columns(self, rows: Rows) -> list[str]:
        """Canonical columns to read for the rows, without the prefixes of the sides."""
        names = (name if name in _READ else name.removeprefix("chosen_").removeprefix("rejected_") for name in rows.columns)
        keys = (*GROUP, "reward") if needs_statistics(rows.columns) else ()
        prompts = [] if self._noted is None else [split.KEY]
        lost = _LOST if rows.flat else ()
        return [name for name in dict.fromkeys([*names, *keys, *plan.placing_columns(self.curation), *prompts, *lost]) if name in _READ]

    def _with_statistics(self, frame: pl.DataFrame, rows: Rows) -> pl.DataFrame:
        """`frame` with the statistics of each rollout's group, and its advantage, if the rows need them."""
        return with_statistics(frame, self.judge.statistics, self.curation.advantage) if needs_statistics(rows.columns) else frame

    def _note_flattened(self) -> None:
        if toolless := self.counts[TOOLLESS]:
            other = self._other_format("--format preference")
            self.report.warnings.append(f"{toolless} example(s) lost the tools that were offered: this format has no place for them. {other} keeps them")
        if lossy := self.counts[LOSSY]:
            self.report.warnings.append(
                f"{lossy} example(s) lost the system text or earlier turns of their prompt: this format holds one question. "
                f"{self._other_format('--prompt-as messages')} keeps them, --drop flattened_prompt leaves them out"
            )

    def _other_format(self, of_pairs: str) -> str:
        """The options for a format that keeps what rows of texts lose; `of_pairs` is the one for NeMo RL's pairs."""
        if self.job.form is None and self.report.target == "nemo-rl":
            own = {"sft": "--format openai", "grpo": "--format gym", "dpo": of_pairs, "rm": of_pairs}
            if self.job.recipe in own:
                return own[self.job.recipe]
        return "--as messages" if self.job.form == "text" else "Another --target"

    def _balance(self, options: KtoOptions, good: int) -> None:
        """Count both labels and compute the weights. Raises `GateError` if a label does not occur."""
        bad = self.report.written - good
        if self.report.written and not (good and bad):
            name, way = ("true", "raise") if good else ("false", "lower")
            raise GateError(f"all {self.report.written} answers are labelled {name}, and KTO needs both: {way} --reward-threshold {options.reward_threshold:g}")
        if self.report.written:
            desirable, undesirable = kto.weights(good, bad)
            self.report.statistics = {"label_true": good, "label_false": bad, "desirable_weight": desirable, "undesirable_weight": undesirable}


def output_paths(job: Job, curation: Curation) -> dict[str, Path]:
    """The output of each part: the training rows go to the named output."""
    others = [name for name in split.parts(curation.split) if name != split.TRAIN]
    return {split.TRAIN: job.output, **{name: part_path(job.output, name) for name in others}}
