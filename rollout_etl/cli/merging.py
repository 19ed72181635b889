"""The command `merge`: the rollouts of several servers in one file."""

from __future__ import annotations

import json as json_text
from pathlib import Path
from typing import Annotated

import typer

from rollout_etl.cli import options as o
from rollout_etl.cli.runner import guarded, use_threads
from rollout_etl.cli.talk import TALK, heard
from rollout_etl.errors import ExitCode, UsageError


def merge(
    inputs: Annotated[list[str] | None, typer.Argument(metavar="NAME=PATH...", help="Names and paths of the sources.", show_default=False)] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="File to write all rollouts to (.jsonl).", show_default=False)] = None,
    reward_scale: Annotated[
        list[str] | None, typer.Option("--reward-scale", metavar="[NAME=]A,B:C,D", help="Map rewards from A..B to C..D, for one source or for all.")
    ] = None,
    max_bad_fraction: o.MaxBadFraction = 0.01,
    threads: o.Threads = None,
    json: Annotated[bool, typer.Option("--json", help="Print what was merged as JSON on standard output.")] = False,
    quiet: o.Quiet = False,
) -> None:
    """Merge the rollouts of several servers into one file."""

    def run() -> ExitCode:
        if not inputs:
            raise UsageError("no input given: name sources as NAME=PATH")
        if output is None:
            raise UsageError("no output given: name it with -o FILE")
        use_threads(threads)

        from rollout_etl.merging import merge

        done = merge(inputs, output, reward_scale=reward_scale or (), max_bad_fraction=max_bad_fraction, threads=threads)
        lines = [f"read         {done.read:>10,} lines", f"  quarantined{done.quarantined:>10,}"]
        lines += [f"  merged     {count:>10,} {name or '(no task_name)'}" for name, count in done.rollouts.items()]
        lines += [f"clamped      {done.clamped:>10,}"] if done.clamped else []
        lines += [f"note         {note}" for note in done.notes] + ([f"output       {done.output}"] if done.output else [])
        TALK.done("merged", done.__dict__, lines, quiet)
        if json:
            print(json_text.dumps(done.__dict__, ensure_ascii=False), flush=True)
        if not done.output:
            TALK.error(f"nothing to write; {output} {'is unchanged' if output.exists() else 'was not created'}", ExitCode.NOTHING_TO_WRITE)
            return ExitCode.NOTHING_TO_WRITE
        return ExitCode.DONE

    guarded(run)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("merge")(heard(merge))
