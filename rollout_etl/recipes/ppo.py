"""Proximal policy optimisation: the prompts of `grpo`, or the rollouts with their rewards for training without an environment."""

from __future__ import annotations

from collections.abc import Sequence

from rollout_etl.curate.rules import SOUND, TRAINABLE, Rule, below_threshold, chosen_rules
from rollout_etl.recipes import grpo
from rollout_etl.recipes.options import PpoOptions


def rules(options: PpoOptions, cannot_hold: Sequence[str] | None = None) -> list[Rule]:
    """The rules that drop rollouts. With responses, answers must be usable and have a reward, but ground truth may be missing."""
    if not options.with_responses:
        return grpo.rules(options, cannot_hold)
    threshold = [] if options.reward_threshold is None else [below_threshold(options.reward_threshold)]
    fixed = ("missing_reward", "nonfinite_reward", "empty_answer")
    return chosen_rules([*SOUND, *TRAINABLE, *(cannot_hold or ())], options.keep, options.drop, threshold, fixed)
