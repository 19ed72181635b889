"""Training, validation and test rollouts, by a hash of the prompt.

The part of a prompt depends on the prompt alone: all its rollouts are in the same part, whatever file they come from, and stay there when
data grows. Prompts are identified by `messages_key`, the messages without tools and metadata, so that rows with the same question are not
in two parts.
"""

from __future__ import annotations

import polars as pl

from rollout_etl.curate.balance import named_numbers
from rollout_etl.curate.options import check_options
from rollout_etl.curate.order import share
from rollout_etl.errors import UsageError

KEY = "messages_key"
TRAIN = "train"
COLUMNS = (KEY, "task_name", "agent_name")
"""Canonical columns that a split uses."""


def parts(text: str | None) -> dict[str, float]:
    """`train=0.9,val=0.05,test=0.05` as shares by name; with no text, everything is `train`. Raises `UsageError`."""
    if text is None:
        return {TRAIN: 1.0}
    found = named_numbers("--split", text)
    if TRAIN not in found:
        raise UsageError(f"--split {text}: one part must be named {TRAIN}; it is written to the output, the others next to it")
    if any(not name.isidentifier() for name in found):
        raise UsageError(f"--split {text}: names of parts become part of file names; use letters")
    if abs(sum(found.values()) - 1) > 1e-6:
        raise UsageError(f"--split {text}: the shares sum to {sum(found.values()):g}, not 1")
    return found


def with_part(rollouts: pl.LazyFrame, split: str | None, stratify: bool = False) -> pl.LazyFrame:
    """`rollouts` with the column `part` (String): the name of the part that the prompt belongs to.

    Needs `COLUMNS`. With `stratify`, the shares hold exactly within each task (`task_name`, else `agent_name`), and every part gets a
    prompt if the task has enough of them; a prompt can then change parts when others are added.
    """
    check_options(split=split)
    shares = parts(split)
    # Training comes last, so that a larger validation share takes prompts only from training.
    names = [name for name in shares if name != TRAIN] + [TRAIN]
    if not stratify:
        return rollouts.with_columns(part=_by_bounds(share(KEY), names, shares))
    task = pl.coalesce("task_name", "agent_name", pl.lit("")).alias("task")
    # A prompt of several tasks belongs to the first by name, in whatever order the files are given.
    prompts = rollouts.group_by(KEY, maintain_order=True).agg(task.min())
    placed = prompts.with_columns(place=pl.struct(share(KEY).alias("share"), KEY).rank("ordinal").over("task") - 1, size=pl.len().over("task"))
    bounds, end = pl.lit(TRAIN), pl.lit(0)
    ends = []
    for left, name in zip(range(len(names) - 1, 0, -1), names, strict=False):
        wanted = pl.max_horizontal((pl.col("size") * shares[name]).round().cast(pl.Int64), pl.lit(1))
        # The parts that are left get a prompt each.
        end = pl.min_horizontal(end + wanted, pl.col("size").cast(pl.Int64) - left)
        ends.append((name, end))
    # A task with fewer prompts than parts goes to training.
    for name, until in reversed(ends):
        bounds = pl.when((pl.col("place") < until) & (pl.col("size") > len(ends))).then(pl.lit(name)).otherwise(bounds)
    return rollouts.join(placed.select(KEY, part=bounds), on=KEY, how="left", nulls_equal=True, maintain_order="left")


def _by_bounds(number: pl.Expr, names: list[str], shares: dict[str, float]) -> pl.Expr:
    chosen, end = pl.lit(names[-1]), sum(shares[name] for name in names[:-1])
    for name in reversed(names[:-1]):
        chosen = pl.when(number < end).then(pl.lit(name)).otherwise(chosen)
        end -= shares[name]
    return chosen
