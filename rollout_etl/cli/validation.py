"""The command `validate`: checks training files against what their trainer loads."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from rollout_etl.cli.runner import guarded
from rollout_etl.errors import ExitCode, UsageError
from rollout_etl.plain_text import plain


def validate(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE...", help="Training files or folders of shards, written by any program.", show_default=False)
    ] = None,
    recipe: Annotated[
        str | None, typer.Option("--recipe", metavar="RECIPE", help="Recipe they are for: sft, dpo, grpo, kto, rm, ppo or prm.", show_default="by manifest")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="TRAINER", help="Trainer that loads them: nemo-rl, trl, verl or openrlhf.", show_default="by manifest, or nemo-rl"),
    ] = None,
    train: Annotated[Path | None, typer.Option("--train", metavar="FILE", help="Training file to compare with --val.", show_default=False)] = None,
    val: Annotated[
        Path | None, typer.Option("--val", metavar="FILE", help="Validation file, whose prompts must not occur in --train.", show_default=False)
    ] = None,
    chat_template: Annotated[
        bool | None,
        typer.Option("--chat-template/--no-chat-template", help="openrlhf: whether training sets --data.apply_chat_template.", show_default="not checked"),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print nothing; only set the exit code.")] = False,
) -> None:
    """Check whether a trainer can load a training file."""

    def run() -> ExitCode:
        if (train is None) != (val is None):
            raise UsageError("--train and --val go together; name a single file without them")
        if not files and train is None:
            raise UsageError("no file given")
        from rollout_etl.validate.validate import as_json, layouts_of, leaked, to_text
        from rollout_etl.validate.validate import validate as hold

        named = [_named(path, target, recipe) for path in [*(files or []), train, val] if path is not None]
        verdicts = [[hold(file, one.target, one.recipe, chat_template) for file in one.files] for one in named]
        if train is not None:
            trained, held = named[-2:]
            layouts = {layout.name: layout for layout in layouts_of(held.target, held.recipe)}
            for verdict in verdicts[-1]:
                if verdict.layout in layouts and verdicts[-2][-1].layout == verdict.layout:
                    leak = leaked(trained.files, Path(verdict.path), layouts[verdict.layout])
                    verdict.problems += [leak] if leak.rows else []
        flat = [verdict for found in verdicts for verdict in found]
        if json:
            print(as_json(flat), flush=True)
        elif not quiet:
            print("\n".join(plain(to_text(verdict)) for verdict in flat), file=sys.stdout, flush=True)
        return ExitCode.GATE_FAILED if any(verdict.problems for verdict in flat) else ExitCode.DONE

    guarded(run)


class _Named(NamedTuple):
    """A file or a folder of shards: its files, and what they are for."""

    files: list[Path]
    target: str
    recipe: str


def _named(path: Path, target: str | None, recipe: str | None) -> _Named:
    from rollout_etl.publish.folders import files_of
    from rollout_etl.publish.manifests import purpose_of

    files = files_of(path)
    target, recipe = purpose_of(path, target, recipe)
    if recipe is None:
        raise UsageError(f"{path} has no manifest that names its recipe: give the recipe with --recipe sft, dpo, grpo, kto, rm or ppo")
    return _Named(files, target, recipe)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("validate")(validate)
