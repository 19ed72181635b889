"""The commands that keep training data up to date: `init`, `plan`, `refresh`, `status`, `rollback`."""

from __future__ import annotations

import json as json_text
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rollout_etl.cli import options as o
from rollout_etl.cli.runner import guarded, said_of
from rollout_etl.cli.talk import TALK, heard
from rollout_etl.errors import ExitCode, UsageError, WriteError

if TYPE_CHECKING:
    from rollout_etl.refresh.pipeline import Output, Pipeline
    from rollout_etl.refresh.refresh import Refreshed
    from rollout_etl.run.execute import Run

File = Annotated[Path, typer.Argument(metavar="PIPELINE", help="Pipeline file.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print the report as JSON on standard output.")]
Wait = Annotated[float, typer.Option("--wait", metavar="SECONDS", min=0, help="Wait up to this long for another refresh to finish.")]


def init(
    inputs: o.Inputs = None,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="Pipeline file to write.")] = Path("pipeline.toml"),
    publish: Annotated[str, typer.Option("--publish", metavar="DIR", help="Folder to publish versions in.")] = "training",
    max_bad_fraction: o.MaxBadFraction = 0.01,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of pipeline files and exit.")] = False,
) -> None:
    """Write a commented pipeline file for these rollouts."""

    def run() -> ExitCode:
        if schema and inputs:
            raise UsageError("--schema prints the schema of all pipeline files: leave the inputs out")
        if schema:
            from rollout_etl.cli.pipeline_schema import schema as made

            print(json_text.dumps(made(), indent=2))
            return ExitCode.DONE
        if not inputs:
            raise UsageError("no input given: name files, folders or globs")
        if output.exists():
            raise UsageError(f"{output} already exists: name another file with -o FILE")
        from rollout_etl.refresh.versions import write_text
        from rollout_etl.refresh.written import pipeline_for

        write_text(output, pipeline_for(inputs, output.parent, publish, max_bad_fraction))
        print(f"wrote {output}; see what it would do with: rollout-etl plan {output}", file=sys.stderr)
        return ExitCode.DONE

    guarded(run)


def plan(file: File, json: Json = False) -> None:
    """Show what a refresh would do.

    The new version is built in a temporary folder, reported on and discarded.
    """

    def run() -> ExitCode:
        from rollout_etl.refresh import refresh
        from rollout_etl.refresh.pipeline import load

        pipeline = load(file)
        done = refresh.plan(pipeline, _run_of(pipeline))
        print(json_text.dumps(done.to_json(), ensure_ascii=False) if json else "\n".join(_told(done, planned=True)))
        return ExitCode.GATE_FAILED if done.failed else ExitCode.DONE

    guarded(run)


def refresh(
    file: File,
    force: Annotated[list[str] | None, typer.Option("--force", metavar="GATE", help="Publish even if this gate fails; version.json records it.")] = None,
    push: Annotated[
        list[str] | None, typer.Option("--push", metavar="URL", help="Copy the current version to this place: hf://datasets/ORG/NAME, s3://BUCKET/PATH.")
    ] = None,
    wait: Wait = 0.0,
    json: Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Publish a new version of the training files if anything changed."""

    def run() -> ExitCode:
        from rollout_etl.refresh import refresh, status
        from rollout_etl.refresh.notify import tell
        from rollout_etl.refresh.pipeline import load
        from rollout_etl.refresh.push import check as check_push

        pipeline = load(file)
        check_push(push or ())
        try:
            done = refresh.refresh(pipeline, _run_of(pipeline), force=force or (), wait=wait, push=push or ())
        except Exception as error:
            code, line = said_of(error)
            said = {"published": False, "error": line, "exit_code": int(code)}
            if code != ExitCode.LOCKED:
                status.remember(pipeline, said)
                _warn(tell(pipeline, said, failed=True))
            if json:
                print(json_text.dumps(said, ensure_ascii=False))
            raise
        said = done.to_json()
        # If nothing was done, the earlier report stays, but not an earlier failure.
        if done.published or done.error or status.failed_last(pipeline):
            status.remember(pipeline, said)
        warnings = tell(pipeline, said, failed=done.error is not None)
        TALK.done("refreshed", said, _told(done, planned=False), quiet)
        _warn(warnings)
        if json:
            print(json_text.dumps(said, ensure_ascii=False))
        if done.error is not None:
            raise WriteError(done.error)
        return ExitCode.DONE

    guarded(run)


def status(file: File, json: Json = False) -> None:
    """List the versions, and the error if the last refresh failed."""

    def run() -> ExitCode:
        from rollout_etl.refresh import status
        from rollout_etl.refresh.pipeline import load

        found = status.status(load(file))
        if json:
            print(json_text.dumps(found, ensure_ascii=False))
            return ExitCode.DONE
        for version in found["versions"]:
            mark = "*" if version["version"] == found["current"] else " "
            rows = ", ".join(f"{name} {count:,}" for name, count in version["rows"].items())
            forced = f"; forced: {', '.join(version['forced'])}" if version["forced"] else ""
            print(f"{mark} {version['version']:>6}  {version['created']}  {version['inputs']} input(s)  {rows}{forced}")
        if not found["versions"]:
            print("no version yet")
        if found["last"] and found["last"].get("error"):
            print(f"the last refresh failed: {found['last']['error']}")
        return ExitCode.DONE

    guarded(run)


def rollback(
    file: File,
    version: Annotated[int, typer.Argument(metavar="VERSION", min=1, help="Number of the version to go back to.", show_default=False)],
    wait: Wait = 0.0,
) -> None:
    """Make an earlier version current.

    It stays current until the inputs, the pipeline's options or gates, or the version of rollout-etl change.
    """

    def run() -> ExitCode:
        from rollout_etl.refresh import refresh
        from rollout_etl.refresh.pipeline import load

        was = refresh.rollback(load(file), version, wait)
        print(f"current is {version}" + ("" if was is None else f", and was {was}"), file=sys.stderr)
        return ExitCode.DONE

    guarded(run)


def _run_of(pipeline: Pipeline) -> Callable[[Output, Sequence[str], Path], Run]:
    """A function that makes the run of an output. All outputs are parsed now, so that errors are reported before anything is read."""
    from rollout_etl.cli.spelt import run_from

    def run_of(output: Output, inputs: Sequence[str], path: Path) -> Run:
        return run_from(pipeline.path, output.recipe, output.options, inputs, path)

    _refuse_same_places(pipeline, [run_of(output, ["-"], Path(output.file)) for output in pipeline.outputs])
    return run_of


def _refuse_same_places(pipeline: Pipeline, runs: Sequence[Run]) -> None:
    """Raise `UsageError` if outputs, their parts or the files next to them would have the same name: the last one would replace the others."""
    from rollout_etl import targets
    from rollout_etl.read.inputs import MANIFEST_SUFFIX
    from rollout_etl.refresh.card import CARD
    from rollout_etl.refresh.pipeline import of_output
    from rollout_etl.refresh.versions import RECORD
    from rollout_etl.run.execute import job_of
    from rollout_etl.run.writing import output_paths

    taken = dict.fromkeys((CARD, RECORD), "the version itself")
    for output, run in zip(pipeline.outputs, runs, strict=True):
        with of_output(pipeline.path, output.file):
            job, target = job_of(run), targets.load(run.target)
            beside = [*target.beside(job), *([target.RUN_SUFFIX, f"{target.RUN_SUFFIX}.data"] if run.config else [])]
            names = [f"{path}{suffix}" for path in output_paths(job, run.curation).values() for suffix in ("", MANIFEST_SUFFIX)]
            names += [f"{output.file}{suffix}" for suffix in beside]
            for name in names:
                if name in taken:
                    raise UsageError(f"{name} is written by {taken[name]} as well; give one of them another name")
            taken |= dict.fromkeys(names, f"[output {output.file}]")


def _told(done: Refreshed, *, planned: bool) -> list[str]:
    change: Any = done.change
    lines = [f"{kind:12} {path}" for kind in ("new", "changed", "gone") for path in getattr(change, kind)]
    lines += [f"note         {note}" for note in change.notes]
    for name, rows in done.rows.items():
        before = done.rows_before.get(name)
        lines.append(f"{name:12} {rows:,} rows" + ("" if before is None or before == rows else f", {rows - before:+,}"))
    lines += [f"gate failed  {said}" for said in done.failed]
    lines += [f"forced       {gate['gate']} of {gate['output']}" for gate in done.gates if gate["forced"] and done.published]
    lines += [f"removed      version {number}" for number in done.retired]
    lines += [f"pushed       to {url}" for url in done.pushed]
    if done.published:
        return [*lines, f"current      version {done.version}"]
    if done.nothing_new:
        return [*lines, f"nothing new; current is version {done.version}"]
    return [*lines, "would not publish" if done.failed else "would publish a new version"] if planned else lines


def _warn(warnings: Sequence[str]) -> None:
    for warning in warnings:
        TALK.note(warning)


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (init, plan, refresh, status, rollback):
        app.command(command.__name__)(heard(command) if command in (plan, refresh) else command)
