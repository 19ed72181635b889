"""Which examples to use when there are too many of some: caps, mixes, samples. All draws use seeded numbers (see `order.py`).

Frames need the column `order` (UInt64), the number of the example.
"""

from __future__ import annotations

import re

import polars as pl

from rollout_etl.errors import UsageError
from rollout_etl.nearest import did_you_mean
from rollout_etl.read.schema import SCHEMA

SOURCE = "task_name"
"""Column that holds the source of an example, for `mix`."""


def named_numbers(option: str, text: str) -> dict[str, float]:
    """`NAME=NUMBER,...` as a dict of positive numbers. Raises `UsageError`."""
    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, number = part.strip().rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = 0.0
        if not equals or not name or not 0 < value < float("inf"):
            raise UsageError(f"{option} {text}: write NAME=NUMBER,NAME=NUMBER with positive numbers")
        if name in found:
            raise UsageError(f"{option} {text}: {name} is given twice")
        found[name] = value
    return found


def caps(texts: tuple[str, ...]) -> dict[str, int]:
    """`COLUMN=N` as the largest count for each canonical column. Raises `UsageError`."""
    found: dict[str, int] = {}
    for text in texts:
        column, _, number = text.rpartition("=")
        if not re.fullmatch(r"[1-9]\d*", number):
            raise UsageError(f"--cap {text}: write COLUMN=N, as in task_name=100")
        if column not in SCHEMA or column == "row":
            raise UsageError(f"--cap {text}: there is no column '{column}'{did_you_mean(column, SCHEMA)}")
        found[column] = int(number)
    return found


def shares(text: str | None) -> dict[str, float]:
    """`NAME=SHARE,...` as shares that sum to 1. Raises `UsageError`."""
    if text is None:
        return {}
    found = named_numbers("--mix", text)
    total = sum(found.values())
    return {name: value / total for name, value in found.items()}


def absent(examples: pl.DataFrame, text: str | None) -> list[str]:
    """Warnings for names of a mix that no example has: their share goes to the others."""
    wanted = shares(text)
    there = examples[SOURCE].drop_nulls().unique().to_list() if wanted else []
    return [f"--mix names '{name}', but there is no example of it{did_you_mean(name, there)}" for name in wanted if name not in there]


def sample_size(text: str | None) -> tuple[int | None, float | None]:
    """`N` as a count, `P%` as a share. Raises `UsageError`."""
    if text is None:
        return None, None
    if re.fullmatch(r"[1-9]\d*", text):
        return int(text), None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)%", text)
    if match is None or not 0 < float(match[1]) <= 100:
        raise UsageError(f"--sample {text}: write a number of examples, or a percentage such as 5%")
    return None, float(match[1]) / 100


def cap(examples: pl.LazyFrame, column: str, limit: int) -> pl.LazyFrame:
    """At most `limit` examples for each value of `column`; null counts as a value. Order is kept."""
    return examples.filter(pl.struct("order", pl.int_range(pl.len())).rank("ordinal").over(column) <= limit)


def mix(examples: pl.LazyFrame, wanted: dict[str, float], upsample: bool = False) -> pl.LazyFrame:
    """Examples in which the values of `SOURCE` have the shares of `wanted` (which sum to 1); other values are left out.

    The scarcest source is used in full, and the others are reduced to fit. With `upsample` none is reduced: scarce ones are repeated, whole
    rounds first, then the examples with the smallest numbers. `copy` (Int64) counts the repetitions of an example from 0. The counts are
    rounded down, to one example at least.
    """
    targets = pl.LazyFrame({SOURCE: list(wanted), "share": list(wanted.values())}, schema={SOURCE: pl.String, "share": pl.Float64})
    counts = examples.group_by(SOURCE).agg(have=pl.len()).join(targets, on=SOURCE)
    total = pl.col("have") / pl.col("share")
    # A tolerance for shares such as 0.3, which have no exact binary fraction.
    size = ((total.max() if upsample else total.min()) * pl.col("share") + 1e-6).floor().cast(pl.Int64).clip(1)
    sized = counts.with_columns(size=size)
    placed = examples.with_row_index("_at").with_columns(_place=pl.struct("order", "_at").rank("ordinal").over(SOURCE) - 1)
    left = pl.col("size") - pl.col("_place").cast(pl.Int64)
    repeated = placed.join(sized, on=SOURCE, maintain_order="left").with_columns(_times=((left + pl.col("have") - 1) // pl.col("have")).clip(0))
    return (
        repeated.filter(pl.col("_times") > 0).with_columns(copy=pl.int_ranges(pl.col("_times"))).explode("copy").sort("_at", "copy")
        .select(pl.exclude("_at", "_place", "_times", "have", "share", "size"))
    )


_LEVELS = 5


def sample(examples: pl.LazyFrame, size: str, evenly: bool = False) -> pl.LazyFrame:
    """`N` examples, or `P%` of them, drawn by their numbers. Order is kept.

    `evenly` draws equally from each `reward`; if there are more than five, from each fifth of the rewards. `P%` then also means a number of
    examples, rounded up.
    """
    count, part = sample_size(size)
    if evenly:
        reward = pl.col("reward")
        # Some of several equal rewards may fall into the next fifth: which ones must not depend on the order of files.
        place = pl.struct("reward", "order", pl.int_range(pl.len())).rank("ordinal").cast(pl.Int64) - reward.null_count()
        fifths = pl.when(reward.is_not_null()).then((place * _LEVELS - 1) // reward.count())
        level = pl.when(reward.n_unique() > _LEVELS).then(fifths).otherwise(reward.rank("dense").cast(pl.Int64))
        turn = pl.struct("order", pl.int_range(pl.len())).rank("ordinal").over(level).alias("_turn")
        wanted = pl.lit(count) if part is None else (pl.len() * part).ceil()
        return examples.filter(pl.struct(turn, "order", pl.int_range(pl.len()).alias("_at")).rank("ordinal") <= wanted)
    if part is not None:
        return examples.filter(pl.col("order") // (1 << 11) < int(part * (1 << 53)))
    return examples.filter(pl.struct("order", pl.int_range(pl.len())).rank("ordinal") <= count)
