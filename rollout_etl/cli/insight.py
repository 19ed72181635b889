"""The commands that look at rollouts and change nothing: `stats` and `show`."""

from __future__ import annotations

import json as json_text
from enum import StrEnum
from math import isfinite
from pathlib import Path
from typing import Annotated, Any

import typer

from rollout_etl.cli import options as o
from rollout_etl.cli.runner import guarded, use_threads
from rollout_etl.cli.talk import TALK, heard
from rollout_etl.errors import ExitCode, UsageError


class Algorithm(StrEnum):
    sft = "sft"
    dpo = "dpo"
    grpo = "grpo"
    ppo = "ppo"
    kto = "kto"


class FailOn(StrEnum):
    warning = "warning"
    error = "error"


def stats(
    inputs: o.Inputs = None,
    input: o.Input = None,
    algorithm: Annotated[Algorithm | None, typer.Option("--for", help="Raise only flags that matter for this algorithm.", show_default="all")] = None,
    fail_on: Annotated[
        FailOn | None, typer.Option("--fail-on", help="Exit with 4 when a flag of this severity or worse is raised.", show_default="never")
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option("--compare", metavar="INPUT", help="Earlier rollouts to compare with; repeat it for a trend, oldest first.", show_default=False),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Also write a report as a single HTML file (needs the report extra).", show_default=False)
    ] = None,
    success: Annotated[float, typer.Option("--success", help="Smallest reward that counts as a success.")] = 0.8,
    ground_truth_field: o.GroundTruthField = None,
    task_inputs: o.TaskInputs = None,
    group_by: o.GroupBy = None,
    max_bad_fraction: o.MaxBadFraction = 0.01,
    memory_limit: Annotated[
        str | None, typer.Option("--memory-limit", metavar="SIZE", help="Refuse inputs whose statistics would exceed this, as in 2GB.", show_default="no limit")
    ] = None,
    threads: o.Threads = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print nothing; only set the exit code.")] = False,
) -> None:
    """Show statistics of rollouts, and what could be made of them."""

    def run() -> ExitCode:
        if not isfinite(success):
            raise UsageError(f"--success {success} is not a number to compare with")
        rollouts = opened([*(inputs or []), *(input or [])], ground_truth_field, task_inputs, group_by, threads, memory_limit)
        past = [opened([path], ground_truth_field, None, group_by, threads, memory_limit) for path in compare or []]
        if memory_limit is not None:
            from rollout_etl.bounded.memory import check_statistics, limit_of

            check_statistics(limit_of(memory_limit), [rollouts, *past])
        if html is not None:
            from rollout_etl.report_html.page import check_place

            check_place(html, [item for each in (rollouts, *past) for item in each.inputs])
        from rollout_etl.stats.profile import profile

        data, *earlier = (narrowed(each, max_bad_fraction, quiet) for each in (rollouts, *past))
        found = profile(data, algorithm=str(algorithm) if algorithm else None, success=success, earlier=earlier)
        if html is not None:
            from rollout_etl.report_html.page import write_page

            write_page(html, found, data, rollouts)
        if json:
            print(json_text.dumps(found, ensure_ascii=False), flush=True)
        elif not quiet:
            from rollout_etl.stats.terminal import show

            show(found)
        worst = {flag["severity"] for flag in found["flags"]}
        return ExitCode.GATE_FAILED if fail_on and ("error" in worst or (fail_on == "warning" and worst)) else ExitCode.DONE

    guarded(run)


def show(
    inputs: o.Inputs = None,
    input: o.Input = None,
    where: Annotated[
        str | None, typer.Option("--where", metavar="EXPR", help="Show rollouts that satisfy this condition, as in 'reward < 0.5 and num_turns > 3'.")
    ] = None,
    best: Annotated[bool, typer.Option("--best", help="Show the largest rewards first.")] = False,
    worst: Annotated[bool, typer.Option("--worst", help="Show the smallest rewards first.")] = False,
    random: Annotated[int | None, typer.Option("--random", metavar="N", min=1, help="Show N rollouts drawn with --seed.", show_default=False)] = None,
    group: Annotated[
        str | None, typer.Option("--group", metavar="KEY", help="Show all attempts of a group, named by its task index or the start of its key.")
    ] = None,
    count: Annotated[int | None, typer.Option("-n", "--count", min=1, help="Number of rollouts to show.", show_default="5")] = None,
    chars: Annotated[int, typer.Option("--chars", min=0, help="Characters to show of each text; 0: all.")] = 500,
    group_by: o.GroupBy = None,
    max_bad_fraction: o.MaxBadFraction = 0.01,
    seed: o.Seed = 0,
    threads: o.Threads = None,
) -> None:
    """Show rollouts as conversations."""

    def run() -> ExitCode:
        asked = [name for name, given in (("best", best), ("worst", worst), ("random", random is not None)) if given]
        if len(asked) > 1:
            raise UsageError(f"--{asked[0]} and --{asked[1]} cannot be combined")
        # An option without effect would look like one that worked.
        if count is not None and (random is not None or group is not None):
            raise UsageError(f"-n says how many, and so does --{'random' if random is not None else 'group'}: leave -n out")
        if random is not None and group is not None:
            raise UsageError("--random and --group cannot be combined: a group is shown as a whole")
        if seed and random is None:
            raise UsageError("--seed is for --random")
        if group is not None and not group.strip():
            raise UsageError("--group is empty: name a task index, or the start of a key")
        rollouts = opened([*(inputs or []), *(input or [])], None, None, group_by, threads)
        from rollout_etl.cli.conversations import print_conversations
        from rollout_etl.stats.selection import Selection, pick

        order: Any = asked[0] if asked else "first"
        picked = pick(rollouts, Selection(where=where, order=order, group=group, count=random or count or 5, seed=seed))
        rollouts.check_bad_fraction(max_bad_fraction)
        print_conversations(picked, chars)
        return ExitCode.DONE if len(picked.rollouts) else ExitCode.NOTHING_TO_WRITE

    guarded(run)


def opened(
    inputs: list[str], ground_truth_field: str | None, task_inputs: str | None, group_by: str | None, threads: int | None, memory_limit: str | None = None
) -> Any:
    """The reader of the inputs, with the lookup that the options ask for."""
    if not inputs:
        raise UsageError("no input given: name files, folders or globs")
    use_threads(threads)
    from rollout_etl.bounded.memory import limit_of
    from rollout_etl.read.canonical import Lookup
    from rollout_etl.read.scan import Rollouts

    memory = None if memory_limit is None else limit_of(memory_limit)
    return Rollouts(inputs, lookup=Lookup.spelt(ground_truth_field, group_by), task_inputs=task_inputs, threads=threads, memory=memory)


def narrowed(rollouts: Any, max_bad_fraction: float, quiet: bool) -> Any:
    """The narrow columns that statistics are computed from."""
    from rollout_etl.stats.narrow import narrow

    data = narrow(rollouts)
    rollouts.check_bad_fraction(max_bad_fraction)
    for note in [] if quiet else data.notes:
        TALK.note(note, label="note         ")
    return data


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("stats")(heard(stats))
    app.command("show")(show)
