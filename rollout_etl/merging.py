"""Merging several sources into one file of rollouts: each gets a `task_name`, and tasks of different runs get different indices."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from rollout_etl.curate import rewards
from rollout_etl.errors import UsageError
from rollout_etl.nearest import did_you_mean
from rollout_etl.option_values import check_fraction, check_least, check_value
from rollout_etl.publish.files import StagedFile, refuse_place
from rollout_etl.read.inputs import each_path, searched_note
from rollout_etl.read.scan import Rollouts


@dataclass
class Merged:
    """What was merged."""

    read: int = 0
    quarantined: int = 0
    clamped: int = 0
    rollouts: dict[str, int] = field(default_factory=dict)
    """Rollouts by `task_name`; those without one are counted under the empty name."""
    output: str = ""
    """The file; empty if there was no rollout to write, in which case an existing file is unchanged."""
    notes: list[str] = field(default_factory=list)


def merge(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    reward_scale: Sequence[str] = (),
    max_bad_fraction: float = 0.01,
    threads: int | None = None,
) -> Merged:
    """Write the rollouts of `paths`, best given as `NAME=PATH`, into one file of JSON lines.

    `task_name` becomes NAME; for a path without a name, it is unchanged. `_ng_task_index` continues from source to source; shards of one
    run stay together. `reward_scale` maps rewards to another scale first (see `rewards.scale_of`). Raises `RolloutETLError`.
    """
    check_fraction("max_bad_fraction", max_bad_fraction)
    target = Path(output)
    if target.suffix != ".jsonl":
        raise UsageError(f"the output {target} must end with .jsonl")
    check_least("threads", threads)
    check_value("reward_scale", reward_scale, Sequence[str])
    scales = rewards.scales(tuple(reward_scale))
    given = each_path(paths)
    rollouts = Rollouts(given, threads=threads)
    refuse_place(target, (item.local_path for item in rollouts.inputs))
    if target.is_dir():
        raise UsageError(f"{target} is a folder; name a file that ends with .jsonl")
    namespaces = {item.path: item.namespace for item in rollouts.inputs}
    first = _first_indices(rollouts, namespaces)
    done, counts = Merged(notes=[*rollouts.notes, *searched_note(given, target)]), Counter[str]()
    wanted = list(dict.fromkeys(["source", "task_name", "task_index", "unnamed_row", *rewards.RESCORED_FROM]))
    with StagedFile(target) as file:
        for frame in rollouts.batches([*wanted, "recorded_reward"]):
            if scales:
                frame = rewards.rescored(frame.lazy(), None, tuple(reward_scale)).collect()
                done.clamped += int(frame[rewards.CLAMPED].sum())
            lines = _lines(frame, namespaces, first, rescored=bool(scales))
            file.write("".join(lines).encode(), rows=len(lines))
            counts.update(dict(frame["task_name"].fill_null("").value_counts().iter_rows()))
        account = rollouts.account
        assert account is not None
        rollouts.check_bad_fraction(max_bad_fraction)
        for scale in scales:
            if scale.source is not None and scale.source not in counts:
                raise UsageError(f"--reward-scale names '{scale.source}', but there is no rollout of it{did_you_mean(scale.source, counts)}")
        if counts:
            file.finish()
            file.publish()
            done.output = str(target)
    done.read, done.quarantined = account.read, len(account.quarantined)
    done.rollouts = dict(sorted(counts.items()))
    return done


def _first_indices(rollouts: Rollouts, namespaces: dict[str, str]) -> dict[str, int]:
    """For each run, the index that its task 0 gets: runs follow each other in the order in which they are given."""
    index = pl.col("task_index").cast(pl.Int64, strict=False)
    largest = pl.concat([
        pl.DataFrame(schema={"source": pl.String, "largest": pl.Int64}),
        *(frame.group_by("source").agg(largest=index.max()) for frame in rollouts.batches(("source", "task_index"))),
    ])
    runs = largest.with_columns(run=pl.col("source").replace_strict(namespaces, return_dtype=pl.String)).group_by("run").agg(pl.col("largest").max())
    sizes = {run: (size if size is not None else -1) + 1 for run, size in runs.iter_rows()}
    order = dict.fromkeys(namespaces.values())
    starts, start = {}, 0
    for run in order:
        starts[run] = start
        start += sizes.get(run, 0)
    return starts


def _lines(frame: pl.DataFrame, namespaces: dict[str, str], first: dict[str, int], *, rescored: bool) -> pl.Series:
    """The rollouts as JSON lines."""
    run = pl.col("source").replace_strict(namespaces, return_dtype=pl.String)
    start = run.replace_strict(first, return_dtype=pl.Int64)
    index = pl.coalesce((start + pl.col("task_index").cast(pl.Int64, strict=False)).cast(pl.String), "task_index")
    name = pl.struct("task_name").struct.json_encode().str.strip_prefix("{").str.strip_suffix("}")
    reward = pl.col("reward").cast(pl.String) if rescored else pl.col("recorded_reward")
    members = [
        pl.when(pl.col("task_name").is_not_null()).then(name),
        pl.when(index.is_not_null()).then(pl.concat_str(pl.lit('"_ng_task_index":'), index)),
        pl.when(reward.is_not_null()).then(pl.concat_str(pl.lit('"reward":'), reward)),
        pl.when(pl.col("unnamed_row") != "{}").then(pl.col("unnamed_row").str.slice(1).str.strip_suffix("}")),
    ]
    return frame.select(line=pl.concat_str(pl.lit("{"), pl.concat_str(*members, separator=",", ignore_nulls=True), pl.lit("}\n")))["line"]
