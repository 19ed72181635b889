"""Finding out what a file is, and what may go wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rollout_etl import targets
from rollout_etl.doctor import rollouts as of_rollouts
from rollout_etl.doctor import training
from rollout_etl.doctor.finding import Finding
from rollout_etl.doctor.run_file import keys_of
from rollout_etl.errors import UsageError
from rollout_etl.publish.manifests import purpose_of
from rollout_etl.read.scan import Rollouts
from rollout_etl.targets.target import companion


@dataclass(frozen=True)
class Examined:
    """A file: its kind, its rows, and the findings."""

    path: str
    what: str
    rows: int
    findings: list[Finding]


def examine(path: str, *, target: str | None = None, recipe: str | None = None, config: Path | None = None) -> Examined:
    """Look at a file or folder of rollouts, or at a training file.

    For a training file, `recipe` and `target` come from its manifest; without one, the recipe comes from the columns and the target is
    NeMo RL. `config` defaults to the run file next to it. Raises `UsageError` or `UnreadableError`.
    """
    rollouts = Rollouts(path)
    columns = rollouts.glimpse.field_names()
    if _are_rollouts(columns):
        rows, findings = of_rollouts.examine(path, rollouts)
        if config is not None and keys_of(config):
            findings.insert(0, _untransformed(path, config))
        return Examined(path, "rollouts", rows, findings)
    file = Path(path)
    if not file.is_file():
        raise UsageError(f"{path} holds no rollouts; name training files one by one")
    target, recipe = purpose_of(file, target, recipe)
    recipe = recipe or next((name for names, name in training.RECIPES_BY_COLUMNS if names <= set(columns)), "sft")
    beside = companion(file, targets.load(target).RUN_SUFFIX)
    if config is None and target == "nemo-rl" and beside.is_file():
        config = beside
    rows, findings = training.examine(file, columns, target, recipe, config)
    return Examined(path, f"training data, {recipe} for {target}", rows, findings)


def _are_rollouts(columns: list[str]) -> bool:
    """Whether the rows are rollouts: they have a response, or a prompt in Gym's form and an outcome; training files have neither."""
    return "response" in columns or ("responses_create_params" in columns and bool({"output", "reward"} & set(columns)))


def _untransformed(path: str, config: Path) -> Finding:
    keys = keys_of(config)
    name = keys.get("input_key") or keys.get("chat_key") or keys.get("prompt_key") or "input"
    cause = f"these are rollouts, but {config} expects training data"
    return Finding(path, f"KeyError: '{name}'", cause, "turn them into training data first: rollout-etl sft, dpo or grpo")
