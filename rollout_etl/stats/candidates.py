"""How many examples each recipe could make, before any is run, and which algorithm the rollouts suit.

Counted at the recipes' default thresholds, on rollouts that are fit for training. A recipe may still drop what its format cannot hold
(such as tool calls in a format of two texts); its own report counts that.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from rollout_etl.curate.rules import TOLERANCE
from rollout_etl.plain_text import counted
from rollout_etl.recipes.options import DpoOptions, KtoOptions, SftOptions
from rollout_etl.stats.narrow import Narrow

GAPS = (0.1, 0.2, 0.3)
FEW = 100
"""Fewer examples than this are too few to train on (docs of sft)."""
DEMONSTRATIONS = 0.9
"""Mean reward at or above which rollouts count as demonstrations (NeMo RL index: reward at least 0.9 for SFT)."""


def candidates(data: Narrow) -> dict[str, Any]:
    """Counts by recipe. `dpo` has `high` and `low`, the rollouts of the two tiers (docs: at least 0.7, at most 0.4), and pairs by gap."""
    # With millions of rollouts, a copy of all columns would need noticeable memory.
    rollouts = data.rollouts.lazy()
    usable = rollouts.filter("is_trainable").select("reward").collect()
    reward = pl.col("reward")
    sft, dpo, kto = SftOptions(), DpoOptions(), KtoOptions()
    counts = usable.select(
        sft=(reward >= sft.reward_threshold - TOLERANCE).sum(),
        high=(reward >= dpo.high_threshold - TOLERANCE).sum(),
        low=(reward <= dpo.low_threshold + TOLERANCE).sum(),
        good=(reward >= kto.reward_threshold - TOLERANCE).sum(),
        all=pl.len(),
    ).row(0, named=True)
    # Equal sides are not a pair (the rule identical_sides of dpo).
    gaps = data.pairs.filter(~pl.col("is_same"))["gap"]
    # A gap of 0 is never a pair.
    pairs = {f"{gap:g}": int((gaps >= gap - TOLERANCE).sum()) for gap in GAPS}
    any_pair = gaps.filter(gaps > TOLERANCE)
    prompts = rollouts.filter("is_prompt").group_by("group").agg(pl.col("has_truth").any()).collect()
    sound = rollouts.filter(pl.col("is_prompt") & pl.col("is_sound")).group_by("group").agg(spread=reward.max() - reward.min() > TOLERANCE).collect()
    return {
        "sft": {"examples": counts["sft"], "threshold": sft.reward_threshold},
        "dpo": {
            "pairs": pairs, "high": counts["high"], "low": counts["low"], "groups_of_several": len(data.pairs),
            "mean_gap": any_pair.mean(), "share_under_0.1": None if any_pair.is_empty() else float((any_pair < 0.1 - TOLERANCE).mean()),  # type: ignore[arg-type]
            "share_of_gap_1": None if any_pair.is_empty() else float(((any_pair - 1).abs() <= TOLERANCE).mean()),  # type: ignore[arg-type]
        },
        "kto": {"true": counts["good"], "false": counts["all"] - counts["good"], "threshold": kto.reward_threshold},
        "grpo": {"prompts": len(prompts), "with_ground_truth": int(prompts["has_truth"].sum()), "with_spread": int(sound["spread"].sum())},
    }


def recommendation(found: dict[str, Any], overall: dict[str, Any]) -> dict[str, Any]:
    """`algorithm` (null if none suits) and `reasons`, by the selection guides of the docs; the first match wins."""
    reward, pairs = overall["reward"], found["dpo"]["pairs"]["0.2"]
    prompts, truths, spread = (found["grpo"][name] for name in ("prompts", "with_ground_truth", "with_spread"))
    if reward is None:
        return {"algorithm": None, "reasons": ["no rollout has a sound reward: verify them first"]}
    if reward["min"] == reward["max"] and reward["min"] < DEMONSTRATIONS:
        return {"algorithm": None, "reasons": [f"all rewards are {reward['min']:g}: they do not distinguish good from bad"]}
    good, threshold = found["sft"]["examples"], found["sft"]["threshold"]
    if reward["mean"] >= DEMONSTRATIONS and good:
        return {"algorithm": "sft", "reasons": [f"the mean reward is {reward['mean']:.2f}, at least {DEMONSTRATIONS:g}: these are demonstrations", _many(good)]}
    if truths * 2 >= prompts and spread and reward["kind"] == "binary":
        return {"algorithm": "grpo", "reasons": [
            f"answers can be verified: {truths:,} of {prompts:,} prompts have a ground truth, and rewards are 0 or 1",
            f"{spread:,} prompts are solved by some attempts and failed by others",
        ]}
    if pairs:
        return {"algorithm": "dpo", "reasons": [
            f"rewards differ between attempts at the same prompt: {counted(pairs, 'pair')} with a gap of 0.2", _many(pairs),
            *([f"grpo is possible too: {truths:,} prompts have a ground truth"] if truths else []),
        ]}
    if truths:
        return {"algorithm": "grpo", "reasons": [f"{truths:,} of {prompts:,} prompts have a ground truth; no two attempts at the same prompt make a pair"]}
    if good:
        return {"algorithm": "sft", "reasons": [f"{good:,} rollouts reach {threshold:g}; there are no pairs and no ground truth", _many(good)]}
    reason = "no rollout is good enough to imitate, no prompt has attempts with different rewards, and there is no ground truth: collect more"
    return {"algorithm": None, "reasons": [reason]}


def _many(count: int) -> str:
    """Whether there are enough examples, by the volumes of the docs (data-quality)."""
    if count < FEW:
        return f"{count:,} {'example is' if count == 1 else 'examples are'} too few: collect {FEW} or more"
    if count < 1000:
        return f"{count:,} examples are enough for a first try; the docs recommend 1,000 for a quick run and 10,000 or more for a real one"
    return f"{count:,} examples are enough for a {'quick' if count < 10_000 else 'typical' if count < 1_000_000 else 'production'} run"
