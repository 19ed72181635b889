"""One run of a recipe: read, decide, fetch what was said, write, publish. The one straight way from rollouts to a training file."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from math import isfinite
from pathlib import Path
from typing import Literal

import polars as pl

from rollout_etl.curate.rules import Rule, columns_of, verdict
from rollout_etl.errors import UsageError
from rollout_etl.publish.files import RowsFile, StagedFile
from rollout_etl.publish.rows import Field
from rollout_etl.read.canonical import Lookup
from rollout_etl.read.inputs import MANIFEST_SUFFIX, SUFFIXES
from rollout_etl.read.scan import Rollouts
from rollout_etl.read.schema import SCHEMA
from rollout_etl.recipes import advice, dpo, grpo, sft
from rollout_etl.recipes.options import AnyOptions, DpoOptions, GrpoOptions, SftOptions
from rollout_etl.report import Report
from rollout_etl.targets import nemo_rl, nemo_rl_config

_LEFT_OUT = {"encrypted": "num_encrypted", "empty": "num_empty", "unknown": "num_unknown"}
_COUNTED = ("shape", *_LEFT_OUT.values())
_SLICE = 20_000
_CONFIG_SUFFIX = ".nemo-rl.yaml"


@dataclass(frozen=True, kw_only=True)
class Run:
    """What to run, on what, and where to."""

    inputs: Sequence[str]
    output: Path
    options: AnyOptions
    target: Literal["nemo-rl"] = "nemo-rl"
    think: Literal["keep", "strip", "move"] = "keep"
    lookup: Lookup = field(default_factory=Lookup)
    task_inputs: str | None = None
    quarantine: Path | None = None
    max_bad_fraction: float = 0.01
    config: bool = True
    layout: Literal["current", "v0.5"] = "current"
    threads: int | None = None
    refuse_dates: bool = True
    """Refuse JSON lines of which a text column holds nothing but dates: the loaders' reader would change them."""


def execute(run: Run, progress: Callable[[int], None] = lambda rows: None) -> Report:
    """Run a recipe. The report's `written` is 0 when no example came of the input; nothing is published then.

    `progress` is told how many more rollouts were read. Raises `RolloutETLError` for everything a user can mend.
    """
    nemo_rl.check(run.options, run.output.suffix)
    cut_name = nemo_rl_config.check_folder(run.output) if run.config else None
    rollouts = Rollouts(
        run.inputs, style=nemo_rl.style(run.options, run.think), lookup=run.lookup, task_inputs=run.task_inputs, threads=run.threads
    )
    _refuse_overwriting(run, rollouts)
    recipe = nemo_rl_config.recipe_of(run.options)
    report = Report(recipe, run.target, [item.path for item in rollouts.inputs], _options(run), notes=list(rollouts.notes))
    report.warnings += [cut_name] if cut_name else []
    work = _Work(run, rollouts, report, progress)
    with ExitStack() as stack:
        file = work.write(stack)
        _write_quarantine(run, rollouts)
        rollouts.check_bad_fraction(run.max_bad_fraction)
        report.check()
        _warn_of_missing_fields(run, rollouts, report)
        if report.written:
            _publish(run, report, file, stack)
    advice.advise(report, run.options)
    return report


class _Work:
    """The steps of one run, over one report."""

    def __init__(self, run: Run, rollouts: Rollouts, report: Report, progress: Callable[[int], None]) -> None:
        self.run, self.rollouts, self.report, self.progress = run, rollouts, report, progress

    def write(self, stack: ExitStack) -> RowsFile:
        """Write the staged file of the recipe."""
        options = self.run.options
        if isinstance(options, SftOptions):
            return self._write_sft(options, stack)
        if isinstance(options, DpoOptions):
            return self._write_dpo(options, stack)
        return self._write_grpo(options, stack)

    def _judged(self, rules: Sequence[Rule], columns: Sequence[str], min_reward: float | None = None) -> Iterator[pl.DataFrame]:
        """Every rollout once, counted; those that no rule drops, with `columns`."""
        wanted = list(dict.fromkeys([*columns, *columns_of(rules), *_COUNTED]))
        for frame in self.rollouts.batches(wanted, min_reward=min_reward):
            judged = frame.with_columns(verdict(rules))
            self.report.count_rollouts(judged)
            for shape, count in judged["shape"].value_counts().iter_rows():
                self.report.shapes[shape] += count
            for name, column in _LEFT_OUT.items():
                self.report.left_out[name] += int(judged[column].sum())
            self.progress(len(judged))
            yield judged.filter(pl.col("rule").is_null()).select(columns)
        account = self.rollouts.account
        assert account is not None
        self.report.read, self.report.quarantined = account.read, len(account.quarantined)
        self.report.quarantine_reasons, self.report.repaired = account.reasons(), dict(account.repaired)

    def _open(self, fields: Sequence[Field], stack: ExitStack) -> RowsFile:
        file = RowsFile(self.run.output, fields)
        stack.enter_context(file.staged)
        return file

    def _append(self, file: RowsFile, examples: pl.DataFrame, rules: Sequence[Rule]) -> pl.DataFrame:
        """Count examples and write those that no rule drops."""
        judged = examples.with_columns(verdict(rules))
        self.report.count_examples(judged)
        kept = judged.filter(pl.col("rule").is_null())
        file.append(kept)
        return kept

    def _write_sft(self, options: SftOptions, stack: ExitStack) -> RowsFile:
        rules = sft.rules(options)
        gate = options.reward_threshold - 2e-9 if any(rule.name == "below_threshold" for rule in rules) else None
        file = self._open(nemo_rl.fields(options), stack)
        lossy = 0
        for kept in self._judged(rules, (*sft.COLUMNS[options.format], "num_messages"), gate):
            self._append(file, kept, [])
            lossy += int((kept["num_messages"] > 1).sum())
        if options.format == "simple":
            self._note_flattened(lossy)
        return file

    def _write_grpo(self, options: GrpoOptions, stack: ExitStack) -> RowsFile:
        narrow = self._narrow(grpo.rules(options), grpo.NARROW)
        self._look_at_groups(narrow)
        stand_ins = grpo.stand_ins(narrow, options)
        if duplicates := len(narrow) - len(stand_ins):
            self.report.built += duplicates
            self.report.examples_dropped["duplicate_prompt"] += duplicates
        file = self._open(nemo_rl.fields(options), stack)
        lossy = 0
        columns = (*grpo.COLUMNS[options.format], "num_messages")
        for frame in self.rollouts.batches(columns, rows=stand_ins["row"].to_numpy()):
            if options.format == "gym":
                frame = frame.with_columns(gym_row=nemo_rl.gym_row(options.agent_name))
            lossy += int((self._append(file, frame, grpo.example_rules(options))["num_messages"] > 1).sum())
        if options.format == "response":
            self._note_flattened(lossy)
        return file

    def _write_dpo(self, options: DpoOptions, stack: ExitStack) -> RowsFile:
        narrow = self._narrow(dpo.rules(options), dpo.NARROW)
        self._look_at_groups(narrow)
        pairs, combinations = dpo.pair_rollouts(narrow, options)
        if combinations > len(pairs):
            self.report.notes.append(f"drew {len(pairs)} of {combinations} combinations (--max-pairs {options.max_pairs}, --seed {options.seed})")
        judged = pairs.with_columns(verdict([dpo.gap_rule(options)]))
        apart = judged.filter(pl.col("rule").is_null()).drop("rule")
        self.report.count_examples(judged.filter(pl.col("rule").is_not_null()))
        rows = pl.concat([apart["chosen_row"], apart["rejected_row"]]).unique().sort()
        as_messages = options.prompt_as == "messages"
        if options.prompt_as == "auto":
            as_messages = bool((narrow.filter(pl.col("row").is_in(apart["chosen_row"].implode()))["num_messages"] > 1).any())
        file = self._open(nemo_rl.fields(options, as_messages), stack)
        said = list(self.rollouts.batches(("row", *dpo.COLUMNS[options.format]), rows=rows.to_numpy()))
        written = []
        if said:
            table = pl.concat(said)
            for part in apart.iter_slices(_SLICE):
                kept = self._append(file, dpo.with_sides(part, table, options), dpo.example_rules(options))
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
            other = "--format gym" if isinstance(self.run.options, GrpoOptions) else "--format openai"
            self.report.warnings.append(
                f"{lossy} example(s) lost the system text or earlier turns of their prompt: this format holds one question. "
                f"{other} keeps them, --drop flattened_prompt leaves them out"
            )


def _empty(columns: Sequence[str]) -> pl.DataFrame:
    """No rollouts: inputs may be empty."""
    return pl.DataFrame(schema={name: SCHEMA[name] for name in columns})


def _options(run: Run) -> dict[str, object]:
    return {
        **run.options.to_json(),
        "think": run.think,
        **{name: list(value) if isinstance(value, tuple) else value for name, value in asdict(run.lookup).items()},
        "task_inputs": run.task_inputs,
        "max_bad_fraction": run.max_bad_fraction,
    }


def _warn_of_missing_fields(run: Run, rollouts: Rollouts, report: Report) -> None:
    account = rollouts.account
    if account is None or not account.rollouts:
        return
    for option, paths in (("--group-by", run.lookup.group_by), ("--ground-truth-field", (run.lookup.ground_truth_field,))):
        for path in paths:
            looked_up_elsewhere = option == "--ground-truth-field" and bool(rollouts.task_inputs)
            if path is not None and not account.found[path] and not looked_up_elsewhere:
                report.warnings.append(f"{option} {path}: no rollout has this field" + advice.nearest(path, rollouts.field_names()))


def _refuse_overwriting(run: Run, rollouts: Rollouts) -> None:
    """Never write over an input, and only to files of this machine."""
    read = {os.path.realpath(local) for item in (*rollouts.inputs, *rollouts.task_inputs) if (local := item.local_path) is not None}
    beside = [Path(f"{run.output}{MANIFEST_SUFFIX}"), *([Path(f"{run.output}{_CONFIG_SUFFIX}")] if run.config else [])]
    for path in (run.output, *beside, run.quarantine):
        if path is not None and os.path.realpath(path) in read:
            raise UsageError(f"{path} is an input; give the output another name")
    for written in (run.output, *beside):
        if run.quarantine is not None and os.path.realpath(run.quarantine) == os.path.realpath(written):
            raise UsageError(f"{written} cannot be both the output and the quarantine")
    if re.match(r"[a-z][a-z0-9+.-]+:/", str(run.output), re.IGNORECASE):
        raise UsageError(f"{run.output} is a URL; write to a local file")
    if run.output.is_dir():
        raise UsageError(f"{run.output} is a folder; name a file that ends with .jsonl or .parquet")
    if not str(run.output).endswith((SUFFIXES[0], SUFFIXES[-1])):
        raise UsageError(f"the output {run.output} must end with .jsonl or .parquet")


def _write_quarantine(run: Run, rollouts: Rollouts) -> None:
    if run.quarantine is None or rollouts.account is None:
        return
    with StagedFile(run.quarantine) as file:
        for bad in rollouts.account.quarantined:
            file.write(bad.to_json().encode() + b"\n", rows=1)
        file.finish()
        file.publish()


def _publish(run: Run, report: Report, file: RowsFile, stack: ExitStack) -> None:
    """Move data, run file and manifest to their places; the manifest goes last."""
    if run.refuse_dates:
        _refuse_dates(run, file)
    written = file.finish()
    report.outputs = [written]
    staged = [file.staged]
    if run.config:
        path = run.output.with_name(run.output.name + _CONFIG_SUFFIX)
        text = nemo_rl_config.run_file(run.options, run.output, written.rows, run.layout)
        staged.append(_staged(path, text, stack))
        report.outputs.append(staged[-1].finish())
        report.launch = nemo_rl_config.launch_command(run.options, path, run.layout)
    advice.advise(report, run.options)
    staged.append(_staged(Path(str(run.output) + MANIFEST_SUFFIX), json.dumps(report.to_json(), ensure_ascii=False, indent=2) + "\n", stack))
    staged[-1].finish()
    for part in staged:
        part.publish()


def _staged(path: Path, text: str, stack: ExitStack) -> StagedFile:
    file = stack.enter_context(StagedFile(path))
    file.write(text.encode())
    return file


def _refuse_dates(run: Run, file: RowsFile) -> None:
    if run.output.suffix == ".jsonl" and file.dates:
        raise UsageError(
            f"every value of {', '.join(sorted(file.dates))} reads as a date, which the JSON reader of `datasets` would change: "
            f"write {run.output.with_suffix('.parquet')} instead"
        )
