"""How rollouts become the rows of a file: one step for each kind of recipe, over one report.

`sft`, `kto` and `ppo --with-responses` go rollout by rollout in one pass. `dpo` and `rm` make pairs, `grpo` and `ppo` pick one
rollout for each prompt: they decide on narrow columns first, and fetch what was said afterwards, for survivors only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import cached_property
from math import isfinite

import polars as pl

from rollout_etl.curate.rules import RULES, SOUND, Rule, columns_of, verdict
from rollout_etl.errors import GateError
from rollout_etl.publish.files import RowsFile
from rollout_etl.read.scan import Rollouts
from rollout_etl.read.schema import SCHEMA
from rollout_etl.recipes import advice, dpo, grpo, kto, ppo, sft
from rollout_etl.recipes.options import DpoOptions, GrpoOptions, KtoOptions, PpoOptions, SftOptions
from rollout_etl.report import Report
from rollout_etl.targets.columns import group_statistics, needs_statistics
from rollout_etl.targets.target import Job, Rows, Target

LEFT_OUT = {"encrypted": "num_encrypted", "empty": "num_empty", "unknown": "num_unknown"}
_COUNTED = ("shape", *LEFT_OUT.values())
_GROUP = ("task_key", "prompt_key")
_SLICE = 20_000


class Steps:
    """The steps of one run, over one report."""

    def __init__(self, job: Job, target: Target, rollouts: Rollouts, report: Report, progress: Callable[[int], None]) -> None:
        self.job, self.target, self.rollouts, self.report, self.progress = job, target, rollouts, report, progress
        self.counts: Counter[str] = Counter()
        """How often each of the rows' `counts` held."""

    def write(self, stack: ExitStack) -> RowsFile:
        """Write the staged file of the job."""
        return {"rollout": self._rollouts, "pair": self._pairs, "prompt": self._prompts}[self.job.per](stack)

    def _judged(self, rules: Sequence[Rule], columns: Sequence[str], min_reward: float | None = None) -> Iterator[pl.DataFrame]:
        """Every rollout once, counted; those that no rule drops, with `columns`."""
        wanted = list(dict.fromkeys([*columns, *columns_of(rules), *_COUNTED]))
        for frame in self.rollouts.batches(wanted, min_reward=min_reward):
            judged = frame.with_columns(verdict(rules))
            self.report.count_rollouts(judged)
            for shape, count in judged["shape"].value_counts().iter_rows():
                self.report.shapes[shape] += count
            for name, column in LEFT_OUT.items():
                self.report.left_out[name] += int(judged[column].sum())
            self.progress(len(judged))
            yield judged.filter(pl.col("rule").is_null()).select(columns)
        account = self.rollouts.account
        assert account is not None
        self.report.read, self.report.quarantined = account.read, len(account.quarantined)
        self.report.quarantine_reasons, self.report.repaired = account.reasons(), dict(account.repaired)

    def _open(self, rows: Rows, stack: ExitStack) -> RowsFile:
        return stack.enter_context(RowsFile(self.job.output, rows.fields, guessed_messages=rows.reader == "guesses"))

    def _append(self, file: RowsFile, rows: Rows, examples: pl.DataFrame) -> pl.DataFrame:
        """Count examples and write those that no rule drops."""
        judged = rows.prepare(examples).with_columns(verdict(rows.example_rules))
        self.report.count_examples(judged)
        kept = judged.filter(pl.col("rule").is_null())
        file.append(kept)
        for name, holds in rows.counts.items():
            self.counts[name] += int(kept.select(holds.sum()).item() or 0)
        return kept

    def _rollouts(self, stack: ExitStack) -> RowsFile:
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
        columns = [*_canonical(rows), "num_messages", *(["reward"] if isinstance(options, KtoOptions) else [])]
        file = self._open(rows, stack)
        lossy = good = 0
        for kept in self._judged(rules, list(dict.fromkeys([*columns, *self._keys(rows)])), gate):
            if isinstance(options, KtoOptions):
                kept = kept.with_columns(label=kto.label(options))
            written = self._append(file, rows, self._with_statistics(kept, rows))
            lossy += int((written["num_messages"] > 1).sum())
            good += int(written["label"].sum()) if isinstance(options, KtoOptions) else 0
        if rows.flat:
            self._note_flattened(lossy)
        if isinstance(options, KtoOptions):
            self._balance(options, good)
        return file

    def _prompts(self, stack: ExitStack) -> RowsFile:
        options = self.job.options
        assert isinstance(options, GrpoOptions)
        rows = self.target.rows(self.job, longer_prompts=False)
        narrow = self._narrow(grpo.rules(options, rows.cannot_hold), grpo.NARROW)
        self._look_at_groups(narrow)
        stand_ins = grpo.stand_ins(narrow, options)
        if duplicates := len(narrow) - len(stand_ins):
            self.report.built += duplicates
            self.report.examples_dropped["duplicate_prompt"] += duplicates
        file = self._open(rows, stack)
        lossy = 0
        columns = list(dict.fromkeys([*_canonical(rows), "num_messages", *self._keys(rows)]))
        for frame in self.rollouts.batches(columns, rows=stand_ins["row"].to_numpy()):
            written = self._append(file, rows, self._with_statistics(frame, rows))
            lossy += int((written["num_messages"] > 1).sum())
        if rows.flat:
            self._note_flattened(lossy)
        return file

    def _pairs(self, stack: ExitStack) -> RowsFile:
        options = self.job.options
        assert isinstance(options, DpoOptions)
        narrow = self._narrow(dpo.rules(options, self.target.rows(self.job, longer_prompts=False).cannot_hold), dpo.NARROW)
        self._look_at_groups(narrow)
        pairs, combinations = dpo.pair_rollouts(narrow, options)
        if combinations > len(pairs):
            self.report.notes.append(f"drew {len(pairs)} of {combinations} combinations (--max-pairs {options.max_pairs}, --seed {options.seed})")
        judged = pairs.with_columns(verdict([dpo.gap_rule(options)]))
        apart = judged.filter(pl.col("rule").is_null()).drop("rule")
        self.report.count_examples(judged.filter(pl.col("rule").is_not_null()))
        longer = bool((narrow.filter(pl.col("row").is_in(apart["chosen_row"].implode()))["num_messages"] > 1).any())
        rows = self.target.rows(self.job, longer_prompts=longer)
        file = self._open(rows, stack)
        needed = pl.concat([apart["chosen_row"], apart["rejected_row"]]).unique().sort().to_numpy()
        columns = list(dict.fromkeys(["row", *_canonical(rows), *self._keys(rows)]))
        said = [self._with_statistics(frame, rows) for frame in self.rollouts.batches(columns, rows=needed)]
        written = []
        if said:
            # Both sides have a reward and a row from the pairing already.
            table = pl.concat(said).drop("reward", strict=False)
            for part in apart.iter_slices(_SLICE):
                kept = self._append(file, rows, dpo.with_sides(part, table))
                written.append(kept.select("reward_gap", "chosen_reward", "rejected_reward"))
        if self.report.written:
            means = pl.concat(written).mean()
            # Huge rewards have no mean that a double holds, and JSON has no infinity.
            self.report.statistics = {f"mean_{name}": round(mean, 6) for name in means.columns if isfinite(mean := means[name].item())}
        return file

    def _narrow(self, rules: Sequence[Rule], columns: Sequence[str]) -> pl.DataFrame:
        """All kept rollouts, without what was said. `completion_key` is worked out only where it settles a tie."""
        cheap = [name for name in columns if name != "completion_key"]
        names = (*cheap, "statics", "num_messages")
        narrow = pl.concat([_empty(names), *self._judged(rules, names)])
        tied = narrow.filter(pl.len().over("task_key", "prompt_key", "reward", "attempt") > 1)["row"]
        if tied.is_empty():
            return narrow.with_columns(completion_key=pl.lit(None, dtype=pl.UInt64))
        keys = pl.concat(list(self.rollouts.batches(("row", "completion_key"), rows=tied.to_numpy())))
        return narrow.join(keys, on="row", how="left", maintain_order="left")

    def _keys(self, rows: Rows) -> tuple[str, ...]:
        return _GROUP if needs_statistics(rows.columns) else ()

    def _with_statistics(self, frame: pl.DataFrame, rows: Rows) -> pl.DataFrame:
        """`frame` with the statistics of each rollout's group, where the rows ask for them."""
        return frame.join(self._statistics, on=_GROUP, how="left", maintain_order="left") if needs_statistics(rows.columns) else frame

    @cached_property
    def _statistics(self) -> pl.DataFrame:
        """Statistics of all groups: one more pass, over keys and rewards."""
        rules = [RULES[name] for name in SOUND]
        columns = list(dict.fromkeys([*_GROUP, "reward", *columns_of(rules)]))
        sound = [frame.filter(verdict(rules).is_null()).select(*_GROUP, "reward") for frame in self.rollouts.batches(columns)]
        return group_statistics(pl.concat([_empty((*_GROUP, "reward")), *sound]))

    def _look_at_groups(self, narrow: pl.DataFrame) -> None:
        groups = narrow.group_by("task_key", "prompt_key").agg(pl.col("statics").unique())
        self.report.groups = len(groups)
        mixed = groups.filter(pl.col("statics").list.len() > 1)
        if len(mixed):
            names = advice.disagreeing(mixed["statics"])
            self.report.warnings.append(
                f"{len(mixed)} group(s) hold rollouts of different tasks: {', '.join(names)} disagree; tell them apart with --group-by {','.join(names)}"
            )

    def _note_flattened(self, lossy: int) -> None:
        if lossy:
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


def _canonical(rows: Rows) -> list[str]:
    """Columns to read for the rows, without the side they are for."""
    names = (name if name in SCHEMA else name.removeprefix("chosen_").removeprefix("rejected_") for name in rows.columns)
    return [name for name in dict.fromkeys(names) if name in SCHEMA]


def _empty(columns: Sequence[str]) -> pl.DataFrame:
    """No rollouts: inputs may be empty."""
    return pl.DataFrame(schema={name: SCHEMA[name] for name in columns})
