"""Further columns of rows, chosen with `--extra`: canonical columns, metrics and group statistics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import polars as pl

from rollout_etl.curate.conditions import metric
from rollout_etl.curate.groups import GROUP
from rollout_etl.curate.rewards import Advantage, advantage
from rollout_etl.errors import UsageError
from rollout_etl.nearest import meant_or_all
from rollout_etl.publish.rows import Field
from rollout_etl.read.schema import SCHEMA
from rollout_etl.targets.target import Job

STATISTICS: dict[str, tuple[type[pl.DataType], str]] = {
    "pass_rate": (pl.Float64, "share of the group's rollouts whose reward is at least `--success`"),
    "mean_reward": (pl.Float64, "mean reward of the group"),
    "group_size": (pl.Int64, "rollouts of the group that have a sound reward"),
    "advantage": (pl.Float64, "advantage of the rollout over its group, computed by `--advantage`"),
}
"""Statistics of a rollout's group; rollouts without a sound reward do not count."""
OF_THE_GROUP = (
    *(name for name in STATISTICS if name != "advantage"),
    "task_name", "task_key", "prompt_key", "task_index", "prompt", "prompt_text", "tools", "ground_truth", "ground_truth_text",
    "ground_truth_origin", "prompt_kinds", "num_messages",
)
"""Columns that both sides of a pair share."""
_KINDS: dict[object, str] = {pl.String: "text", pl.Float64: "number", pl.Int64: "integer", pl.UInt64: "integer", pl.Boolean: "flag"}


def column(name: str, prefix: str = "") -> Field:
    """A field for a canonical column, `metrics.NAME` or a statistic of the group. Raises `UsageError` for other names."""
    if name.startswith("metrics.") and name != "metrics.":
        short = name.removeprefix("metrics.")
        return Field(short, "number", metric(short, pl.col(f"{prefix}metrics")))
    dtype = STATISTICS[name][0] if name in STATISTICS else SCHEMA.get(name)
    if dtype is None or name == "row":
        known = [known for known in (*SCHEMA, *STATISTICS) if known != "row"]
        raise UsageError(f"no column '{name}'{meant_or_all(name, known, 'columns', ' and metrics.NAME')}")
    return Field(name, _KINDS[dtype], pl.col(f"{prefix}{name}"))  # type: ignore[arg-type]


def extras(job: Job) -> list[Field]:
    """Fields for `--extra`. For a pair, columns that differ between the sides are written for both."""
    fields = []
    for name in dict.fromkeys(job.extra):
        plain, option = column(name), f"--extra {name}"
        if job.per != "pair":
            fields.append(replace(plain, option=option))
        elif name in OF_THE_GROUP:
            fields.append(replace(column(name, "chosen_"), option=option))
        else:
            fields += [Field(f"{side}_{plain.name}", plain.kind, column(name, f"{side}_").value, option=option) for side in ("chosen", "rejected")]
    return fields


def refuse_names(fields: Iterable[Field], taken: Iterable[str], reserved: Sequence[str], trainer: str) -> None:
    """Raise `UsageError` for a column whose name the row already has, or that has a special meaning for the trainer."""
    seen = set(taken)
    for field in fields:
        if field.name in reserved or field.name.endswith("_ids"):
            raise UsageError(f"--extra cannot write a column named '{field.name}': the name has a special meaning for {trainer}")
        if field.name in seen:
            raise UsageError(f"--extra names the column '{field.name}', which the rows have already")
        seen.add(field.name)


def needs_statistics(columns: Iterable[str]) -> bool:
    """Whether any of the columns is a statistic of the group."""
    return any(name.removeprefix("chosen_").removeprefix("rejected_") in STATISTICS for name in columns)


def with_statistics(frame: pl.DataFrame, groups: pl.DataFrame, kind: Advantage | None) -> pl.DataFrame:
    """`frame` (columns `GROUP` and `reward`) with the statistics of each rollout's group from `groups` (see `group_table`), and its
    advantage of that `kind`.
    """
    joined = frame.join(groups, on=GROUP, how="left", maintain_order="left").with_columns(group_size="n")
    joined = joined if kind is None else joined.with_columns(advantage=advantage(kind))
    return joined.select(*frame.columns, *(name for name in STATISTICS if name in joined.columns))
