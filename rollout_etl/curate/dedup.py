"""Exact copies: the same rollout twice, the same response twice in a group, the same prompt in several sources.

The first of several copies is kept, by attempt, content, file and line, so the order in which files are given does not matter.
"""

from __future__ import annotations

import polars as pl

from rollout_etl.curate.groups import GROUP
from rollout_etl.curate.select import TIES
from rollout_etl.errors import UsageError

COLUMNS = (*GROUP, "reward", *TIES, "response_key")
"""Canonical columns by which copies are recognised."""
_SAME = {
    "rollout": ("prompt_key", "completion_key", "reward", "attempt"),
    "response": (*GROUP, "response_key"),
}


def without_copies(rollouts: pl.LazyFrame, of: str) -> pl.LazyFrame:
    """`rollouts` without copies, in their order. Needs `COLUMNS`.

    `of="rollout"` drops rollouts with the same prompt, completion (with its response id), reward and attempt, as in overlapping files.
    `of="response"` drops rollouts that say and do the same as another one of their group; ids do not count.
    `of="prompt"` drops tasks with the same prompt as another task; the task with the most rollouts stays, or the first by key.
    Raises `UsageError` for another name.
    """
    if of == "prompt":
        tasks = rollouts.group_by("prompt_key", "task_key").agg(n=pl.len()).sort("n", "task_key", descending=[True, False])
        stays = tasks.unique("prompt_key", keep="first", maintain_order=True)
        return rollouts.join(stays, on=["prompt_key", "task_key"], how="semi", maintain_order="left")
    if of not in _SAME:
        raise UsageError(f"of={of!r} is unknown; it is one of {', '.join((*_SAME, 'prompt'))}")
    numbered = rollouts.with_row_index("_at")
    first = numbered.select("_at", *dict.fromkeys((*_SAME[of], *TIES))).sort(*TIES, nulls_last=True).unique(_SAME[of], keep="first", maintain_order=True)
    return numbered.join(first, on="_at", how="semi", maintain_order="left").drop("_at")
