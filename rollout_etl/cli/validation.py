"""The command `validate`: a training file against its trainer's contract."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from rollout_etl.cli.runner import guarded
from rollout_etl.errors import ExitCode, UsageError


def validate(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE...", help="Training files or folders of shards, whoever wrote them.", show_default=False)
    ] = None,
    recipe: Annotated[
        str | None, typer.Option("--recipe", metavar="RECIPE", help="What they are for: sft, dpo, grpo, kto, rm, ppo or prm.", show_default=False)
    ] = None,
    target: Annotated[str, typer.Option("--target", metavar="TRAINER", help="Trainer that is to load them: nemo-rl, trl, verl or openrlhf.")] = "nemo-rl",
    train: Annotated[Path | None, typer.Option("--train", metavar="FILE", help="Training file, to compare with --val.", show_default=False)] = None,
    val: Annotated[
        Path | None, typer.Option("--val", metavar="FILE", help="Validation file: its prompts must not stand in --train.", show_default=False)
    ] = None,
    chat_template: Annotated[
        bool | None, typer.Option("--chat-template/--no-chat-template", help="openrlhf: whether --data.apply_chat_template is set.", show_default="not checked")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print nothing: only the exit code.")] = False,
) -> None:
    """Hold training files against what their trainer loads."""

    def run() -> ExitCode:
        if recipe is None:
            raise UsageError("no recipe given: name it with --recipe sft, dpo, grpo, kto, rm or ppo")
        if (train is None) != (val is None):
            raise UsageError("--train and --val go together; name a single file without them")
        if not files and train is None:
            raise UsageError("no file given")
        from rollout_etl.cli.summary import plain
        from rollout_etl.publish.folders import files_of
        from rollout_etl.validate.validate import as_json, layouts_of, leaked, to_text
        from rollout_etl.validate.validate import validate as hold

        training, validating = ([] if path is None else files_of(path) for path in (train, val))
        named = [*(file for path in files or [] for file in files_of(path)), *training, *validating]
        verdicts = [hold(path, target, recipe, chat_template) for path in named]
        layouts = {layout.name: layout for layout in layouts_of(target, recipe)}
        for verdict in verdicts[len(verdicts) - len(validating) :]:
            if verdict.layout in layouts and verdicts[-len(validating) - 1].layout == verdict.layout:
                leak = leaked(training, Path(verdict.path), layouts[verdict.layout])
                verdict.problems += [leak] if leak.rows else []
        if json:
            print(as_json(verdicts), flush=True)
        elif not quiet:
            print("\n".join(plain(to_text(verdict)) for verdict in verdicts), file=sys.stdout, flush=True)
        return ExitCode.GATE_FAILED if any(verdict.problems for verdict in verdicts) else ExitCode.DONE

    guarded(run)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("validate")(validate)
