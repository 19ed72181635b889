"""The end of a run: moving data, run file and manifests to their places."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from rollout_etl.curate import split
from rollout_etl.errors import UsageError
from rollout_etl.publish.files import StagedFile, Written, plain_write_errors
from rollout_etl.publish.manifests import parts_of
from rollout_etl.publish.outputs import Output
from rollout_etl.publish.parts import Parts
from rollout_etl.read.inputs import MANIFEST_SUFFIX
from rollout_etl.read.scan import Rollouts
from rollout_etl.run import advice
from rollout_etl.run.report import Report
from rollout_etl.run.steps import Steps
from rollout_etl.targets.target import Settings, companion

if TYPE_CHECKING:
    from rollout_etl.run.execute import Run


def write_quarantine(path: Path | None, rollouts: Rollouts) -> None:
    """Write the lines that are not rollouts as JSON lines, if a file for them is named."""
    if path is None or rollouts.account is None:
        return
    with StagedFile(path) as file:
        for bad in rollouts.account.quarantined:
            file.write(bad.to_json().encode() + b"\n", rows=1)
        file.finish()
        file.publish()


def publish(run: Run, steps: Steps, parts: Parts, stack: ExitStack) -> None:
    """Move data, the files next to it and then the manifests to their places. Stale parts are removed before the manifests are moved."""
    job, target, report = steps.job, steps.target, steps.report
    if run.refuse_dates and job.container == ".jsonl":
        for file in parts.files.values():
            _refuse_guesses(run, target.rows(job, longer_prompts=False).reader, file)
    if not parts.main.rows:
        raise UsageError(f"no examples for {split.TRAIN}: too few prompts for this split")
    written = {name: file.finish() for name, file in parts.files.items() if file.rows}
    if missing := [name for name in parts.files if name not in written]:
        report.warnings.append(f"no examples for {', '.join(missing)}: too few prompts for this split")
    stale = _stale_parts(run.output, parts, written, report)
    report.outputs = [file for files in written.values() for file in files]
    report.shards = [shard for name in written for shard in steps.shards.parts[name]] if steps.shards is not None else []
    staged: list[Output | StagedFile] = [parts.files[name] for name in written]
    texts = {companion(run.output, suffix): text for suffix, text in target.beside(job).items()}
    if run.config:
        settings = _settings(run, steps, parts, written)
        run_files = target.run_files(job, settings)
        texts |= run_files
        report.launch = target.launch(job, settings) if run_files else None
    for path, text in texts.items():
        companion_file = _staged(path, text, stack)
        staged.append(companion_file)
        report.outputs.append(companion_file.finish())
    advice.advise(report, run.options)
    record = json.dumps(report.to_json(), ensure_ascii=False, indent=2) + "\n"
    manifests = [_staged(_manifest(parts.files[name].path), record, stack) for name in reversed(written)]
    for manifest in manifests:
        manifest.finish()
    for one in staged:
        one.publish()
    for path in stale:
        _remove(path)
    for manifest in manifests:
        manifest.publish()


def _stale_parts(output: Path, parts: Parts, written: Collection[str], report: Report) -> list[Path]:
    """Parts of an earlier run that this one leaves empty: their prompts may be trained on now. Warns about other parts that are still there."""
    empty = {file.path for name, file in parts.files.items() if name not in written}
    others = set(parts_of(output)) - {parts.files[name].path for name in written}
    stale = sorted(empty & others)
    report.warnings += [f"removed {path}, which an earlier run wrote: its prompts may be trained on now" for path in stale]
    report.warnings += [
        f"{path} is from an earlier run, and its prompts may be trained on now: remove it, or give the output another name"
        for path in sorted((others | {path for path in empty if path.exists()}) - {*stale})
    ]
    return stale


def _remove(path: Path) -> None:
    with plain_write_errors(path):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        _manifest(path).unlink(missing_ok=True)


def _manifest(path: Path) -> Path:
    return Path(f"{path}{MANIFEST_SUFFIX}")


def _settings(run: Run, steps: Steps, parts: Parts, written: Mapping[str, Sequence[Written]]) -> Settings:
    """The settings of the run file: with a split, the first part after training is used for validation."""
    validation = next((parts.files[name] for name in written if name != split.TRAIN), None)
    shards = {} if run.sharding is None else {parts.files[name].path: [Path(file.path) for file in files] for name, files in written.items()}
    return Settings(
        run_file=companion(run.output, steps.target.RUN_SUFFIX), train=run.output, rows=parts.main.rows, shards=shards,
        validation=None if validation is None else validation.path, validation_rows=0 if validation is None else validation.rows,
        statistics={**steps.report.statistics, **steps.counts},
    )


def _staged(path: Path, text: str, stack: ExitStack) -> StagedFile:
    file = stack.enter_context(StagedFile(path))
    file.write(text.encode())
    return file


def _refuse_guesses(run: Run, reader: str, file: Output) -> None:
    """Refuse JSON lines that the trainer's JSON reader would change or fail on."""
    other = run.output.with_suffix(".parquet")
    dates = sorted({name for guesses in file.guesses for name in guesses.dates})
    late = sorted({name for guesses in file.guesses for name in guesses.late})
    if file.rows and reader != "exact" and dates:
        raise UsageError(f"every value of {', '.join(dates)} looks like a date, which the JSON reader of `datasets` would change: write {other} instead")
    if file.rows and reader == "guesses" and late:
        raise UsageError(
            f"{', '.join(late)} may change type after the first 10 MB, and the JSON reader of `datasets` would stop there: write {other} instead"
        )
