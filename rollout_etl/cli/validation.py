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
        str | None, typer.Option("--recipe", metavar="RECIPE", help="What they are for: sft, dpo, grpo, kto, rm, ppo or prm.", show_default="by manifest")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="TRAINER", help="Trainer that loads them: nemo-rl, trl, verl or openrlhf.", show_default="by manifest, or nemo-rl"),
    ] = None,
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
        if (train is None) != (val is None):
            raise UsageError("--train and --val go together; name a single file without them")
        if not files and train is None:
            raise UsageError("no file given")
        from rollout_etl.cli.summary import plain
        from rollout_etl.publish.folders import files_of
        from rollout_etl.validate.validate import as_json, layouts_of, leaked, to_text
        from rollout_etl.validate.validate import validate as hold

        # Shards are for what their folder is for.
        named = [(file, *_purpose(path, target, recipe)) for path in [*(files or []), train, val] if path is not None for file in files_of(path)]
        verdicts = [hold(file, trainer, purpose, chat_template) for file, trainer, purpose in named]
        if train is not None and val is not None:
            compared = len(files_of(val))
            trained_on = verdicts[-compared - 1].layout
            for (file, trainer, purpose), verdict in zip(named[-compared:], verdicts[-compared:], strict=True):
                layout = next((one for one in layouts_of(trainer, purpose) if one.name == verdict.layout == trained_on), None)
                leak = None if layout is None else leaked(files_of(train), file, layout)
                verdict.problems += [leak] if leak is not None and leak.rows else []
        if json:
            print(as_json(verdicts), flush=True)
        elif not quiet:
            print("\n".join(plain(to_text(verdict)) for verdict in verdicts), file=sys.stdout, flush=True)
        return ExitCode.GATE_FAILED if any(verdict.problems for verdict in verdicts) else ExitCode.DONE

    guarded(run)


def _purpose(path: Path, target: str | None, recipe: str | None) -> tuple[str, str]:
    """Trainer and recipe of a file or folder: as named, else as its manifest says."""
    from rollout_etl.publish.manifests import manifest_of

    known = manifest_of(path)
    recipe = recipe or known.get("recipe")
    if not isinstance(recipe, str):
        raise UsageError(f"{path} has no manifest that tells its recipe: name it with --recipe sft, dpo, grpo, kto, rm or ppo")
    return str(target or known.get("target") or "nemo-rl"), recipe


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("validate")(validate)
