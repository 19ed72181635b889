"""The trainers that rows are written for, each a module of this folder; `target.py` describes such a module."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, cast

from rollout_etl.errors import UsageError

if TYPE_CHECKING:
    from rollout_etl.targets.target import Target

REGISTRY = {
    "nemo-rl": "nemo_rl",
    "trl": "trl",
    "verl": "verl",
    "openrlhf": "openrlhf",
    "custom": "custom",
}
"""The module of each target, by the name that `--target` takes."""


def load(name: str) -> Target:
    """The target with that name. Raises `UsageError` if there is none."""
    if name not in REGISTRY:
        raise UsageError(f"no target '{name}'; targets are {', '.join(REGISTRY)}")
    return cast("Target", importlib.import_module(f"rollout_etl.targets.{REGISTRY[name]}"))


def check_layout(name: str, layout: str) -> None:
    """Raise `UsageError` for a layout of run files that the target does not have."""
    if layout != "current" and name != "nemo-rl":
        raise UsageError("--nemo-rl-layout is for --target nemo-rl only")
