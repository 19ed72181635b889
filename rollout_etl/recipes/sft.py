"""Supervised fine-tuning: the rollouts whose reward is good enough, unchanged."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from rollout_etl.curate.rules import SOUND, TRAINABLE, Rule, below_threshold, chosen_rules, verdict
from rollout_etl.recipes.options import SftOptions, options_of

COLUMNS = {
    "openai": ("prompt", "completion", "tools"),
    "simple": ("prompt_text", "response_text"),
}
"""Canonical columns of an example, by format."""


CANNOT_HOLD: dict[str, tuple[str, ...]] = {"openai": (), "simple": ("flattened_completion",)}
"""Rules for what the rows of each format cannot hold: a single text cannot hold a trajectory."""


def rules(options: SftOptions, cannot_hold: Sequence[str] | None = None) -> list[Rule]:
    """The rules that drop rollouts. `cannot_hold` names the rules for what the target's rows cannot hold; without it, those of the format apply."""
    rows = CANNOT_HOLD[options.format] if cannot_hold is None else cannot_hold
    threshold = [below_threshold(options.reward_threshold)]
    return chosen_rules([*SOUND, *TRAINABLE, *rows], options.keep, options.drop, threshold, fixed=("unfinished", "empty_answer"))


def sft_examples(rollouts: pl.LazyFrame, options: SftOptions | None = None) -> pl.LazyFrame:
    """Examples for supervised fine-tuning, one for each rollout that no rule drops.

    `rollouts` is the canonical table. The result has `prompt`, `completion` and `tools` (JSON text) for the format
    `openai`, `prompt_text` and `response_text` for `simple`.
    """
    options = options_of(options, SftOptions)
    return rollouts.filter(verdict(rules(options)).is_null()).select(COLUMNS[options.format])
