"""The canonical table of a set of files as a LazyFrame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import polars as pl
from polars.io.plugins import register_io_source

from rollout_etl.option_values import check_arguments, check_fraction
from rollout_etl.read.canonical import Lookup, Style
from rollout_etl.read.scan import Paths, Rollouts
from rollout_etl.read.schema import COLUMNS, SCHEMA


def scan_rollouts(
    paths: Paths,
    *,
    think: Literal["keep", "strip", "move"] = "keep",
    arguments: Literal["object", "string"] = "object",
    ground_truth_field: str | None = None,
    task_inputs: str | None = None,
    group_by: str | Sequence[str] = (),
    max_bad_fraction: float = 0.01,
) -> pl.LazyFrame:
    """The rollouts of files, folders, globs or URLs as the canonical table: one row per rollout, with the columns of `SCHEMA`.

    Nothing is read before the frame is collected, and then only the columns that are used. `prompt`, `completion`, `tools`,
    `ground_truth`, `metrics` and `extra` are JSON text. `reward` is Float64, null when missing or not a finite number.

    Raises `UsageError` for paths that do not exist. When collected, raises `UnreadableError` for files that cannot be read, or
    if more than `max_bad_fraction` of the lines are not rollouts.
    """
    check_arguments(scan_rollouts, locals())
    check_fraction("max_bad_fraction", max_bad_fraction)
    fields = (group_by,) if isinstance(group_by, str) else tuple(group_by)
    lookup = Lookup(ground_truth_field=ground_truth_field, group_by=fields)
    rollouts = Rollouts(paths, style=Style(think=think, arguments=arguments), lookup=lookup, task_inputs=task_inputs)

    def read(with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None) -> Iterator[pl.DataFrame]:
        del batch_size
        left = n_rows
        for frame in rollouts.batches(with_columns if with_columns is not None else list(COLUMNS)):
            shown = frame if left is None else frame.head(left)
            left = None if left is None else left - len(shown)
            yield shown if predicate is None else shown.filter(predicate)
            if left == 0:
                return
        rollouts.check_bad_fraction(max_bad_fraction)

    return register_io_source(read, schema=SCHEMA, validate_schema=False)
