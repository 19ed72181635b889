"""Supervised fine-tuning: the rollouts whose reward is good enough, as they are."""

from __future__ import annotations

import polars as pl

from rollout_etl.curate.rules import SOUND, TRAINABLE, Rule, below_threshold, chosen_rules, verdict
from rollout_etl.recipes.options import SftOptions

COLUMNS = {
    "openai": ("prompt", "completion", "tools"),
    "simple": ("prompt_text", "response_text"),
}
"""Canonical columns that an example of each format holds."""


def rules(options: SftOptions) -> list[Rule]:
    """The rules that drop rollouts. One text holds no trajectory, so the simple format drops those as well."""
    flat = ("flattened_completion",) if options.format == "simple" else ()
    return chosen_rules([*SOUND, *TRAINABLE, *flat], options.keep, options.drop, [below_threshold(options.reward_threshold)], fixed=("empty_answer",))


def sft_examples(rollouts: pl.LazyFrame, options: SftOptions | None = None) -> pl.LazyFrame:
    """Examples for supervised fine-tuning, one for each rollout that no rule drops.

    `rollouts` is the canonical table. The result has `prompt`, `completion` and `tools` (JSON text) for the format
    `openai`, `prompt_text` and `response_text` for `simple`.
    """
    options = options or SftOptions()
    return rollouts.filter(verdict(rules(options)).is_null()).select(COLUMNS[options.format])
