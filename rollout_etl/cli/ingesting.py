"""The command `ingest`, which stores rollouts for repeated use."""

from __future__ import annotations

import json as json_text
from pathlib import Path
from typing import Annotated

import typer

from rollout_etl.cli import options as o
from rollout_etl.cli.runner import guarded, use_threads
from rollout_etl.cli.talk import TALK, heard
from rollout_etl.errors import ExitCode, UsageError


def ingest(
    inputs: o.Inputs = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="Folder to write the rollouts to, as Parquet.", show_default=False)
    ] = None,
    database: Annotated[
        Path | None, typer.Option("--database", metavar="FILE", help="DuckDB file to write with the rollouts and the views.", show_default=False)
    ] = None,
    group_by: o.GroupBy = None,
    ground_truth_field: o.GroundTruthField = None,
    task_inputs: o.TaskInputs = None,
    threads: o.Threads = None,
    max_bad_fraction: o.MaxBadFraction = 0.01,
    json: Annotated[bool, typer.Option("--json", help="Print what was read as JSON on standard output.")] = False,
    quiet: o.Quiet = False,
) -> None:
    """Convert rollouts to Parquet, which every command reads too."""

    def run() -> ExitCode:
        if not inputs:
            raise UsageError("no input given: name files, folders or globs")
        use_threads(threads)

        from rollout_etl.explore.ingest import ingest
        from rollout_etl.read.canonical import Lookup

        done = ingest(
            inputs, output, database, lookup=Lookup.spelt(ground_truth_field, group_by), task_inputs=task_inputs, max_bad_fraction=max_bad_fraction,
            threads=threads,
        )
        lines = [f"read         {done.read:>10,} lines", f"quarantined  {done.quarantined:>10,}", f"ingested     {done.rollouts:>10,} rollouts"]
        lines += [f"note         {note}" for note in done.notes] + [f"output       {path}" for path in done.outputs]
        TALK.done("ingested", done.__dict__, lines, quiet)
        if json:
            print(json_text.dumps(done.__dict__, ensure_ascii=False))
        return ExitCode.DONE

    guarded(run)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("ingest")(heard(ingest))
