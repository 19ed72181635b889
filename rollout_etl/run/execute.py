"""One run of a recipe: read, choose, fetch messages, write, publish."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from rollout_etl import named_fields, targets
from rollout_etl.bounded.memory import default_limit, shuffle_buckets
from rollout_etl.bounded.setup import judge_of
from rollout_etl.curate import rewards
from rollout_etl.curate.options import Curation
from rollout_etl.errors import UsageError
from rollout_etl.option_values import check_fraction, check_least
from rollout_etl.progress import Stage
from rollout_etl.publish.files import refuse_place
from rollout_etl.publish.folders import check_replaceable
from rollout_etl.publish.outputs import Sharding
from rollout_etl.publish.parts import BUCKETS
from rollout_etl.publish.shard_plan import EarlierShards
from rollout_etl.read.canonical import Lookup
from rollout_etl.read.inputs import MANIFEST_SUFFIX, SUFFIXES
from rollout_etl.read.scan import Rollouts
from rollout_etl.read.stored import is_stored
from rollout_etl.recipes.options import AnyOptions
from rollout_etl.run import advice
from rollout_etl.run.publishing import publish, write_quarantine
from rollout_etl.run.report import Report
from rollout_etl.run.steps import Steps
from rollout_etl.run.writing import output_paths
from rollout_etl.targets.target import Form, Job, Loader, loader_of, refuse_kept

RolloutsOf = Callable[..., Rollouts]
"""As `Rollouts`."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run: recipe, inputs, output and options."""

    inputs: Sequence[str]
    output: Path
    options: AnyOptions
    target: str = "nemo-rl"
    think: Literal["keep", "strip", "move"] = "keep"
    form: Form | None = None
    arguments: Literal["object", "string"] | None = None
    extra: Sequence[str] = ()
    mapping: Sequence[str] = ()
    token_ids: bool = False
    lookup: Lookup = field(default_factory=Lookup)
    curation: Curation = field(default_factory=Curation)
    task_inputs: str | None = None
    quarantine: Path | None = None
    max_bad_fraction: float = 0.01
    config: bool = True
    layout: Literal["current", "v0.5"] = "current"
    threads: int | None = None
    memory_limit: int | None = None
    """Bytes of memory to stay within. None: half of the memory of the machine or container."""
    temp_dir: Path | None = None
    """Folder for intermediate results, from which an interrupted run resumes. None: the output's, if the memory limit makes them necessary."""
    engine: Literal["local", "ray"] = "local"
    """Where the tasks of a run in ranges are executed."""
    ray_address: str | None = None
    """Ray cluster to connect to. None: the one that this machine belongs to, or a new one on this machine."""
    sharding: Sharding | None = None
    """Make the output a folder of shards. If its name has no suffix, the target chooses the file format."""
    dry_run: bool = False
    """Read, choose and count, but write nothing."""
    rollouts: RolloutsOf = Rollouts
    """Reads the inputs."""
    earlier: EarlierShards | None = None
    """Shards of an earlier run; those that would come out the same are reused."""
    note_prompts: bool = False
    """Record which prompts are written to which part."""
    refuse_dates: bool = True
    """Refuse JSON lines in which a text column holds only dates: the loaders' JSON reader would change them."""

    def __post_init__(self) -> None:
        check_fraction("max_bad_fraction", self.max_bad_fraction)
        check_least("threads", self.threads)
        check_least("memory_limit", self.memory_limit)


def execute(run: Run) -> Report:
    """Run a recipe. If the input gives no examples, the report's `written` is 0 and nothing is published.

    Progress is reported to `rollout_etl.progress`. Raises `RolloutETLError` for errors that a user can fix.
    """
    job = job_of(run)
    target = targets.load(run.target)
    loader_of(target, job)
    if run.mapping and run.target != "custom":
        raise UsageError("--map is for --target custom, whose columns you name")
    if run.token_ids and (run.target, job.recipe) != ("trl", "sft"):
        raise UsageError("--token-ids is for the recipe sft with --target trl: no other loader takes tokens")
    if run.ray_address is not None and run.engine != "ray":
        raise UsageError("--ray-address is for --engine ray")
    sources = {name.partition("=")[2] or name for name in (*run.extra, *run.mapping)}
    _refuse_without_effect(run, sources)
    target.check(job)
    refuse_kept(target, job)
    cut_name = target.check_path(run.output) if run.config else None
    limit = run.memory_limit or default_limit()
    rollouts = run.rollouts(
        run.inputs, style=target.style_of(job), lookup=run.lookup, task_inputs=run.task_inputs, memory=limit,
        # On a cluster a task requests one processor by default.
        threads=run.threads or (1 if run.engine == "ray" else None),
    )
    report = Report(job.recipe, run.target, [item.path for item in rollouts.inputs], _options(run), notes=list(rollouts.notes))
    report.warnings += [warning for warning in (cut_name, run.curation.reward and rewards.weights_warning(run.curation.reward)) if warning]
    report.warnings += advice.without_effect(job, target.rows(job, longer_prompts=True), run.curation, sources)
    with ExitStack() as stack:
        _refuse_overwriting(run, rollouts, output_paths(job, run.curation).values(), [*target.beside(job), *([target.RUN_SUFFIX] if run.config else [])])
        judge = judge_of(run, job, rollouts, report, limit, stack)
        buckets = BUCKETS if run.curation.shuffle is None else shuffle_buckets(limit, rollouts.inputs)
        steps = Steps(job, target, judge, run.sharding, run.dry_run, run.earlier, run.note_prompts, buckets)
        parts = steps.write(stack)
        if run.dry_run:
            report.notes.append("dry run: nothing was written")
        else:
            write_quarantine(run.quarantine, rollouts)
        rollouts.check_unchanged()
        rollouts.check_bad_fraction(run.max_bad_fraction)
        report.check()
        report.warnings += rollouts.warnings + named_fields.looked_up(rollouts) + steps.missing_fields()
        if report.written and not run.dry_run:
            with Stage("publish"):
                publish(run, steps, parts, stack)
    advice.advise(report, run.options)
    return report


def job_of(run: Run) -> Job:
    """The job for the target."""
    return Job(
        options=run.options, output=run.output, think=run.think, form=run.form, arguments=run.arguments, extra=tuple(run.extra),
        mapping=tuple(run.mapping), token_ids=run.token_ids, layout=run.layout, shards=_container_of_shards(run),
    )


def _container_of_shards(run: Run) -> Literal[".jsonl", ".parquet"] | None:
    """The file format by the folder's suffix, or the one that the target prefers."""
    if run.sharding is None:
        return None
    if run.output.suffix in (".jsonl", ".parquet"):
        return run.output.suffix  # type: ignore[return-value]
    loader = targets.load(run.target).LOADERS[run.options.recipe]
    return loader.containers[0] if isinstance(loader, Loader) else ".jsonl"  # type: ignore[return-value]


def _options(run: Run) -> dict[str, object]:
    return {
        **run.options.to_json(),
        **run.curation.to_json(),
        "think": run.think,
        **{name: value for name, value in _shape(run).items() if value},
        **{name: list(value) if isinstance(value, tuple) else value for name, value in asdict(run.lookup).items()},
        "task_inputs": run.task_inputs,
        "max_bad_fraction": run.max_bad_fraction,
    }


def _shape(run: Run) -> dict[str, object]:
    sharding = {} if run.sharding is None else {"shards": run.sharding.count, "shard_size": run.sharding.size, "shard_rows": run.sharding.rows}
    return sharding | {"as": run.form, "arguments": run.arguments, "extra": list(run.extra), "map": list(run.mapping), "token_ids": run.token_ids}


def _refuse_without_effect(run: Run, sources: Collection[str]) -> None:
    """Refuse options without effect: they would look as if they had worked."""
    targets.check_layout(run.target, run.layout)
    if run.layout != "current" and not run.config:
        raise UsageError("--nemo-rl-layout and --no-config cannot be combined: the layout is that of the run file")
    if "advantage" in sources and run.curation.advantage is None:
        raise UsageError("the column advantage needs a formula: --advantage grpo, rloo or max-rl")
    if run.curation.advantage is not None and "advantage" not in sources:
        raise UsageError("--advantage only computes a column: write it with --extra advantage, or with --map for --target custom")


def _refuse_overwriting(run: Run, rollouts: Rollouts, outputs: Iterable[Path], companions: Sequence[str]) -> None:
    """Refuse to write over an input, or anywhere but to files of this machine."""
    read = [local for item in (*rollouts.inputs, *rollouts.task_inputs) if (local := item.local_path) is not None]
    folders_read = [os.path.dirname(os.path.realpath(path)) for path in read] if run.sharding else []
    named = [run.curation.exclude_prompts, run.curation.tokenizer]
    beside = [Path(f"{path}{suffix}") for path in outputs for suffix in ("", MANIFEST_SUFFIX)] + [Path(f"{run.output}{suffix}") for suffix in companions]
    for path in (*beside, run.quarantine):
        if path is None:
            continue
        refuse_place(path, (*read, *folders_read, *named))
        if is_stored(str(path.parent)):
            raise UsageError(f"{path} would be inside an ingested folder; name another folder")
    for written in beside:
        if run.quarantine is not None and os.path.realpath(run.quarantine) == os.path.realpath(written):
            raise UsageError(f"{written} cannot be both the output and the quarantine")
    if re.match(r"[a-z][a-z0-9+.-]+:/", str(run.output), re.IGNORECASE):
        raise UsageError(f"{str(run.output).replace(':/', '://', 1)} is a URL; write to a local file")
    if run.sharding is not None:
        for path in outputs:
            check_replaceable(path)
        return
    if run.output.is_dir():
        raise UsageError(f"{run.output} is a folder; name a file that ends with .jsonl or .parquet, or {run.output}/ to write shards into it")
    if run.output.suffix not in (SUFFIXES[0], SUFFIXES[-1]):
        raise UsageError(f"the output {run.output} must end with .jsonl or .parquet, or with / for a folder of shards")
