"""Ground truth from the inputs of a run, for rollouts that do not carry it.

The verify step drops fields that its response class does not declare, so the ground truth often stands only in the input
dataset, or in `<stem>_materialized_inputs.jsonl`, which `gym eval run` writes beside the rollouts.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import polars as pl

from rollout_etl.read.inputs import Input, find_inputs
from rollout_etl.read.schema import SCHEMA

if TYPE_CHECKING:
    from rollout_etl.read.scan import Rollouts

_FOUND = ("ground_truth", "ground_truth_text", "ground_truth_origin")
_KEYS = ("source", "task_index", "prompt_key")


class TaskInputs:
    """Looks ground truth up: by `_ng_task_index` where both sides have it, else by prompt."""

    def __init__(self, rollouts: Rollouts, path: str | None) -> None:
        self._rollouts = rollouts
        if path is not None:
            find_inputs(path)
        self._path = path

    @cached_property
    def _sidecars(self) -> dict[str, str]:
        """Path of the inputs for each file that has some."""
        if self._path is not None:
            return dict.fromkeys((item.path for item in self._rollouts.inputs), self._path)
        return {item.path: beside for item in self._rollouts.inputs if (beside := item.task_inputs) is not None}

    @property
    def inputs(self) -> list[Input]:
        """The files that ground truth is looked up in."""
        return find_inputs(list(dict.fromkeys(self._sidecars.values())))[0] if self._sidecars else []

    def needed_for(self, columns: Sequence[str]) -> list[str]:
        """Columns that the look-up needs."""
        return [*_KEYS, *_FOUND] if self._sidecars and set(columns) & set(_FOUND) else []

    @cached_property
    def _table(self) -> pl.DataFrame:
        from rollout_etl.read.scan import Rollouts

        inputs = Rollouts(list(dict.fromkeys(self._sidecars.values())), style=self._rollouts.style, lookup=self._rollouts.lookup)
        names = ["source", "task_index", "prompt_key", *_FOUND]
        found = pl.concat([pl.DataFrame(schema={name: SCHEMA[name] for name in names}), *inputs.batches(names)]).rename({"source": "inputs"})
        beside = pl.DataFrame({"source": list(self._sidecars), "inputs": list(self._sidecars.values())}, schema=dict.fromkeys(("source", "inputs"), pl.String))
        return found.drop_nulls("ground_truth").join(beside, on="inputs").drop("inputs")

    def filled(self, frame: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
        """`frame` with ground truth from the inputs where the rollout has none."""
        if not self.needed_for(columns) or not frame["ground_truth"].has_nulls():
            return frame
        origin = pl.format("task_inputs.{}", "ground_truth_origin")
        table = self._table.with_columns(ground_truth_origin=origin)
        by_index = table.drop_nulls("task_index").unique(["source", "task_index"], keep="first", maintain_order=True)
        by_prompt = table.unique(["source", "prompt_key"], keep="first", maintain_order=True)
        unindexed = by_prompt if by_index.is_empty() else by_prompt.filter(pl.col("task_index").is_null())
        for found, keys in ((by_index, ["source", "task_index"]), (unindexed, ["source", "prompt_key"])):
            frame = frame.join(found.select(*keys, *_FOUND), on=keys, how="left", suffix="_input", maintain_order="left")
            missing = pl.col("ground_truth").is_null()
            frame = frame.with_columns(pl.when(missing).then(f"{name}_input").otherwise(name).alias(name) for name in _FOUND)
            frame = frame.drop(f"{name}_input" for name in _FOUND)
        return frame
