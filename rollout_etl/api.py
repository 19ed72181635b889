"""The recipes of the command line, for Python."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from rollout_etl.bounded.memory import limit_of
from rollout_etl.errors import UsageError
from rollout_etl.nearest import did_you_mean
from rollout_etl.option_values import check_value, checked
from rollout_etl.plain_text import first_line
from rollout_etl.read.inputs import each_path
from rollout_etl.recipes.options import RECIPES, AnyOptions, check_recipe, options_of
from rollout_etl.run.execute import Run, execute

_FORMATS = {
    "nemo_rl_grpo": ("grpo", "response"),
    "nemo_rl_gym": ("grpo", "gym"),
    "nemo_rl_sft": ("sft", "openai"),
    "nemo_rl_dpo": ("dpo", "binary"),
    "grpo": ("grpo", "response"),
    "gym": ("grpo", "gym"),
    "sft": ("sft", "openai"),
    "openai": ("sft", "openai"),
    "simple": ("sft", "simple"),
    "dpo": ("dpo", "binary"),
    "binary": ("dpo", "binary"),
    "preference": ("dpo", "preference"),
}


def write(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    recipe: Literal["sft", "dpo", "grpo", "kto", "rm", "ppo"],
    options: AnyOptions | None = None,
    **run: Any,
) -> dict[str, Any]:
    """Run a recipe on files: write the training file, its run file and manifest, and return the run report.

    `run` takes the other fields of `rollout_etl.run.execute.Run`, for example `think="strip"`. Raises `RolloutETLError`.
    """
    check_value("recipe", recipe, str)
    check_value("output", output, Path)
    check_recipe(recipe)
    wanted = RECIPES[recipe]
    options = options_of(options, wanted)
    _refuse_unknown(run, [f.name for f in fields(Run) if f.name not in ("inputs", "output", "options")], f"; options of the recipe go into {wanted.__name__}")
    if isinstance(limit := run.get("memory_limit"), str):
        run["memory_limit"] = limit_of(limit)
    return execute(Run(inputs=each_path(paths), output=Path(output), options=options, **checked(run, Run))).to_json()


def _refuse_unknown(given: Mapping[str, Any], known: Sequence[str], way_out: str = "") -> None:
    """Raise `UsageError` for an option that is not one of `known`."""
    for name in given:
        if name not in known:
            raise UsageError(f"no option '{name}'{did_you_mean(name, known)}{way_out}")


def transform_rollouts(rollouts: Iterable[Mapping[str, Any]], target_format: str, **options: Any) -> list[dict[str, Any]]:
    """Turn rollouts, given as dicts, into training rows, returned as dicts. For data that fits in memory.

    `target_format` is a recipe (`sft`, `dpo`, `grpo`) or one of its formats (`openai`, `simple`, `binary`, `preference`,
    `gym`); `options` are those of the recipe, for example `reward_threshold=0.8`. Rows that are not rollouts are left out.
    """
    if target_format not in _FORMATS:
        raise UsageError(f"no target format '{target_format}'; formats are {', '.join(_FORMATS)}")
    if isinstance(rollouts, str | os.PathLike | Mapping) or not isinstance(rollouts, Iterable):
        raise UsageError("transform_rollouts takes a list of rollouts as dicts; for files, use write")
    recipe, shape = _FORMATS[target_format]
    _refuse_unknown(options, [f.name for f in fields(RECIPES[recipe])])
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder, "rollouts.jsonl"), Path(folder, "rows.jsonl")
        try:
            source.write_text("".join(json.dumps(row) + "\n" for row in rollouts), encoding="utf-8")
        except (TypeError, ValueError, RecursionError) as error:
            raise UsageError(f"a rollout is not JSON: {first_line(error)}") from error
        chosen = RECIPES[recipe](**{"format": shape, **checked(options, RECIPES[recipe])})
        report = execute(Run(inputs=[str(source)], output=output, options=chosen, config=False, max_bad_fraction=1.0, refuse_dates=False))
        if not report.written:
            return []
        return [json.loads(line) for line in output.read_bytes().split(b"\n") if line]
