"""Whether a run works in ranges, and how it is divided."""

from __future__ import annotations

import json
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rollout_etl import __version__
from rollout_etl.bounded import memory
from rollout_etl.curate import plan
from rollout_etl.engines import Engine
from rollout_etl.read.scan import Rollouts
from rollout_etl.recipes.options import DpoOptions
from rollout_etl.run.judging import Judge
from rollout_etl.run.report import Report
from rollout_etl.sizes import spelt
from rollout_etl.targets.target import Job

if TYPE_CHECKING:
    from rollout_etl.bounded.judge import BoundedJudge, Bounds
    from rollout_etl.bounded.workspace import Workspace
    from rollout_etl.run.execute import Run

_RANGE_BYTES = 1 << 29
"""Smallest range: planning its query takes as long as reading about 50 MB."""
_PIECE_BYTES = 1 << 27
_WITHOUT_EFFECT = {"inputs", "output", "threads", "memory_limit", "temp_dir", "engine", "ray_address", "quarantine", "max_bad_fraction", "dry_run",
                   "rollouts", "earlier", "note_prompts"}
"""Fields of a run that do not affect its tasks."""


def judge_of(run: Run, job: Job, rollouts: Rollouts, report: Report, limit: int, stack: ExitStack) -> Judge:
    """The judge of a run: one that works in memory, or one that works in ranges if that would need more than `limit`."""
    size = memory.unpacked_bytes(rollouts.inputs)
    per_rollout = rollouts.glimpse.bytes_per_rollout if size else 1.0
    narrow = job.per != "rollout" or plan.looks_around(run.curation)
    # Stored rollouts need only narrow columns, and texts are fetched in stretches.
    fits = memory.fits(limit, size, per_rollout, "rollout" if rollouts.holds(["row"]) else job.per, narrow)
    if fits and run.engine == "local" and run.temp_dir is None:
        if not run.dry_run:
            _discard_interrupted(run, report)
        return Judge(rollouts, run.curation, report)
    # Imported here because most runs do not need it.
    from rollout_etl.bounded.judge import BoundedJudge
    from rollout_etl.bounded.workspace import Workspace, fingerprint_of, fingerprint_of_named

    bounds = _bounds(run, rollouts, limit, size / per_rollout)
    described = {"version": __version__, "run": _described(run), "inputs": fingerprint_of(rollouts.inputs), "task_inputs": fingerprint_of(rollouts.task_inputs),
                 "named": fingerprint_of_named([run.curation.exclude_prompts, run.curation.tokenizer]),
                 "bounds": [bounds.buckets, bounds.piece_bytes, [[(item.path, item.start) for item in each] for each in bounds.ranges]]}
    parent = run.temp_dir or (Path(tempfile.gettempdir()) if run.dry_run and run.engine == "local" else run.output.absolute().parent)
    work = stack.enter_context(Workspace(parent, run.output, described))
    bounded = BoundedJudge(rollouts, run.curation, report, bounds=bounds, folder=work.folder, engine=_engine(run, stack))
    why = "" if fits else f"needs more than {spelt(limit)} of memory: "
    report.notes.append(f"{why}worked on disk, in {len(bounds.ranges)} range(s) of the input and {bounds.buckets} bucket(s) of groups")
    if bounds.buckets == 1 and plan.compares_groups(run.curation):
        report.notes.append(f"copies and near-copies are searched across all groups: about {memory.NARROW_BYTES} bytes per rollout are held in memory")
    stack.callback(_remark, bounded, report, work)
    return bounded


def _discard_interrupted(run: Run, report: Report) -> None:
    """Remove what an interrupted run on disk left for the same output, which this run replaces. Raises `LockedError` if it is not over."""
    from rollout_etl.bounded.workspace import Workspace

    left = Workspace(run.output.absolute().parent, run.output, {})
    if left.folder.is_dir():
        with left:
            report.remarks.append("removed the intermediate results of an interrupted run, since this one fits into memory")


def _remark(judge: BoundedJudge, report: Report, work: Workspace) -> None:
    if work.starts_over:
        report.remarks.append("started over: inputs or options differ from those of the interrupted run")
    elif judge.done_before:
        report.remarks.append(
            f"resumed an interrupted run: {judge.done_before} of {judge.tasks} tasks were done already, {judge.lines_before} lines were not read again"
        )


def _bounds(run: Run, rollouts: Rollouts, limit: int, count: float) -> Bounds:
    from rollout_etl.bounded.judge import Bounds
    from rollout_etl.bounded.ranges import cut

    among_all = plan.compares_groups(run.curation) or (isinstance(run.options, DpoOptions) and run.options.cross_prompt)
    buckets = 1 if among_all else min(int(memory.NARROW_BYTES * count / (limit / 16)) + 1, memory.MOST_BUCKETS)
    return Bounds(ranges=cut(rollouts.inputs, min(limit, _RANGE_BYTES)), buckets=buckets, piece_bytes=min(limit // 16 + 1, _PIECE_BYTES))


def _described(run: Run) -> dict[str, Any]:
    """Everything that the tasks of a run depend on, as JSON values."""
    values = {f.name: getattr(run, f.name) for f in fields(run) if f.name not in _WITHOUT_EFFECT}
    plain = {name: [type(value).__name__, asdict(value)] if is_dataclass(value) and not isinstance(value, type) else value for name, value in values.items()}
    described: dict[str, Any] = json.loads(json.dumps(plain, default=str))
    return described


def _engine(run: Run, stack: ExitStack) -> Engine:
    if run.engine == "local":
        from rollout_etl.engines.local import Local

        return Local()
    from rollout_etl.engines.ray import Ray

    return stack.enter_context(Ray(run.ray_address, run.threads or 1))
