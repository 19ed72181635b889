"""One pass over rollouts that keeps what statistics need: about 100 bytes per rollout, whatever its size.

Texts are not kept, only their lengths, flags and keys. Metrics are kept in long form, with a row for each value, because files from many
servers have hundreds of metrics, and each rollout has only a few of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import polars as pl

from rollout_etl import named_fields
from rollout_etl.curate.rules import RULES, SOUND, TRAINABLE, columns_of, verdict
from rollout_etl.read.scan import Rollouts
from rollout_etl.recipes import grpo
from rollout_etl.recipes.options import GrpoOptions
from rollout_etl.stats.lengths import PAIRED_BY, pair_gaps
from rollout_etl.stats.scopes import scoped

FLAGS = ("is_failure", "is_masked", "is_unverified", "is_nonfinite", "is_truncated", "says_error")
_COUNTS = ("attempt", "num_turns", "num_tool_calls", "num_unanswered", "prompt_chars", "completion_chars", "prompt_tokens", "completion_tokens")
_COLUMNS: dict[str, Any] = {
    "row": pl.Int64, "task_name": pl.Categorical(), "agent_name": pl.Categorical(), "group": pl.UInt64, "prompt": pl.UInt64,
    "response": pl.UInt64, "statics": pl.UInt64,
    "reward": pl.Float64, **dict.fromkeys(_COUNTS, pl.Int64), **dict.fromkeys(FLAGS, pl.Boolean), "is_sound": pl.Boolean,
    "is_trainable": pl.Boolean, "is_empty": pl.Boolean, "is_prompt": pl.Boolean, "has_truth": pl.Boolean,
}
SCHEMA = pl.Schema(_COLUMNS)
"""Columns of `Narrow.rollouts`. `row` is the canonical one. `group`, `response` and `statics` are only valid within one run;
`prompt` is the first half of `prompt_key` as a number, the same wherever the prompt occurs.

`is_sound`: the reward says something about the model; `is_trainable`: the completion is also fit for training;
`is_prompt`: the prompt can be used for GRPO; `has_truth`: there is a ground truth.
"""
_METRICS: dict[str, Any] = {"row": pl.UInt32, "name": pl.Categorical(), "value": pl.Float64}
METRICS = pl.Schema(_METRICS)
_TOOLS: dict[str, Any] = {
    "task_name": pl.Categorical(), "agent_name": pl.Categorical(), "tool": pl.String, "calls": pl.UInt32, "rollouts": pl.UInt32,
}
TOOLS = pl.Schema(_TOOLS)
_METRIC = r'"((?:[^"\\]|\\.)*)":(-?[0-9][0-9.eE+-]*)'
_SOUND = [RULES[name] for name in SOUND]
_TRAINABLE = [RULES[name] for name in TRAINABLE]
# What GRPO requires besides the ground truth, which is counted separately.
_PROMPT = [rule for rule in grpo.rules(GrpoOptions(format="response"), ()) if rule.name != "missing_ground_truth"]


@dataclass
class Narrow:
    """The narrow columns of a set of rollouts."""

    rollouts: pl.DataFrame = field(default_factory=lambda: SCHEMA.to_frame())
    """A row for each rollout, in the order of the input; the schema is `SCHEMA`."""
    metrics: pl.DataFrame = field(default_factory=lambda: METRICS.to_frame())
    """A row for each value of a metric; `row` is the position of its rollout."""
    tools: pl.DataFrame = field(default_factory=lambda: TOOLS.to_frame())
    """Number of calls by task, agent and tool, and of rollouts that made them."""
    inputs: list[str] = field(default_factory=list)
    read: int = 0
    quarantined: int = 0
    quarantine_reasons: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @cached_property
    def pairs(self) -> pl.DataFrame:
        """Best and worst rollout of each group, among those fit for training (see `pair_gaps`)."""
        return pair_gaps(scoped(self.rollouts.lazy().filter("is_trainable").select(PAIRED_BY).collect(), "overall"))


def columns(response: str, metrics: str) -> list[str]:
    """Columns that are read; `response` is the column that identifies responses, `metrics` the one with other scores."""
    own = ["row", "task_name", "agent_name", "task_key", "prompt_key", response, "statics", metrics, "tool_names", "ground_truth", *_COUNTS, *FLAGS]
    return list(dict.fromkeys([*own, *columns_of([*_SOUND, *_TRAINABLE, *_PROMPT]), "reward"]))


def narrow(rollouts: Rollouts) -> Narrow:
    """Read all rollouts once. Raises `UnreadableError` for files that cannot be read."""
    frames, metrics, tools, count = [SCHEMA.to_frame()], [METRICS.to_frame()], [TOOLS.to_frame()], 0
    # Stored columns need not be computed; for lines, a hash and plain numbers are faster to compute.
    is_stored = rollouts.holds(["response_key", "metrics"])
    response, scores = ("response_key", "metrics") if is_stored else ("response_hash", "numbers")
    known = () if is_stored else sorted(rollouts.glimpse.seen_fields.values)
    for batch in rollouts.batches(columns(response, scores)):
        frames.append(_narrowed(batch.rename({response: "response"})))
        metrics.append(_metrics(batch.select("metrics"), count) if is_stored else _numbers(batch["numbers"], known, count))
        tools.append(_tools(batch))
        count += len(batch)
    account = rollouts.account
    assert account is not None
    added = pl.concat(tools).group_by("task_name", "agent_name", "tool").agg(pl.col("calls", "rollouts").sum())
    return Narrow(
        # Making it one piece of memory would hold a second copy for a moment.
        pl.concat(frames), pl.concat(metrics),
        added.sort("calls", "tool", "task_name", "agent_name", descending=[True, *[False] * 3]),
        [item.path for item in rollouts.inputs], account.read, len(account.quarantined), account.reasons(),
        [*rollouts.notes, *named_fields.looked_up(rollouts)],
    )


def _narrowed(batch: pl.DataFrame) -> pl.DataFrame:
    found = batch.with_columns(
        group=pl.struct("task_key", "prompt_key").hash(),
        prompt=pl.col("prompt_key").str.head(16).str.to_integer(base=16, dtype=pl.UInt64),
        statics=pl.col("statics").hash(),
        is_sound=verdict(_SOUND).is_null(),
        is_trainable=verdict([*_SOUND, *_TRAINABLE]).is_null(),
        is_empty=RULES["empty_answer"].drops | (pl.col("completion_kinds") == ""),
        is_prompt=verdict(_PROMPT).is_null(),
        has_truth=pl.col("ground_truth").is_not_null(),
    )
    return found.select(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items())


def _numbers(numbers: pl.Series, known: Sequence[str], first: int) -> pl.DataFrame:
    """The values of the column `numbers` in long form; `known` are the names of its lists."""
    listed = pl.DataFrame({"value": numbers.struct.field("known")}).with_row_index("row", offset=first)
    found = [
        listed.select(pl.col("row").cast(pl.UInt32), name=pl.lit(name).cast(pl.Categorical), value=pl.col("value").list.get(place)).drop_nulls("value")
        for place, name in enumerate(known)
    ]
    other = numbers.struct.field("other").alias("metrics")
    if other.null_count() == len(other):
        return pl.concat([METRICS.to_frame(), *found])
    # Sums depend on their order, so keep that of the rollouts, however they were read.
    return pl.concat([*found, _metrics(other.to_frame(), first)]).sort("row", maintain_order=True)


def _metrics(metrics: pl.DataFrame, first: int) -> pl.DataFrame:
    """The values of the column `metrics`, JSON objects of numbers, in long form."""
    pairs = (
        metrics.with_row_index("row", offset=first).filter(pl.col("metrics") != "{}")
        .select("row", pair=pl.col("metrics").str.extract_all(_METRIC)).explode("pair").drop_nulls()
    )
    pair = pl.col("pair").str
    return pairs.select(pl.col("row").cast(pl.UInt32), name=pair.extract(_METRIC, 1).cast(pl.Categorical), value=pair.extract(_METRIC, 2).cast(pl.Float64))


def _tools(batch: pl.DataFrame) -> pl.DataFrame:
    calls = batch.select("task_name", "agent_name", "tool_names").with_row_index().drop_nulls("tool_names")
    if calls.is_empty():
        return TOOLS.to_frame()
    each = calls.with_columns(tool=pl.col("tool_names").str.json_decode(pl.List(pl.String))).explode("tool")
    found = each.group_by("task_name", "agent_name", "tool").agg(calls=pl.len(), rollouts=pl.col("index").n_unique())
    return found.select(pl.col(name).cast(dtype) for name, dtype in TOOLS.items())
