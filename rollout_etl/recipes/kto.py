"""Kahneman-Tversky optimisation: single answers, each labelled good or bad. No pairs are needed.

The loss balances good and bad answers by weights w: with n answers of each kind, w_good * n_good should be 1 to 4/3 times
w_bad * n_bad (KTO paper, section 4.2; `trl/trainer/kto_trainer.py` 1.16 warns otherwise).
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from rollout_etl.curate.rules import SOUND, TOLERANCE, TRAINABLE, Rule, chosen_rules, verdict
from rollout_etl.recipes.options import KtoOptions, options_of

COLUMNS = ("prompt", "completion", "tools")


def rules(options: KtoOptions, cannot_hold: Sequence[str] = ()) -> list[Rule]:
    """The rules that drop rollouts; `cannot_hold` names the rules for what the target's rows cannot hold."""
    between = [] if options.low_threshold is None else [_between(options.low_threshold, options.reward_threshold)]
    fixed = ("missing_reward", "nonfinite_reward", "unfinished", "empty_answer")
    return chosen_rules([*SOUND, *TRAINABLE, *cannot_hold], options.keep, options.drop, between, fixed)


def _between(low: float, high: float) -> Rule:
    middle = (pl.col("reward") > low + TOLERANCE) & (pl.col("reward") < high - TOLERANCE)
    return Rule("between_thresholds", middle, f"the reward is between {low:g} and {high:g}, neither good nor bad")


def label(options: KtoOptions) -> pl.Expr:
    """Whether an answer is good. Boolean."""
    return pl.col("reward") >= options.reward_threshold - TOLERANCE


def weights(good: int, bad: int) -> tuple[float, float]:
    """`desirable_weight` and `undesirable_weight` that make both labels count equally; the more frequent label keeps 1."""
    return (round(bad / good, 4), 1.0) if good < bad else (1.0, round(good / bad, 4))


def kto_examples(rollouts: pl.LazyFrame, options: KtoOptions | None = None) -> pl.LazyFrame:
    """Labelled answers, one for each rollout that no rule drops.

    `rollouts` is the canonical table. The result has `prompt`, `completion`, `tools` (JSON text) and `label` (Boolean).
    """
    options = options_of(options, KtoOptions)
    return rollouts.filter(verdict(rules(options)).is_null()).select(*COLUMNS, label=label(options))
