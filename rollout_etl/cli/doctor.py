"""The command `doctor`: what may go wrong in training on these files, and why."""

from __future__ import annotations

import json as json_text
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from rollout_etl.cli.runner import guarded
from rollout_etl.errors import ExitCode, UsageError
from rollout_etl.plain_text import plain


def doctor(
    files: Annotated[list[str] | None, typer.Argument(metavar="FILE...", help="Rollouts or training files.", show_default=False)] = None,
    recipe: Annotated[
        str | None, typer.Option("--recipe", metavar="RECIPE", help="Recipe that the training files are for.", show_default="by manifest or columns")
    ] = None,
    target: Annotated[str | None, typer.Option("--target", metavar="TRAINER", help="Trainer they are for.", show_default="by manifest, or nemo-rl")] = None,
    config: Annotated[Path | None, typer.Option("--config", metavar="FILE", help="NeMo RL run file.", show_default="beside the training file")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find out why training fails or goes wrong."""

    def run() -> ExitCode:
        if not files:
            raise UsageError("no file given: name rollouts or training files")
        from rollout_etl import targets
        from rollout_etl.doctor.examine import examine

        if target is not None:
            targets.load(target)
        examined = [examine(path, target=target, recipe=recipe, config=config) for path in files]
        if (target is not None or recipe is not None) and all(each.what == "rollouts" for each in examined):
            raise UsageError(f"{'--target' if target is not None else '--recipe'} is for training files, and these are rollouts: leave it out")
        if json:
            print(json_text.dumps([asdict(each) for each in examined], ensure_ascii=False), flush=True)
        else:
            print("\n".join(_lines(examined)), flush=True)
        return ExitCode.GATE_FAILED if any(each.findings for each in examined) else ExitCode.DONE

    guarded(run)


def _lines(examined: list[Any]) -> list[str]:
    import textwrap

    lines = []
    for each in examined:
        lines.append(plain(f"{each.path}: {each.rows:,} rows, {each.what}: {'something is wrong' if each.findings else 'nothing found'}"))
        for finding in each.findings:
            lines.append(f"  {plain(finding.symptom)}")
            for label, text in (("cause", finding.cause), ("remedy", finding.remedy)):
                lines += textwrap.wrap(
                    plain(text), 80, initial_indent=f"    {label:<8}", subsequent_indent=" " * 12, break_long_words=False, break_on_hyphens=False
                )
    return lines


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("doctor")(doctor)
