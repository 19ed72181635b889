"""Reward arithmetic: scales, formulas over metrics, advantages within a group."""

from __future__ import annotations

import math
import re
from typing import Literal, NamedTuple, get_args

import polars as pl
from polars.exceptions import PolarsError

from rollout_etl.curate.conditions import looks_around, metric
from rollout_etl.curate.groups import GROUP, group_table
from rollout_etl.curate.options import Curation
from rollout_etl.curate.rules import TOLERANCE
from rollout_etl.errors import UsageError
from rollout_etl.option_values import checked

Advantage = Literal["grpo", "rloo", "max-rl"]
EPSILON = 1e-4
"""Added to the standard deviation, as TRL's GRPOTrainer does."""
_WEIGHT = re.compile(r"\s*\+?\s*(\d+(?:\.\d+)?)\s*\*\s*[A-Za-z_]\w*\s*")
_NAME = re.compile(r"('(?:[^']|'')*'|\"(?:[^\"]|\"\")+\"(?=\s*\())|(?:\bmetrics\.)?(?:\b([A-Za-z_]\w*)\b|\"((?:[^\"]|\"\")+)\")(?!\s*\()")
_MINDS_MISSING = re.compile(r"\bcoalesce\s*\(|\bis\s+(?:not\s+)?null\b", re.IGNORECASE)
_WORDS = {"case", "when", "then", "else", "end", "and", "or", "not", "between", "in", "is", "null", "true", "false"}


class Scale(NamedTuple):
    """Maps rewards from `low`..`high` to `to_low`..`to_high`, for the source of that name; None: for all others."""

    source: str | None
    low: float
    high: float
    to_low: float
    to_high: float


def scale_of(text: str) -> Scale:
    """`0,1:-1,1` or `math=0,1:-1,1`. Raises `UsageError`."""
    source, equals, numbers = text.rpartition("=")
    try:
        low, high, to_low, to_high = (float(number) for side in numbers.split(":") for number in side.split(","))
    except ValueError as error:
        raise UsageError(f"--reward-scale {text} does not map one range to another; write it as in 0,1:-1,1") from error
    if not all(map(math.isfinite, (low, high, to_low, to_high))):
        raise UsageError(f"--reward-scale {text}: bounds must be finite")
    if not low < high:
        raise UsageError(f"--reward-scale {text}: {low:g} must be less than {high:g}")
    return Scale(source if equals else None, low, high, to_low, to_high)


def scales(texts: tuple[str, ...]) -> list[Scale]:
    """The scales of named sources, then the one for all others. Raises `UsageError`."""
    found = [scale_of(text) for text in texts]
    names = [scale.source for scale in found]
    if len(set(names)) != len(names):
        raise UsageError("--reward-scale is given twice for the same source")
    return sorted(found, key=lambda scale: scale.source is None)


def scaled(reward: pl.Expr, wanted: list[Scale]) -> tuple[pl.Expr, pl.Expr]:
    """The reward on its new scale (Float64), and whether it was outside the old one and clamped (Boolean). Needs `task_name`."""
    value, clamped = reward, pl.lit(False)
    for scale in reversed(wanted):
        of = pl.lit(True) if scale.source is None else (pl.col("task_name") == scale.source).fill_null(False)
        inside = reward.clip(scale.low, scale.high)
        moved = scale.to_low + (inside - scale.low) * ((scale.to_high - scale.to_low) / (scale.high - scale.low))
        value = pl.when(of).then(moved).otherwise(value)
        clamped = pl.when(of).then(reward != inside).otherwise(clamped)
    return value, clamped.fill_null(False)


def formula(text: str) -> pl.Expr:
    """`0.6*correctness + 0.3*efficiency` as an expression over columns `metrics.NAME` and `reward`, in the SQL of Polars.

    Gates are written as CASE WHEN, F1 as arithmetic; names that are not plain words need double quotes. A rollout that lacks a metric gets
    no reward, unless the formula handles that itself, with COALESCE or IS NULL. Raises `UsageError`.
    """
    try:
        expression = pl.sql_expr(_NAME.sub(_named, text))
        names = expression.meta.root_names()
        schema = pl.Schema({name: pl.Float64() for name in names} or {" ": pl.Float64()})
        dtype = schema.to_frame().select(value=expression).schema["value"]
        if looks_around(text, expression, schema.to_frame()):
            raise UsageError(f"--reward {text}: a formula applies to one rollout at a time and cannot use max, avg, over and the like")
    except (PolarsError, TypeError) as error:
        raise UsageError(f"--reward {text}: {str(error).splitlines()[0]}") from error
    if not names:
        raise UsageError(f"--reward {text} names no metric")
    if not dtype.is_numeric():
        raise UsageError(f"--reward {text} is not a number")
    value = expression.cast(pl.Float64)
    if _MINDS_MISSING.search(text):
        return value
    # A comparison with a missing value would choose a branch.
    return pl.when(pl.all_horizontal(pl.col(name).is_not_null() for name in names)).then(value)


def _named(found: re.Match[str]) -> str:
    if found[1] or (found[2] or "").lower() in _WORDS:
        return found[0]
    if found[0] in ("reward", '"reward"'):
        return "reward"
    return f'"metrics.{found[2] or found[3].removeprefix("metrics.")}"'


def weights_warning(text: str) -> str | None:
    """A warning for a plain weighted sum whose weights do not sum to 1 (within 0.001)."""
    terms = _WEIGHT.findall(text)
    if not terms or _WEIGHT.sub("", text).strip():
        return None
    total = sum(map(float, terms))
    return None if abs(total - 1) <= 0.001 else f"the weights of --reward sum to {total:g}, not 1: rewards range up to {total:g} if metrics range up to 1"


RESCORED_FROM = ("reward", "is_nonfinite", "task_name", "metrics")
"""Canonical columns that `rescored` needs."""
CLAMPED = "is_clamped"
"""Column that it adds: whether the reward was outside its scale."""


def rescored(rollouts: pl.LazyFrame, reward: str | None = None, reward_scale: tuple[str, ...] = ()) -> pl.LazyFrame:
    """`rollouts` with a new `reward`: computed by a formula over metrics, then mapped to a scale; null if a metric is missing.

    Needs `RESCORED_FROM`; also adds `CLAMPED` (Boolean).
    """
    # Runs call this for each batch, so the texts are parsed once below, and not here as well.
    checked({"reward": reward, "reward_scale": reward_scale}, Curation)
    if reward is not None:
        value = formula(reward)
        names = [name for name in dict.fromkeys(value.meta.root_names()) if name.startswith("metrics.")]
        rollouts = rollouts.with_columns(metric(name.removeprefix("metrics."), pl.col("metrics")).alias(name) for name in names)
        value = value.alias("reward")
        rollouts = rollouts.with_columns(value).drop(names).with_columns(
            is_nonfinite=pl.col("reward").is_infinite().fill_null(False) | pl.col("reward").is_nan().fill_null(False),
            reward=pl.when(pl.col("reward").is_finite()).then("reward"),
        )
    moved, clamped = scaled(pl.col("reward"), scales(reward_scale))
    return rollouts.with_columns(moved.alias("reward"), clamped.alias(CLAMPED))


def advantage(kind: Advantage) -> pl.Expr:
    """The advantage of a rollout over its group, from `reward`, `n`, `mean_reward` and `std_reward` of `group_table`. Float64.

    `grpo`: (r - mean) / (std + 1e-4), with the sample standard deviation (Shao et al. 2024); `rloo`: r minus the mean of the others
    (Ahmadian et al. 2024), 0 for a single rollout; `max-rl`: (r - mean) / mean, 0 where the mean is 0 (Tajwar et al. 2026).
    Raises `UsageError` for another name.
    """
    apart = pl.col("reward") - pl.col("mean_reward")
    n = pl.col("n")
    if kind == "grpo":
        return apart / (pl.col("std_reward").fill_null(0.0) + EPSILON)
    if kind == "rloo":
        return pl.when(n > 1).then(apart * n / (n - 1)).otherwise(0.0)
    if kind != "max-rl":
        raise UsageError(f"advantage {kind!r} is unknown; it is one of {', '.join(get_args(Advantage))}")
    return pl.when(pl.col("mean_reward").abs() > TOLERANCE).then(apart / pl.col("mean_reward")).otherwise(0.0)


def with_advantage(rollouts: pl.LazyFrame, kind: Advantage, votes: pl.LazyFrame | None = None) -> pl.LazyFrame:
    """`rollouts` with the column `advantage`; `votes` as in `where_group`."""
    voting = (rollouts if votes is None else votes).select(*GROUP, "reward").drop_nulls("reward")
    table = group_table(voting).select(*GROUP, "n", "mean_reward", "std_reward")
    return rollouts.join(table, on=GROUP, how="left", maintain_order="left").with_columns(advantage=advantage(kind)).drop("n", "mean_reward", "std_reward")
