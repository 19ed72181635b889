"""Turn NeMo Gym rollouts into training data for NeMo RL, TRL, verl and OpenRLHF, with Polars and DuckDB.

    import rollout_etl

    rollouts = rollout_etl.scan_rollouts("results/")            # pl.LazyFrame, one row per rollout
    examples = rollout_etl.sft_examples(rollouts)               # pl.LazyFrame
    rollout_etl.write("results/", "sft.jsonl", recipe="sft")    # what the command line does
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.3.0"

if TYPE_CHECKING:
    from rollout_etl.api import transform_rollouts, write
    from rollout_etl.curate.decontaminate import without_prompts
    from rollout_etl.curate.dedup import without_copies
    from rollout_etl.curate.groups import where_group
    from rollout_etl.curate.near import without_near_copies
    from rollout_etl.curate.options import Curation
    from rollout_etl.curate.rewards import rescored, with_advantage
    from rollout_etl.curate.select import selected
    from rollout_etl.curate.split import with_part
    from rollout_etl.curate.tokens import with_tokens
    from rollout_etl.explore.session import connect
    from rollout_etl.merging import merge
    from rollout_etl.read.lazy import scan_rollouts
    from rollout_etl.recipes.dpo import preference_pairs
    from rollout_etl.recipes.grpo import grpo_prompts
    from rollout_etl.recipes.kto import kto_examples
    from rollout_etl.recipes.options import DpoOptions, GrpoOptions, KtoOptions, PpoOptions, RmOptions, SftOptions
    from rollout_etl.recipes.sft import sft_examples
    from rollout_etl.targets.configure import configure

_HOMES = {
    "Curation": "rollout_etl.curate.options",
    "rescored": "rollout_etl.curate.rewards",
    "selected": "rollout_etl.curate.select",
    "where_group": "rollout_etl.curate.groups",
    "with_advantage": "rollout_etl.curate.rewards",
    "with_part": "rollout_etl.curate.split",
    "with_tokens": "rollout_etl.curate.tokens",
    "without_copies": "rollout_etl.curate.dedup",
    "without_near_copies": "rollout_etl.curate.near",
    "without_prompts": "rollout_etl.curate.decontaminate",
    "connect": "rollout_etl.explore.session",
    "scan_rollouts": "rollout_etl.read.lazy",
    "sft_examples": "rollout_etl.recipes.sft",
    "preference_pairs": "rollout_etl.recipes.dpo",
    "grpo_prompts": "rollout_etl.recipes.grpo",
    "SftOptions": "rollout_etl.recipes.options",
    "DpoOptions": "rollout_etl.recipes.options",
    "GrpoOptions": "rollout_etl.recipes.options",
    "KtoOptions": "rollout_etl.recipes.options",
    "PpoOptions": "rollout_etl.recipes.options",
    "RmOptions": "rollout_etl.recipes.options",
    "kto_examples": "rollout_etl.recipes.kto",
    "configure": "rollout_etl.targets.configure",
    "merge": "rollout_etl.merging",
    "transform_rollouts": "rollout_etl.api",
    "write": "rollout_etl.api",
}

__all__ = [
    "Curation", "DpoOptions", "GrpoOptions", "KtoOptions", "PpoOptions", "RmOptions", "SftOptions", "configure", "connect", "grpo_prompts",
    "kto_examples", "merge", "preference_pairs", "rescored", "scan_rollouts", "selected", "sft_examples", "transform_rollouts", "where_group",
    "with_advantage", "with_part", "with_tokens", "without_copies", "without_near_copies", "without_prompts", "write",
]


def __getattr__(name: str) -> Any:
    """Import only the requested name: the command's help must not wait for Polars and DuckDB."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'rollout_etl' has no attribute '{name}'")
