"""One version: every output of a pipeline, built in a folder, looked at by its gates."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rollout_etl import __version__
from rollout_etl.read.scan import Rollouts
from rollout_etl.refresh.card import card
from rollout_etl.refresh.fingerprints import Source
from rollout_etl.refresh.gates import Outcome, Seen
from rollout_etl.refresh.pipeline import Output, Pipeline
from rollout_etl.refresh.versions import link_if_same, write_text
from rollout_etl.report import Report
from rollout_etl.run import RolloutsOf, Run, execute

RunOf = Callable[[Output, Sequence[str], Path], Run]
"""The run that makes an output of these inputs at this path."""
Record = dict[str, Any]


@dataclass
class Built:
    """A version that was built, and what its gates said."""

    number: int
    folder: Path
    record: Record
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def failed(self) -> list[Outcome]:
        """Gates that hold the version back."""
        return [outcome for outcome in self.outcomes if not outcome.passed and not outcome.forced]


def key_of(pipeline: Pipeline, sources: Sequence[Source]) -> str:
    """What a version depends on: inputs in their order, outputs, gates, the software's version."""
    outputs = [[output.file, output.recipe, dict(output.options), dict(output.bounds.by_gate)] for output in pipeline.outputs]
    spelt = json.dumps([[source.sha256 or source.path for source in sources], outputs, __version__], sort_keys=True, default=str)
    return hashlib.sha256(spelt.encode()).hexdigest()


def build(
    pipeline: Pipeline, sources: Sequence[Source], number: int, folder: Path, before: Record | None, before_folder: Path | None, run_of: RunOf,
    force: Sequence[str] = (), progress: Callable[[int], None] = lambda rows: None, rollouts: RolloutsOf = Rollouts,
) -> Built:
    """Build all outputs of a version out of `rollouts` and ask their gates. Raises `RolloutETLError` for what a run refuses."""
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
    built = Built(number, folder, record)
    needs_rewards = any(output.bounds.ask_for_rewards for output in pipeline.outputs)
    rewards = _rewards(paths, pipeline, run_of, folder, rollouts) if needs_rewards else None
    record["statistics"] = {} if rewards is None else {"mean_reward": rewards["mean_reward"], "rollouts": rewards["rollouts"]}
    for output in pipeline.outputs:
        path = folder / output.file
        report = execute(replace(run_of(output, paths, path), rollouts=rollouts), progress)
        record["outputs"][output.file] = _entry(output, report)
        earlier = None if before is None else before["outputs"].get(output.file)
        if earlier and before_folder:
            for name, digest in record["outputs"][output.file]["files"].items():
                if digest == earlier["files"].get(name):
                    link_if_same(folder / name, before_folder / name)
        seen = _seen(output, path, report, earlier, before, rewards)
        built.outcomes += [_forced(outcome, force) for outcome in output.bounds.outcomes(output.file, seen)]
    record["gates"] = [outcome.to_json() for outcome in built.outcomes]
    write_text(folder / "README.md", card(record))
    return built


def _forced(outcome: Outcome, force: Sequence[str]) -> Outcome:
    forced = not outcome.passed and outcome.gate in force
    return Outcome(outcome.gate, outcome.output, outcome.passed, outcome.value, outcome.bound, forced)


def _entry(output: Output, report: Report) -> Record:
    found = report.to_json()
    data = report.outputs[0] if report.outputs else None
    return {
        "recipe": report.recipe,
        "target": report.target,
        "rows": report.written,
        "bytes": data.bytes if data else 0,
        "sha256": data.sha256 if data else None,
        "files": {Path(written.path).name: written.sha256 for written in report.outputs},
        "rollouts": {name: found["rollouts"][name] for name in ("read", "quarantined", "dropped", "kept")},
        "examples": found["examples"],
        "warnings": report.warnings,
    }


def _seen(output: Output, path: Path, report: Report, earlier: Record | None, before: Record | None, rewards: Record | None) -> Seen:
    problems: list[str] = []
    if output.bounds.ask_for_validation and report.written and report.target != "custom":
        from rollout_etl.validate.validate import validate

        problems = [f"{problem.name} ({problem.rows} rows)" for problem in validate(path, report.target, report.recipe).problems]
    return Seen(
        rows=report.written,
        read=report.read,
        dropped=report.dropped.total(),
        problems=problems,
        mean_reward=None if rewards is None else rewards["mean_reward"],
        flags={} if rewards is None else rewards["flags"].get(output.recipe, {}),
        rows_before=None if earlier is None else earlier["rows"],
        mean_before=None if before is None else before["statistics"].get("mean_reward"),
    )


def _rewards(paths: Sequence[str], pipeline: Pipeline, run_of: RunOf, folder: Path, rollouts: RolloutsOf) -> Record:
    """Mean reward and red flags of the rollouts, by recipe; read as the first output reads them."""
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
    return {"mean_reward": None if reward is None else reward["mean"], "rollouts": len(data.rollouts), "flags": flags}


def _by_severity(flags: Sequence[Mapping[str, Any]], algorithm: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for flag in flags:
        if algorithm in flag["algorithms"]:
            found.setdefault(flag["severity"], []).append(flag["name"])
    return found
