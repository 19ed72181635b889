"""Options of a recipe in a pipeline file: the recipe's own command parses them, so names, checks and messages are the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rollout_etl.cli.recipes import STATED
from rollout_etl.cli.runner import parse_error, run_of
from rollout_etl.cli.talk import OPTIONS
from rollout_etl.errors import UsageError
from rollout_etl.recipes.options import check_recipe
from rollout_etl.refresh.pipeline import FILES, input_from, of_output, refuse_unknown, replaced

if TYPE_CHECKING:
    from rollout_etl.run.execute import Run

NOT_OF_OUTPUTS = ("inputs", "input", "output", "json", "quiet", "quarantine", "help", "dry_run", *OPTIONS)
"""Parameters that a refresh sets itself or does not use."""


@cache
def commands() -> Mapping[str, Any]:
    """The recipes' commands by name."""
    import typer

    from rollout_etl.cli.main import app

    made: Any = typer.main.get_command(app)
    return {name: made.commands[name] for name in STATED}


def options_of(command: Any) -> dict[str, Any]:
    """Parameters that an output may name, by their long options without dashes."""
    named = (p for p in command.params if p.name not in NOT_OF_OUTPUTS)
    return {option.removeprefix("--"): p for p in named for option in p.opts if option.startswith("--")}


def run_from(path: Path, recipe: str, spelt: Mapping[str, Any], inputs: Sequence[str], output: Path) -> Run:
    """The run of an output. Raises `UsageError` for options that the command line would refuse, with the name of the pipeline file `path`."""
    from typer.exceptions import TyperException

    known = commands()
    check_recipe(recipe, known, f"{path}: ")
    options = options_of(known[recipe])
    spelt = {name.replace("_", "-"): value for name, value in spelt.items()}
    refuse_unknown(path, f"output {output.name}", spelt, options)
    arguments: list[str] = []
    for name, value in spelt.items():
        if isinstance(value, list) and len(value) > 1 and not options[name].multiple:
            raise UsageError(f"{path}: [output {output.name}] {name} takes one value")
        for one in value if isinstance(value, list) else [value]:
            arguments += _spelt(path, name, one, options[name], path.parent)
    with of_output(path, output.name):
        try:
            given = dict(known[recipe].make_context(recipe, arguments).params)
        except TyperException as error:
            raise UsageError(parse_error(error)) from error
        return run_of(recipe, {**given, "inputs": list(inputs), "input": [], "output": str(output), "quarantine": None}, STATED[recipe])


def _spelt(path: Path, name: str, value: Any, parameter: Any, folder: Path) -> list[str]:
    if parameter.is_flag:
        if not isinstance(value, bool):
            raise UsageError(f"{path}: {name} must be true or false")
        return [f"--{name}"] if value else []
    if isinstance(value, bool | dict):
        raise UsageError(f"{path}: {name} takes a value, as on the command line")
    text = replaced(str(value))
    # Paths are relative to the pipeline file; a tokenizer that does not exist there is a name on the hub.
    if name in (*FILES, "temp-dir") and (name != "tokenizer" or (folder / text).exists()):
        text = input_from(folder, text)
    return [f"--{name}", text]
