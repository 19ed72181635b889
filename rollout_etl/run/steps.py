"""How rollouts become rows of a file: one method for each kind of recipe, counting in one report.

`sft`, `kto` and `ppo --with-responses` write rollout by rollout in one pass. `dpo` and `rm` make pairs, `grpo` and `ppo` pick one
rollout per prompt: they decide on narrow columns first, and then fetch messages only for the chosen rollouts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack

import polars as pl

from rollout_etl.curate import balance, order, plan, split
from rollout_etl.curate.rules import Rule, verdict
from rollout_etl.publish.parts import Parts
from rollout_etl.publish.shard_plan import EXAMPLE, SHARD
from rollout_etl.recipes import dpo, grpo, kto, pairing, ppo, sft
from rollout_etl.recipes.options import DpoOptions, GrpoOptions, KtoOptions, PpoOptions, SftOptions
from rollout_etl.run import advice
from rollout_etl.run.planning import SIDES as _SIDES
from rollout_etl.run.planning import Planner
from rollout_etl.run.writing import GOOD, Writer
from rollout_etl.targets.target import Rows

_OF_SIDES = ("num_messages", "line_bytes")
_OF_PAIRS = ("line_bytes", "is_longer")
"""Columns of pairs: the bytes of the lines of both sides (UInt32), and whether the prompt is more than one question."""


class Steps(Writer):
    """The steps of one run, counting in one report."""

    _planner: Planner | None = None
    _mixed: tuple[pl.Series, ...] = ()
    _parted = 0

    def write(self, stack: ExitStack) -> Parts:
        """Write the rows of the job to the staged files."""
        parts = {"rollout": self._rollouts, "pair": self._pairs, "prompt": self._prompts}[self.job.per](stack)
        parts.settle()
        self.report.parts = parts.rows if self.curation.split is not None else {}
        if self._noted is not None:
            self._note_prompts(pl.DataFrame() if self._planner is None else self._planner.kept())
            self.report.prompts = pl.concat([pl.DataFrame(schema={"part": pl.String, split.KEY: pl.String}), *self._noted]).unique()
        return parts

    def _taken(self, examples: pl.DataFrame, sides: Sequence[str] = ("",)) -> pl.DataFrame:
        """The examples that the steps of curation keep; the others are counted. Has `part` if the split depends on all examples."""
        steps = plan.example_steps(self.curation)
        self.report.warnings += balance.absent(examples, self.curation.mix)
        if steps:
            examples = examples.with_columns(order=plan.numbered(examples, self.job.options.seed, sides))
            # Of several with the same number, the first is taken: it must not depend on the order in which files are given.
            examples = examples.sort(f"{side}{name}" for side in sides for name in order.PLACES)
        for step in steps:
            left = step.apply(examples.lazy()).collect()
            # Repetitions count as built when they are written.
            again = int((left["copy"] > 0).sum()) if "copy" in left.columns and "copy" not in examples.columns else 0
            if lost := len(examples) - (len(left) - again):
                self.report.built += lost
                self.report.examples_dropped[step.name] += lost
            examples = left
        if steps:
            examples = examples.sort([f"{side}row" for side in sides], maintain_order=True)
        if plan.splits_together(self.curation):
            examples = plan.placed(examples, self.curation, sides)
        return examples

    def _rollouts(self, stack: ExitStack) -> Parts:
        options = self.job.options
        rows = self.target.rows(self.job, longer_prompts=False)
        gate = None
        if isinstance(options, SftOptions):
            rules = sft.rules(options, rows.cannot_hold)
            gate = options.reward_threshold - 2e-9 if any(rule.name == "below_threshold" for rule in rules) else None
        elif isinstance(options, KtoOptions):
            rules = kto.rules(options, rows.cannot_hold or ())
        else:
            assert isinstance(options, PpoOptions)
            rules = ppo.rules(options, rows.cannot_hold)
        columns = [*self._columns(rows), *(["reward"] if isinstance(options, KtoOptions) else [])]
        frames = self._one_by_one(rows, rules, list(dict.fromkeys(columns)), gate)
        parts = self._open(rows, stack)
        for kept in frames:
            if isinstance(options, KtoOptions):
                kept = kept.with_columns(label=kto.label(options))
            self._append(parts, rows, self._with_statistics(kept, rows))
        self._note_flattened()
        if isinstance(options, KtoOptions):
            self._balance(options, self.counts[GOOD])
        return parts

    def _one_by_one(self, rows: Rows, rules: Sequence[Rule], columns: Sequence[str], gate: float | None) -> Iterable[pl.DataFrame]:
        """The used rollouts with their messages: in one pass, unless a choice depends on other rollouts or needs no lines."""
        if not plan.looks_around(self.curation) and self.shards is None and not self.judge.decides_apart(rules):
            return self.judge.judged(rules, columns, gate)
        frames = [self._examples(narrow) for narrow in self.judge.chosen(rules, ["row"])]
        return self._fetched(self._to_make(self._taken(pl.concat(frames).sort("row")), rows), columns)

    def _examples(self, narrow: pl.DataFrame) -> pl.DataFrame:
        """The narrow columns that are still needed once rollouts have become examples."""
        later = plan.narrow_columns(self.curation) if self._looks_at_examples else ()
        return narrow.select("row", *(name for name in later if name != "row"))

    @property
    def _looks_at_examples(self) -> bool:
        return bool(plan.example_steps(self.curation)) or plan.splits_together(self.curation)

    def _to_make(self, examples: pl.DataFrame, rows: Rows, longer_prompts: bool = False) -> pl.DataFrame:
        """The examples that have to be written: all, unless an earlier run made some of the shards."""
        if self.shards is None:
            return examples
        self._planner = Planner(self.judge, self.job, rows, self.shards, longer_prompts, () if self._noted is None else (split.KEY,))
        wanted = self._planner.to_make(examples)
        self.counts += self.shards.counted()[2]
        return wanted

    def _fetched(self, examples: pl.DataFrame, columns: Sequence[str]) -> Iterable[pl.DataFrame]:
        """`columns` of the rollouts of `examples` (column `row`, which may repeat), with the known columns of each."""
        known = examples.select("row", *(name for name in ("copy", "part", SHARD, EXAMPLE) if name in examples.columns))
        wanted = list(dict.fromkeys(["row", *columns]))
        for frame in self.judge.fetched(wanted, examples["row"].unique().sort().to_numpy()):
            yield frame.join(known, on="row", how="left", maintain_order="left")

    def _prompts(self, stack: ExitStack) -> Parts:
        options = self.job.options
        assert isinstance(options, GrpoOptions)
        rows = self.target.rows(self.job, longer_prompts=False)
        found = []
        for narrow in self.judge.chosen(grpo.rules(options, rows.cannot_hold), (*grpo.NARROW, "statics")):
            self._look_at_groups(narrow)
            stand_ins = grpo.stand_ins(narrow, options)
            if duplicates := len(narrow) - len(stand_ins):
                self.report.built += duplicates
                self.report.examples_dropped["duplicate_prompt"] += duplicates
            found.append(self._examples(stand_ins))
        self._warn_of_mixed_groups()
        examples = self._to_make(self._taken(pl.concat(found).sort("row")), rows)
        parts = self._open(rows, stack)
        for frame in self._fetched(examples, self._columns(rows)):
            self._append(parts, rows, self._with_statistics(frame, rows))
        self._note_flattened()
        return parts

    def _pairs(self, stack: ExitStack) -> Parts:
        options = self.job.options
        assert isinstance(options, DpoOptions)
        apart = self._paired(options)
        longer = bool(apart["is_longer"].any())
        rows = self.target.rows(self.job, longer_prompts=longer)
        apart = self._to_make(apart, rows, longer)
        parts = self._open(rows, stack)
        alike = dpo.distance_rules(options)
        columns = list(dict.fromkeys(["row", "completion_chars", *self._columns(rows), *(["completion"] if alike else [])]))
        written = []
        for stretch, said in self.judge.together(columns, apart.drop(_OF_PAIRS), apart["line_bytes"]):
            # Both sides have a reward and a row from the pairing already.
            table = self._with_statistics(said, rows).drop("reward", strict=False)
            kept = self._append(parts, rows, dpo.with_sides(stretch, table), alike)
            written.append(kept.select(dpo.MEASURED).with_columns(pl.selectors.integer().cast(pl.UInt32)))
        self._note_flattened()
        if self.report.written:
            self.report.statistics = dpo.measures(pl.concat(written)) if self._planner is None else self._planner.measures()
        return parts

    def _paired(self, options: DpoOptions) -> pl.DataFrame:
        """The pairs that are used, in the order of the chosen rollouts, with the columns known so far (`_OF_PAIRS`)."""
        rules = dpo.rules(options, self.target.rows(self.job, longer_prompts=False).cannot_hold)
        columns = (*pairing.narrow_columns(options), "statics", *_OF_SIDES)
        glimpsed = self.judge.glimpsed(rules, columns) if pairing.makes_many(options) else None
        drawn = None if glimpsed is None else pairing.draw_from_all(glimpsed, options)
        found, made, combinations = [], 0, 0
        for narrow in self.judge.chosen(rules, columns):
            self._look_at_groups(narrow)
            pairs, there_were = pairing.pair_rollouts(narrow, options, drawn)
            made, combinations = made + len(pairs), combinations + there_were
            judged = pairs.with_columns(verdict(dpo.pair_rules(options)))
            self.report.count_examples(judged.filter(pl.col("rule").is_not_null()))
            found.append(self._known(judged.filter(pl.col("rule").is_null()).drop("rule", "is_overused"), narrow))
        self._warn_of_mixed_groups()
        if combinations > made:
            self.report.notes.append(f"drew {made} of {combinations} combinations ({pairing.limits(options, made)})")
        apart = pl.concat(found)
        # There may be many: free the frames before the table is used.
        found.clear()
        apart = apart.sort("chosen_row", "rejected_row")
        if not self._looks_at_examples:
            return apart
        taken = self._taken(apart, _SIDES)
        kept = [name for name in pairs.columns if name != "is_overused"]
        return taken.select(*kept, *_OF_PAIRS, *(name for name in ("copy", "part") if name in taken.columns))

    def _known(self, pairs: pl.DataFrame, narrow: pl.DataFrame) -> pl.DataFrame:
        """`pairs` with the columns that are needed later: steps use the columns of the chosen side, and the number depends on both sides."""
        names = [name for step in plan.example_steps(self.curation) for name in step.columns]
        keys = [*((*order.KEYS, *order.PLACES) if self._looks_at_examples else ()), *(split.COLUMNS if plan.splits_together(self.curation) else ())]
        of = narrow.select("row", *(name for name in dict.fromkeys([*_OF_SIDES, *keys, *names]) if name in narrow.columns and name != "row"))
        known = dpo.with_sides(pairs, of.drop("reward", strict=False))
        named = [pl.col(f"chosen_{name}").alias(name) for name in dict.fromkeys(names)]
        size = (pl.col("chosen_line_bytes") + pl.col("rejected_line_bytes")).cast(pl.UInt32)
        known = known.with_columns(*named, line_bytes=size, is_longer=pl.col("chosen_num_messages") > 1)
        return known.drop(f"{side}{name}" for side in _SIDES for name in _OF_SIDES)

    def _look_at_groups(self, narrow: pl.DataFrame) -> None:
        groups = narrow.group_by("task_key", "prompt_key").agg(pl.col("statics").unique())
        self.report.groups = (self.report.groups or 0) + len(groups)
        self._parted += int((groups.group_by("task_key").len()["len"] > 1).sum())
        self._mixed += (groups.filter(pl.col("statics").list.len() > 1)["statics"],)

    def _warn_of_mixed_groups(self) -> None:
        if self._parted:
            self.report.warnings.append(f"{self._parted} task(s) have rollouts with different prompts: each prompt forms its own group")
        mixed = pl.concat(self._mixed)
        if len(mixed):
            names = advice.disagreeing(mixed)
            self.report.warnings.append(
                f"{len(mixed)} group(s) hold rollouts of different tasks, which differ in {', '.join(names)}: separate them with --group-by {','.join(names)}"
            )
