"""Building a version: every output of a pipeline, in a folder, checked by its gates."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from rollout_etl import __version__
from rollout_etl.curate import split
from rollout_etl.curate.split import TRAIN
from rollout_etl.errors import UnreadableError
from rollout_etl.publish.files import sha256_of
from rollout_etl.publish.shard_plan import EarlierShards
from rollout_etl.read.scan import Rollouts
from rollout_etl.refresh.card import CARD, card
from rollout_etl.refresh.fingerprints import Source
from rollout_etl.refresh.gates import Outcome, Seen
from rollout_etl.refresh.pipeline import FILES, Output, Pipeline, of_output, replaced
from rollout_etl.refresh.published import said
from rollout_etl.refresh.versions import link_if_same, write_text
from rollout_etl.run.execute import RolloutsOf, Run, execute
from rollout_etl.run.report import Report

RunOf = Callable[[Output, Sequence[str], Path], Run]
"""Makes the run for an output from these inputs at this path."""
Record = dict[str, Any]
_SOURCE = re.compile(r"\bsource\b")


@dataclass
class Built:
    """A version that was built, and the outcomes of its gates."""

    number: int
    folder: Path
    record: Record
    outcomes: list[Outcome] = field(default_factory=list)
    damaged: list[Path] = field(default_factory=list)
    """Files of the version before that are not what they were when they were written; none is used."""

    @property
    def failed(self) -> list[Outcome]:
        """Gates that prevent publishing the version."""
        return [outcome for outcome in self.outcomes if not outcome.passed and not outcome.forced]

    @property
    def notes(self) -> list[str]:
        """What users should know of earlier versions."""
        return [f"{said(self.damaged)}, and was made anew"] if self.damaged else []


def key_of(pipeline: Pipeline, sources: Sequence[Source]) -> str:
    """Everything that a version depends on: inputs in their order, files that options name, outputs, gates, the version of rollout-etl."""
    options = [{name: _said(value) for name, value in output.options.items()} for output in pipeline.outputs]
    outputs = [[output.file, output.recipe, said, dict(output.bounds.by_gate)] for output, said in zip(pipeline.outputs, options, strict=True)]
    given = [output.options.get(name, output.options.get(name.replace("-", "_"))) for output in pipeline.outputs for name in FILES]
    named = {str(one) for value in given if value is not None for one in (value if isinstance(value, list) else [value])}
    contents = [_digest(path) for value in sorted(named) for path in _files_behind(pipeline.resolved(value))]
    # Names of files are not part of a version, unless rows or choices depend on them.
    by_name = any(_SOURCE.search(str(value)) for said in options for value in said.values())
    inputs = [[source.sha256 or source.path, source.namespace, *([source.path] if by_name and source.sha256 else [])] for source in sources]
    spelt = json.dumps([contents, inputs, outputs, __version__], sort_keys=True, default=str)
    return hashlib.sha256(spelt.encode()).hexdigest()


def _said(value: Any) -> Any:
    """The value of an option with variables replaced: their values count, not their names."""
    if isinstance(value, list):
        return [_said(one) for one in value]
    return replaced(value) if isinstance(value, str) else value


def _files_behind(path: str) -> list[str]:
    """The local files behind an option's value: a file, those in a folder, or those that a glob finds."""
    if os.path.isdir(path):
        return sorted(os.path.join(parent, name) for parent, _, names in os.walk(path) for name in names if os.path.isfile(os.path.join(parent, name)))
    if os.path.exists(path):
        return [path] if os.path.isfile(path) else []
    return [file for found in sorted(glob.glob(path, recursive=True)) for file in _files_behind(found)]


def _digest(path: str) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise UnreadableError(f"cannot read {path}: {error.strerror}") from error


def build(
    pipeline: Pipeline, sources: Sequence[Source], number: int, folder: Path, before: Record | None, before_folder: Path | None, run_of: RunOf,
    force: Sequence[str] = (), rollouts: RolloutsOf = Rollouts, damaged: Sequence[Path] = (),
) -> Built:
    """Build all outputs of a version from `rollouts` and check their gates. Raises `RolloutETLError` as runs do.

    `damaged` are files of the version before that are known to be damaged.
    """
    paths = [source.path for source in sources]
    record: Record = {
        "version": number,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "parent": None if before is None else before["version"],
        "key": key_of(pipeline, sources),
        "software": __version__,
        "pipeline": pipeline.known,
        "inputs": [source.__dict__ for source in sources],
        "outputs": {},
        "statistics": {},
    }
    built = Built(number, folder, record, damaged=list(damaged))
    needs_statistics = any(output.bounds.ask_for_statistics for output in pipeline.outputs)
    statistics = _statistics(paths, pipeline, run_of, folder, rollouts) if needs_statistics else None
    record["statistics"] = {} if statistics is None else {"mean_reward": statistics["mean_reward"], "rollouts": statistics["rollouts"]}
    note_prompts = any(output.bounds.ask_for_prompts for output in pipeline.outputs)
    reports = {}
    for output in pipeline.outputs:
        path = folder / output.file
        earlier = None if before is None else before["outputs"].get(output.file)
        shards = EarlierShards(before_folder, earlier.get("shards", ())) if before_folder and earlier else None
        run = replace(run_of(output, paths, path), rollouts=rollouts, earlier=shards, note_prompts=note_prompts)
        with of_output(pipeline.path, output.file):
            report = execute(run)
        record["outputs"][output.file], reports[output.file] = _entry(folder, report), report
        if earlier and before_folder:
            for name, digest in record["outputs"][output.file]["files"].items():
                path = before_folder / name
                if digest == earlier["files"].get(name) and not link_if_same(folder / name, path, digest) and path not in built.damaged:
                    built.damaged.append(path)
        built.damaged += [] if shards is None else [path for path in shards.damaged if path not in built.damaged]
    trained_on = [found.filter(pl.col("part") == TRAIN) for report in reports.values() if (found := report.prompts) is not None]
    for output in pipeline.outputs:
        seen = _seen(output, folder, reports[output.file], before, statistics, trained_on)
        built.outcomes += [_forced(outcome, force) for outcome in output.bounds.outcomes(output.file, seen)]
    record["gates"] = [outcome.to_json() for outcome in built.outcomes]
    write_text(folder / CARD, card(record))
    return built


def _forced(outcome: Outcome, force: Sequence[str]) -> Outcome:
    forced = not outcome.passed and outcome.gate in force
    return Outcome(outcome.gate, outcome.output, outcome.passed, outcome.value, outcome.bound, forced)


def _entry(folder: Path, report: Report) -> Record:
    found = report.to_json()
    data = [written for written in report.outputs if written.rows]
    return {
        "recipe": report.recipe,
        "target": report.target,
        "rows": report.written,
        "bytes": sum(written.bytes for written in data),
        "files": {os.fspath(Path(written.path).relative_to(folder)): written.sha256 for written in report.outputs},
        "shards": [shard.to_json() for shard in report.shards],
        "rollouts": {name: found["rollouts"][name] for name in ("read", "quarantined", "dropped", "kept")},
        "examples": found["examples"],
        "warnings": report.warnings,
    }


def _seen(output: Output, folder: Path, report: Report, before: Record | None, statistics: Record | None, trained_on: Sequence[pl.DataFrame]) -> Seen:
    earlier = None if before is None else before["outputs"].get(output.file)
    return Seen(
        rows=report.written,
        read=report.read,
        dropped=report.dropped.total(),
        bad=report.quarantined,
        problems=_problems(output, folder, report, before) if output.bounds.ask_for_validation and report.written and report.target != "custom" else [],
        mean_reward=None if statistics is None else statistics["mean_reward"],
        flags={} if statistics is None else statistics["flags"].get(output.recipe, {}),
        duplicates=None if statistics is None else statistics["duplicates"],
        length_bias=None if statistics is None else statistics["length_bias"],
        leakage=_leakage(report, trained_on),
        rows_before=None if earlier is None else earlier["rows"],
        mean_before=None if before is None else before["statistics"].get("mean_reward"),
    )


def _problems(output: Output, folder: Path, report: Report, before: Record | None) -> list[str]:
    """Problems of the rows. Shards reused from a version without problems are not checked again."""
    from rollout_etl.validate.validate import validate

    gates = [] if before is None else before["gates"]
    was_fine = any(gate["gate"] == "validate" and gate["output"] == output.file and gate["passed"] and gate["bound"] for gate in gates)
    shards = [folder / shard.file for shard in report.shards if shard.file and not (shard.earlier and was_fine)]
    if report.shards and not shards:
        return []
    found = validate(folder / output.file, report.target, report.recipe, shards=shards or None).problems
    return [f"{problem.name} ({problem.rows} rows)" for problem in found]


def _leakage(report: Report, trained_on: Sequence[pl.DataFrame]) -> float | None:
    """The share of an output's held-out prompts that any output trains on."""
    if report.prompts is None:
        return None
    beside = report.prompts.filter(pl.col("part") != TRAIN)
    known = beside.join(pl.concat(trained_on), on=split.KEY, how="semi", nulls_equal=True)
    return len(known) / len(beside) if len(beside) else None


def _statistics(paths: Sequence[str], pipeline: Pipeline, run_of: RunOf, folder: Path, rollouts: RolloutsOf) -> Record:
    """The statistics of rollouts that gates use: mean reward, copies, length, red flags by recipe; read as the first output reads them."""
    from rollout_etl.stats.flags import ALGORITHMS
    from rollout_etl.stats.narrow import narrow
    from rollout_etl.stats.profile import profile

    first = run_of(pipeline.outputs[0], paths, folder / pipeline.outputs[0].file)
    data = narrow(rollouts(paths, lookup=first.lookup, task_inputs=first.task_inputs, threads=first.threads))
    found = profile(data)
    flags: dict[str, dict[str, list[str]]] = {}
    for name in ALGORITHMS:
        # A reward model learns from pairs, as DPO does.
        for recipe in (name, "rm") if name == "dpo" else (name,):
            flags[recipe] = _by_severity(found["flags"], name)
    reward = found["overall"]["reward"]
    return {
        "mean_reward": None if reward is None else reward["mean"], "rollouts": len(data.rollouts), "flags": flags,
        "duplicates": found["copies"] / len(data.rollouts) if len(data.rollouts) else 0.0, "length_bias": found["overall"]["length"]["correlation"],
    }


def _by_severity(flags: Sequence[Mapping[str, Any]], algorithm: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for flag in flags:
        if algorithm in flag["algorithms"]:
            found.setdefault(flag["severity"], []).append(flag["name"])
    return found
