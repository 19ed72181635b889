"""How rollouts become the rows of a file: one step for each kind of recipe, over one report.

`sft`, `kto` and `ppo --with-responses` go rollout by rollout in one pass. `dpo` and `rm` make pairs, `grpo` and `ppo` pick one
rollout for each prompt: they decide on narrow columns first, and fetch what was said afterwards, for survivors only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

import polars as pl

from rollout_etl.curate import order, plan, split
from rollout_etl.curate.groups import GROUP
from rollout_etl.curate.options import Curation
from rollout_etl.curate.rewards import advantage
from rollout_etl.curate.rules import Rule, verdict
from rollout_etl.errors import GateError
from rollout_etl.judging import Judge
from rollout_etl.planning import SIDES as _SIDES
from rollout_etl.planning import Planner
from rollout_etl.publish.outputs import Output, RowsFile, ShardedRows, Sharding
from rollout_etl.publish.parts import Parts, Tally, part_path
from rollout_etl.publish.planned_rows import PlannedRows
from rollout_etl.publish.shard_plan import EXAMPLE, SHARD, EarlierShards, ShardPlan
from rollout_etl.read.schema import SCHEMA
from rollout_etl.recipes import advice, dpo, grpo, kto, pairing, ppo, sft
from rollout_etl.recipes.options import DpoOptions, GrpoOptions, KtoOptions, PpoOptions, SftOptions
from rollout_etl.targets.columns import needs_statistics, with_statistics
from rollout_etl.targets.target import Job, Rows, Target

_OF_SIDES = ("num_messages", "line_bytes")
_OF_PAIRS = ("line_bytes", "is_longer")
"""Of pairs, the bytes of the lines of both sides (UInt32), and whether the prompt is more than one question."""
LOSSY, GOOD = "flattened", "good"
"""What is counted of rows beside their own counts."""


class Steps:
    """The steps of one run, over one report."""

    def __init__(
        self, job: Job, target: Target, judge: Judge, sharding: Sharding | None = None, dry_run: bool = False,
        earlier: EarlierShards | None = None, note_prompts: bool = False,
    ) -> None:
        self.job, self.target, self.judge, self.sharding, self.dry_run = job, target, judge, sharding, dry_run
        self.report, self.curation = judge.report, judge.curation
        self.shards = None if sharding is None or sharding.rows is None else ShardPlan(sharding.rows, earlier)
        self.counts: Counter[str] = Counter()
        """How often each of the rows' `counts` held."""
        self._planner: Planner | None = None
        self._noted: list[pl.DataFrame] | None = [] if note_prompts else None
        self._mixed: list[pl.Series] = []

    def write(self, stack: ExitStack) -> Parts:
        """Write the staged files of the job."""
        parts = {"rollout": self._rollouts, "pair": self._pairs, "prompt": self._prompts}[self.job.per](stack)
        parts.settle()
        self.report.parts = parts.rows if self.curation.split is not None else {}
        if self._noted is not None:
            self._note_prompts(pl.DataFrame() if self._planner is None else self._planner.kept())
            self.report.prompts = pl.concat([pl.DataFrame(schema={"part": pl.String, split.KEY: pl.String}), *self._noted]).unique()
        return parts

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
        return stack.enter_context(Parts(files, shuffled=self.curation.shuffle is not None, buckets=self.judge.pieces))

    def _append(self, parts: Parts, rows: Rows, examples: pl.DataFrame, extra: Sequence[Rule] = ()) -> pl.DataFrame:
        """Count examples and write those that no rule drops."""
        sides = _SIDES if self.job.per == "pair" else ("",)
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
        """Note which prompts go to which part, where that is asked for."""
        if self._noted is not None and len(kept):
            part = pl.col("part") if "part" in kept.columns else pl.lit(split.TRAIN)
            key = pl.col(f"chosen_{split.KEY}" if self.job.per == "pair" else split.KEY)
            self._noted.append(kept.select(part.alias("part"), key.alias(split.KEY)).unique())

    def _counts(self, rows: Rows) -> dict[str, pl.Expr]:
        """What is counted of the rows that are written."""
        lossy = {LOSSY: pl.col("num_messages") > 1} if rows.flat and self.job.per != "pair" else {}
        return {**rows.counts, **lossy, **({GOOD: pl.col("label")} if isinstance(self.job.options, KtoOptions) else {})}

    def _taken(self, examples: pl.DataFrame, sides: Sequence[str] = ("",)) -> pl.DataFrame:
        """The examples that the steps of the curation take, the others counted; with `part` where the split looks at all of them."""
        steps = plan.example_steps(self.curation)
        if steps:
            examples = examples.with_columns(order=plan.numbered(examples, self.job.options.seed, sides))
        for step in steps:
            left = step.apply(examples.lazy()).collect()
            # What is repeated counts as built when it is written.
            again = int((left["copy"] > 0).sum()) if "copy" in left.columns and "copy" not in examples.columns else 0
            if lost := len(examples) - (len(left) - again):
                self.report.built += lost
                self.report.examples_dropped[step.name] += lost
            examples = left
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
        columns = [*self._columns(rows), "num_messages", *(["reward"] if isinstance(options, KtoOptions) else [])]
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
        """What was said by the rollouts that are used: in one pass, unless the choice of one depends on others, or needs no lines."""
        if not plan.looks_around(self.curation) and self.shards is None and not self.judge.decides_apart(rules):
            return self.judge.judged(rules, columns, gate)
        frames = [self._examples(narrow) for narrow in self.judge.chosen(rules, ["row"])]
        return self._fetched(self._to_make(self._taken(pl.concat(frames).sort("row")), rows), columns)

    def _examples(self, narrow: pl.DataFrame) -> pl.DataFrame:
        """Of narrow columns, those that are still asked for when rollouts have become examples."""
        later = plan.narrow_columns(self.curation) if self._looks_at_examples else ()
        return narrow.select("row", *(name for name in later if name != "row"))

    @property
    def _looks_at_examples(self) -> bool:
        return bool(plan.example_steps(self.curation)) or plan.splits_together(self.curation)

    def _to_make(self, examples: pl.DataFrame, rows: Rows, longer_prompts: bool = False) -> pl.DataFrame:
        """The examples that have to be written: all, unless an earlier run has made some of the shards."""
        if self.shards is None:
            return examples
        self._planner = Planner(self.judge, self.job, rows, self.shards, longer_prompts, () if self._noted is None else (split.KEY,))
        wanted = self._planner.to_make(examples)
        self.counts += self.shards.counted()[2]
        return wanted

    def _fetched(self, examples: pl.DataFrame, columns: Sequence[str]) -> Iterable[pl.DataFrame]:
        """`columns` of the rollouts of `examples` (column `row`), which can stand there more than once, with what is known of each."""
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
        for frame in self._fetched(examples, [*self._columns(rows), "num_messages"]):
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
        if self.report.written:
            self.report.statistics = dpo.measures(pl.concat(written)) if self._planner is None else self._planner.measures()
        return parts

    def _paired(self, options: DpoOptions) -> pl.DataFrame:
        """The pairs that are used, in the order of the chosen rollouts, with what is known of them so far (`_OF_PAIRS`)."""
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
            limit = f"--pairs-per-group {options.pairs_per_group}" if options.pairs_per_group else f"--max-pairs {options.max_pairs}"
            self.report.notes.append(f"drew {made} of {combinations} combinations ({limit}, --seed {options.seed})")
        apart = pl.concat(found)
        # There may be many: the frames need not stay beside the table.
        found.clear()
        apart = apart.sort("chosen_row", "rejected_row")
        if not self._looks_at_examples:
            return apart
        taken = self._taken(apart, _SIDES)
        kept = [name for name in pairs.columns if name != "is_overused"]
        return taken.select(*kept, *_OF_PAIRS, *(name for name in ("copy", "part") if name in taken.columns))

    def _known(self, pairs: pl.DataFrame, narrow: pl.DataFrame) -> pl.DataFrame:
        """`pairs` with what is asked of them later: what steps ask of an example is that of the chosen side, its number is that of both."""
        names = [name for step in plan.example_steps(self.curation) for name in step.columns]
        keys = [*(order.KEYS if self._looks_at_examples else ()), *(split.COLUMNS if plan.splits_together(self.curation) else ())]
        of = narrow.select("row", *(name for name in dict.fromkeys([*_OF_SIDES, *keys, *names]) if name in narrow.columns and name != "row"))
        known = dpo.with_sides(pairs, of.drop("reward", strict=False))
        named = [pl.col(f"chosen_{name}").alias(name) for name in dict.fromkeys(names)]
        size = (pl.col("chosen_line_bytes") + pl.col("rejected_line_bytes")).cast(pl.UInt32)
        known = known.with_columns(*named, line_bytes=size, is_longer=pl.col("chosen_num_messages") > 1)
        return known.drop(f"{side}{name}" for side in _SIDES for name in _OF_SIDES)

    def _columns(self, rows: Rows) -> list[str]:
        """Canonical columns to read for the rows, without the side they are for."""
        names = (name if name in SCHEMA else name.removeprefix("chosen_").removeprefix("rejected_") for name in rows.columns)
        keys = (*GROUP, "reward") if needs_statistics(rows.columns) else ()
        prompts = [] if self._noted is None else [split.KEY]
        return [name for name in dict.fromkeys([*names, *keys, *plan.placing_columns(self.curation), *prompts]) if name in SCHEMA]

    def _with_statistics(self, frame: pl.DataFrame, rows: Rows) -> pl.DataFrame:
        """`frame` with the statistics of each rollout's group, and its advantage, where the rows ask for them."""
        if not needs_statistics(rows.columns):
            return frame
        kind = self.curation.advantage
        return with_statistics(frame, self.judge.statistics, None if kind is None else advantage(kind))

    def _look_at_groups(self, narrow: pl.DataFrame) -> None:
        groups = narrow.group_by("task_key", "prompt_key").agg(pl.col("statics").unique())
        self.report.groups = (self.report.groups or 0) + len(groups)
        self._mixed.append(groups.filter(pl.col("statics").list.len() > 1)["statics"])

    def _warn_of_mixed_groups(self) -> None:
        mixed = pl.concat(self._mixed)
        if len(mixed):
            names = advice.disagreeing(mixed)
            self.report.warnings.append(
                f"{len(mixed)} group(s) hold rollouts of different tasks: {', '.join(names)} disagree; tell them apart with --group-by {','.join(names)}"
            )

    def _note_flattened(self) -> None:
        if lossy := self.counts[LOSSY]:
            ways = {"sft": "--format openai", "grpo": "--format gym"}
            other = "--as messages" if self.job.form == "text" else ways.get(self.job.recipe, "another target")
            self.report.warnings.append(
                f"{lossy} example(s) lost the system text or earlier turns of their prompt: this format holds one question. "
                f"{other} keeps them, --drop flattened_prompt leaves them out"
            )

    def _balance(self, options: KtoOptions, good: int) -> None:
        """Count both labels and work out the weights; an empty class is an error, for there is nothing to tell apart."""
        bad = self.report.written - good
        if self.report.written and not (good and bad):
            name, way = ("true", "raise") if good else ("false", "lower")
            raise GateError(f"all {self.report.written} answers are labelled {name}, and KTO needs both: {way} --reward-threshold {options.reward_threshold:g}")
        if self.report.written:
            desirable, undesirable = kto.weights(good, bad)
            self.report.statistics = {"label_true": good, "label_false": bad, "desirable_weight": desirable, "undesirable_weight": undesirable}


def output_paths(job: Job, curation: Curation) -> dict[str, Path]:
    """The output of each part: the training rows go to the output that was named."""
    others = [name for name in split.parts(curation.split) if name != split.TRAIN]
    return {split.TRAIN: job.output, **{name: part_path(job.output, name) for name in others}}
