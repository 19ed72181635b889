"""Symptoms whose cause is in a training file, or in a mismatch with its run file."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from pathlib import Path

from rollout_etl.doctor.finding import Finding
from rollout_etl.doctor.run_file import COLUMN_KEYS, keys_of
from rollout_etl.run.advice import FEW_SFT_EXAMPLES
from rollout_etl.validate.validate import Verdict, layouts_of, validate

RECIPES_BY_COLUMNS = (
    ({"completions"}, "dpo"), ({"chosen"}, "dpo"), ({"chosen_messages"}, "dpo"), ({"completion", "label"}, "kto"), ({"responses_create_params"}, "grpo"),
    ({"data_source"}, "grpo"), ({"messages"}, "sft"), ({"input", "ground_truth"}, "grpo"), ({"input", "output"}, "sft"), ({"prompt", "completion"}, "sft"),
    ({"prompt"}, "grpo"),
)
"""The probable recipe of a file by its columns; the first match wins."""
_SCHEMAS, _ZEROS = "Tool schema corruption", "GRPO rewards all 0.0"
_OF_PROBLEMS = {
    "null_filled": (_SCHEMAS, "write the data again with rollout-etl, as JSON lines, and set data.train.use_preserving_dataset: true"),
    "null_argument": (_SCHEMAS, "write the data again with rollout-etl, as JSON lines, and set data.train.use_preserving_dataset: true"),
    "text_arguments": (_SCHEMAS, "write arguments as objects: templates encode texts a second time"),
    "arguments": (_SCHEMAS, "write the data again with rollout-etl, which drops such calls (rule invalid_tool_call)"),
    "tools": (_SCHEMAS, "tools must be {type, function}: rollout-etl converts the flat ones of the Responses API"),
    "truth": (_ZEROS, "write the data again with --ground-truth-field or --task-inputs"),
    "empty": ("Loss does not fall", "write the data again with rollout-etl, which drops empty answers (rule empty_answer)"),
    "empty_message": ("Loss does not fall", "write the data again with rollout-etl, which drops empty answers (rule empty_answer)"),
    "same_sides": ("Loss does not fall", "write the data again with rollout-etl, which drops such pairs (rule identical_sides)"),
    "leak": ("Loss falls too fast", "the answer must not be in the prompt: write the data again with rollout-etl"),
    "not_json": ("JSONDecodeError", "fix or remove the lines"),
    "no_rows": ("No examples", "the recipe found nothing to write: run `rollout-etl doctor` on the rollouts"),
}


def examine(path: Path, columns: list[str], target: str, recipe: str, config: Path | None) -> tuple[int, list[Finding]]:
    """The number of rows, and what may go wrong in training on them. Raises `UsageError` or `UnreadableError`."""
    verdict = validate(path, target, recipe)
    symptoms = [*_of_columns(verdict, columns, target, recipe), *_of_rows(verdict, recipe)]
    if config is not None:
        symptoms += _of_run_file(config, path, columns, recipe)
    return verdict.rows, [Finding(str(path), *symptom) for symptom in dict.fromkeys(symptoms)]


_Symptom = tuple[str, str, str]


def _of_columns(verdict: Verdict, columns: list[str], target: str, recipe: str) -> Iterator[_Symptom]:
    for problem in verdict.problems:
        where = f" (first: line {problem.lines[0]:,})" if problem.lines else ""
        if problem.name == "columns":
            absent = next(name for name in layouts_of(target, recipe)[-1].required if name not in columns)
            remedy = f"rename them, state their names in the run file, or write the data with `rollout-etl {recipe} --target {target}`"
            yield f"KeyError: '{absent}'", problem.meaning, remedy
        elif problem.name == "missing":
            yield f"KeyError: '{problem.meaning.split()[0]}'", f"{problem.meaning} in {problem.rows:,} rows{where}", "fix or remove the rows"
        else:
            symptom, remedy = _OF_PROBLEMS.get(problem.name, ("The trainer refuses the file", "`rollout-etl validate` names the rows"))
            yield symptom, f"{problem.meaning}: {problem.rows:,} of {verdict.rows:,} rows{where}", remedy


def _of_rows(verdict: Verdict, recipe: str) -> Iterator[_Symptom]:
    if 0 < verdict.rows < FEW_SFT_EXAMPLES:
        knobs = {"sft": "lower --reward-threshold (0.95 to 0.80), or ", "dpo": "lower --min-gap, or "}
        remedy = f"{knobs.get(recipe, '')}collect more; the docs recommend 1,000 for a quick run"
        yield f"Fewer than {FEW_SFT_EXAMPLES} examples", f"{verdict.rows:,} rows", remedy


def _of_run_file(config: Path, path: Path, columns: list[str], recipe: str) -> Iterator[_Symptom]:
    keys = keys_of(config)
    for key in COLUMN_KEYS:
        name = keys.get(key)
        if name is not None and name != "null" and name not in columns:
            yield f"KeyError: '{name}'", f"{config} says {key}: {name}; columns are {', '.join(columns)}", f"set {key} to the right column"
    named = keys.get("data_path") or keys.get("train_data_path")
    if named is not None and "${" not in named and not (Path(named).exists() or glob.glob(named)):
        yield "FileNotFoundError", f"{config} names {named}, which does not exist", f"set it to {path.resolve()}"
    if recipe == "grpo" and "ground_truth" in columns and keys.get("output_key") not in (None, "ground_truth"):
        cause = f"{config} says output_key: {keys['output_key']}, so answers are compared with that column instead of ground_truth"
        yield _ZEROS, cause, "set output_key: ground_truth, and env.math.math_verify_impl: hf_math_verify"
    if keys.get("use_preserving_dataset", "").lower() == "false" and "tools" in columns:
        yield _SCHEMAS, f"{config} says use_preserving_dataset: false, which merges the schemas of different tools into one", "set use_preserving_dataset: true"
