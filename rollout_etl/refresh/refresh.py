"""A refresh: look at the inputs, build a version if anything changed, check the gates, publish."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rollout_etl.errors import GateError, RolloutETLError, UnreadableError, UsageError, WriteError
from rollout_etl.read.scan import Rollouts
from rollout_etl.refresh.build import Built, Record, RunOf, build, key_of
from rollout_etl.refresh.fingerprints import Fingerprints, Source, sources_of
from rollout_etl.refresh.gates import GATES
from rollout_etl.refresh.pipeline import Pipeline
from rollout_etl.refresh.published import Published, said
from rollout_etl.refresh.push import push as push_version
from rollout_etl.refresh.status import rows_of
from rollout_etl.refresh.versions import Versions

if TYPE_CHECKING:
    from rollout_etl.refresh.stored_rollouts import Kept

STORE = "rollouts"


@dataclass
class Change:
    """Inputs that are new, changed or gone since the newest version."""

    new: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class Refreshed:
    """What a refresh did, or what it would do."""

    version: int | None
    """The version that is current; None before the first."""
    published: bool
    change: Change
    rows: dict[str, int] = field(default_factory=dict)
    rows_before: dict[str, int] = field(default_factory=dict)
    gates: list[Record] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    retired: list[int] = field(default_factory=list)
    pushed: list[str] = field(default_factory=list)
    """Where the version was copied to."""
    nothing_new: bool = False
    """Whether the newest version already matches the inputs, so that nothing was built."""
    error: str | None = None
    """Places that the version could not be copied to."""

    def to_json(self) -> Record:
        """The report as JSON values."""
        ended = {} if self.error is None else {"exit_code": int(WriteError.exit_code)}
        return {**{name: value for name, value in self.__dict__.items() if name != "error" or value}, **ended, "change": self.change.__dict__}


def refresh(pipeline: Pipeline, run_of: RunOf, *, force: Sequence[str] = (), wait: float = 0.0, push: Sequence[str] = ()) -> Refreshed:
    """Publish a new version if the inputs, the outputs or the software changed, and copy the current one to the URLs of `push`.

    Nothing is written otherwise. Raises `GateError` if a gate fails, `LockedError` if another refresh is running, `UnreadableError`
    and `WriteError` as runs do. After any of these errors, the current version is unchanged.
    """
    check_force(force)
    versions = Versions(pipeline.publish)
    with versions.locked(wait):
        done = _refreshed(pipeline, versions, run_of, force)
        done.pushed, failures = push_version(versions, push)
        done.error = "; ".join(failures) or None
        return done


def _refreshed(pipeline: Pipeline, versions: Versions, run_of: RunOf, force: Sequence[str]) -> Refreshed:
    """The refresh itself, in a folder that is locked."""
    fingerprints = Fingerprints(versions.state / "fingerprints.json")
    sources, change, before = _looked_at(pipeline, versions, fingerprints)
    checked, damaged = Published(versions), list[Path]()
    if before is not None and _is_of(before, pipeline, sources):
        damaged = checked.damaged_in_use(_base(versions, before) or before, before)
        if not damaged:
            checked.save()
            released = versions.is_released
            if not released:
                versions.release(before["version"])
            return replace(_as_it_is(versions, change, before), published=not released)
        # The same files will be made once more, and were accepted as they are.
        force = [*force, *(gate["gate"] for gate in before["gates"] if gate["forced"])]
    number, folder = versions.begin()
    try:
        kept = _kept(versions, fingerprints, change)
        rollouts = Rollouts if kept is None else kept.rollouts
        base = _base(versions, before)
        base_folder = None if base is None else versions.path(base["version"])
        built = build(pipeline, sources, number, folder, base, base_folder, run_of, force, rollouts, damaged)
        change.notes += built.notes
        if moved := fingerprints.changed():
            raise UnreadableError(f"{moved[0]} changed while it was being read; nothing was published, refresh again")
        done = _result(built, change, base, versions.current)
        if built.failed:
            raise GateError(f"not published: {'; '.join(done.failed)}")
        versions.publish(number, built.record)
    except BaseException:
        if number not in versions.numbers():
            shutil.rmtree(folder, ignore_errors=True)
        raise
    done.version, done.published = number, True
    done.retired = versions.retire(pipeline.keep_versions, pipeline.pinned)
    # The version is published. If the state cannot be saved, the next refresh only reads more.
    checked.note(built.record)
    for keep in (fingerprints.save, *([] if kept is None else [kept.tidy])):
        try:
            keep()
        except (RolloutETLError, OSError) as error:
            change.notes.append(str(error))
    return done


def plan(pipeline: Pipeline, run_of: RunOf) -> Refreshed:
    """What a refresh would do now: the version is built in a temporary folder, checked by its gates, and discarded."""
    versions = Versions(pipeline.publish)
    fingerprints = Fingerprints(versions.state / "fingerprints.json")
    sources, change, before = _looked_at(pipeline, versions, fingerprints)
    if before is not None and _is_of(before, pipeline, sources):
        if not (damaged := Published(versions).damaged_in_use(_base(versions, before) or before, before)):
            return _as_it_is(versions, change, before)
        change.notes.append(said(damaged))
    with tempfile.TemporaryDirectory(prefix="rollout-etl-plan-") as scratch:
        folder = Path(scratch, "version")
        folder.mkdir()
        kept = _kept(versions, fingerprints, change, Path(scratch))
        rollouts = Rollouts if kept is None else kept.rollouts
        base = _base(versions, before)
        return _result(build(pipeline, sources, 0, folder, base, None, run_of, (), rollouts), change, base, versions.current)


def _kept(versions: Versions, fingerprints: Fingerprints, change: Change, scratch: Path | None = None) -> Kept | None:
    """The stored rollouts of earlier refreshes; None without the package for the store."""
    if importlib.util.find_spec("deltalake") is None:
        change.notes.append("all inputs are read: pip install '.[refresh]' in a checkout of rollout-etl to read new lines only")
        return None
    from rollout_etl.refresh.store import can_hold
    from rollout_etl.refresh.stored_rollouts import Kept

    folder = versions.state / STORE
    if not can_hold(folder):
        change.notes.append(f"all inputs are read: deltalake does not take the path of {versions.folder}; publish elsewhere to read new lines only")
        return None
    return Kept(folder, fingerprints, scratch)


def rollback(pipeline: Pipeline, version: int, wait: float = 0.0) -> int | None:
    """Make an earlier version current, until the inputs change. Returns the version that was current before, if any."""
    versions = Versions(pipeline.publish)
    if not versions.numbers():
        raise UsageError(f"{pipeline.publish} has no version yet")
    with versions.locked(wait):
        was = versions.current
        versions.check(version)
        checked = Published(versions)
        if damaged := checked.damaged(versions.record(version)):
            raise UnreadableError(f"{said(damaged)}: go back to another version")
        checked.save()
        if not versions.is_released:
            versions.release(versions.numbers()[-1])
        versions.point_to(version)
    return was


def check_force(force: Sequence[str]) -> None:
    """Raise `UsageError` for a name that is not a gate."""
    for name in force:
        if name not in GATES:
            raise UsageError(f"--force {name}: no such gate; gates are {', '.join(GATES)}")


def _looked_at(pipeline: Pipeline, versions: Versions, fingerprints: Fingerprints) -> tuple[list[Source], Change, Record | None]:
    numbers = versions.numbers()
    before = versions.record(numbers[-1]) if numbers else None
    sources, notes = sources_of([pipeline.resolved(path) for path in pipeline.inputs], fingerprints)
    known: dict[str, Any] = {} if before is None else {source["path"]: source["sha256"] for source in before["inputs"]}
    change = Change(notes=notes)
    for source in sources:
        if source.path not in known:
            change.new.append(source.path)
        elif source.sha256 != known[source.path] or not source.sha256:
            change.changed.append(source.path)
    change.gone = [path for path in known if path not in {source.path for source in sources}]
    return sources, change, before


def _is_of(record: Record, pipeline: Pipeline, sources: Sequence[Source]) -> bool:
    """Whether a version matches these inputs; for remote inputs this is not known."""
    return record["key"] == key_of(pipeline, sources) and all(source.sha256 for source in sources)


def _base(versions: Versions, newest: Record | None) -> Record | None:
    """The version that a new one is compared with: the one in use, which after a rollback is not the newest."""
    current = versions.current
    return versions.record(current) if current in versions.numbers() and versions.is_released else newest


def _as_it_is(versions: Versions, change: Change, record: Record) -> Refreshed:
    used = _base(versions, record) or record
    return Refreshed(versions.current, False, change, rows_of(used), rows_of(used), used["gates"], nothing_new=True)


def _result(built: Built, change: Change, before: Record | None, current: int | None) -> Refreshed:
    failed = [outcome.said() for outcome in built.failed]
    return Refreshed(current, False, change, rows_of(built.record), rows_of(before), built.record["gates"], failed)
