"""The commands about trainers: `config` writes only a run file, `targets` lists what each trainer loads."""

from __future__ import annotations

import json as json_text
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from rollout_etl.cli import options as o
from rollout_etl.cli.runner import guarded
from rollout_etl.errors import ExitCode
from rollout_etl.plain_text import plain


def config(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="sft, dpo, grpo, kto, rm or ppo.")],
    train: Annotated[Path, typer.Option("--train", metavar="FILE", help="Training file or folder of shards with the columns that the trainer needs.")],
    target: o.Target = "nemo-rl",
    val: Annotated[Path | None, typer.Option("--val", metavar="FILE", help="Validation file.", show_default=False)] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Run file to write; next to the data if not given.", show_default=False)
    ] = None,
    model: Annotated[str | None, typer.Option("--model", metavar="NAME", help="Model to train.", show_default=False)] = None,
    reward_scale: Annotated[
        str | None, typer.Option("--reward-scale", metavar="A,B:C,D", help="nemo-rl, grpo and ppo: map rewards from A..B to C..D.", show_default=False)
    ] = None,
    max_rollout_turns: Annotated[
        int | None, typer.Option("--max-rollout-turns", min=1, help="grpo and ppo: largest number of turns per rollout in training.", show_default=False)
    ] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=1, help="Rows per step.", show_default="fitted to the number of rows")] = None,
    nemo_rl_layout: o.Layout = None,
    quiet: o.Quiet = False,
) -> None:
    """Write a run file for existing training data."""

    def run() -> ExitCode:
        from rollout_etl.targets.configure import configure

        done = configure(
            recipe, target=target, train=train, validation=val, run_file=output, model=model, reward_scale=reward_scale,
            max_rollout_turns=max_rollout_turns, batch=batch_size, layout="current" if nemo_rl_layout is None else nemo_rl_layout.value,
        )
        if not quiet:
            lines = [f"data         {done.rows:>10,} rows of {train}", *(f"output       {path}" for path in done.files), f"launch       {done.launch}"]
            lines += [f"warning      {text}" for text in done.warnings]
            print("\n".join(plain(line) for line in lines), file=sys.stderr)
        return ExitCode.DONE

    guarded(run)


def targets(json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List what each trainer loads and the versions tested."""

    def run() -> ExitCode:
        from rollout_etl import targets as registry
        from rollout_etl.targets.target import Loader

        rows: list[dict[str, Any]] = []
        for name in registry.REGISTRY:
            target = registry.load(name)
            for recipe, found in target.LOADERS.items():
                if isinstance(found, Loader):
                    about = {"loader": found.name, "containers": list(found.containers), "why_not": None}
                else:
                    about = {"loader": None, "containers": [], "why_not": found.why}
                rows.append({"target": name, "recipe": recipe, **about, "run_with": target.VERSIONS})
        if json:
            print(json_text.dumps(rows, ensure_ascii=False))
            return ExitCode.DONE
        print(f"{'target':9} {'recipe':6} {'container':16} {'loader':43} run with")
        for row in rows:
            containers = " ".join(row["containers"]) or "none"
            print(f"{row['target']:9} {row['recipe']:6} {containers:16} {row['loader'] or '-':43} {row['run_with']}")
        return ExitCode.DONE

    guarded(run)


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("config")(config)
    app.command("targets")(targets)
