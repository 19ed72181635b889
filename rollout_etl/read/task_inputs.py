"""What rollouts do not carry, from the inputs of their run: ground truth, and the whole row as a prompt for Gym.

The verify step drops fields that its response class does not declare, so they often stand only in the input dataset, or in
`<stem>_materialized_inputs.jsonl`, which `gym eval run` writes beside the rollouts.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import polars as pl

from rollout_etl.read.canonical import Lookup, Style
from rollout_etl.read.inputs import Input, find_inputs
from rollout_etl.read.schema import SCHEMA

if TYPE_CHECKING:
    from rollout_etl.read.scan import Rollouts

_FOUND = ("ground_truth", "ground_truth_text", "ground_truth_origin")
_KEYS = ("source", "task_index", "prompt_key")
_INDEXED = "inputs_have_index"


class TaskInputs:
    """Looks up what the inputs hold: by `_ng_task_index` where both sides have it, else by prompt."""

    def __init__(self, rollouts: Rollouts, path: str | None) -> None:
        self._rollouts = rollouts
        if path is not None:
            find_inputs(path)
        self._path = path
        self._tables: dict[tuple[tuple[tuple[str, str], ...], tuple[str, ...]], tuple[pl.DataFrame, pl.DataFrame]] = {}

    def over(self, rollouts: Rollouts) -> TaskInputs:
        """The same for a part of the inputs. Parts of the same files share what was read."""
        part = TaskInputs(rollouts, self._path)
        part._tables = self._tables
        return part

    def _looked_up_in(self, names: tuple[str, ...]) -> tuple[pl.DataFrame, pl.DataFrame]:
        sidecars = tuple(self._sidecars.items())
        if (sidecars, names) not in self._tables:
            # Parts come one after the other: the tables of earlier ones are done with.
            for key in [key for key in self._tables if key[0] != sidecars]:
                del self._tables[key]
            self._tables[sidecars, names] = _tables(sidecars, self._rollouts.style, self._rollouts.lookup, names)
        return self._tables[sidecars, names]

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
        looked_up = self._looked_up(columns)
        return [*_KEYS, *looked_up] if looked_up else []

    def filled(self, frame: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
        """`frame` with ground truth from the inputs where the rollout has none, and with their Gym rows."""
        names = self._looked_up(columns)
        if not names:
            return frame
        by_index, by_prompt = self._looked_up_in(tuple(names))
        joined = frame.join(by_index, on=["source", "task_index"], how="left", suffix="_of_index", maintain_order="left")
        joined = joined.join(by_prompt, on=["source", "prompt_key"], how="left", suffix="_of_prompt", maintain_order="left")
        # Where both sides have an index it alone decides.
        counts = ~pl.col(_INDEXED) | pl.col("task_index").is_null()
        found = joined.with_columns(
            pl.coalesce(f"{name}_of_index", pl.when(counts).then(f"{name}_of_prompt")).alias(f"{name}_input") for name in names
        )
        return found.with_columns(self._chosen(names)).select(frame.columns)

    def _looked_up(self, columns: Sequence[str]) -> list[str]:
        if not self._sidecars:
            return []
        names = [*(_FOUND if set(columns) & set(_FOUND) else ()), *(name for name in ("agent_name", "gym_row") if name in columns)]
        return [*names, "agent_name"] if "gym_row" in names and "agent_name" not in names else names

    @staticmethod
    def _chosen(names: Sequence[str]) -> list[pl.Expr]:
        """Ground truth and agent of the rollout before those of the inputs; the Gym row of the inputs, unless it lacks the agent."""
        chosen = []
        if "ground_truth" in names:
            missing = pl.col("ground_truth").is_null()
            chosen += [pl.when(missing).then(f"{name}_input").otherwise(name).alias(name) for name in _FOUND]
        if "agent_name" in names:
            chosen.append(pl.coalesce("agent_name", "agent_name_input"))
        if "gym_row" in names:
            whole = pl.col("gym_row_input").is_not_null() & (pl.col("agent_name_input").is_not_null() | pl.col("agent_name").is_null())
            chosen.append(pl.when(whole).then("gym_row_input").otherwise("gym_row").alias("gym_row"))
        return chosen


def _tables(sidecars: tuple[tuple[str, str], ...], style: Style, lookup: Lookup, names: tuple[str, ...]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """`names` by source and index, and by source and prompt, with whether the input has an index (Boolean).

    `sidecars` are sources, each with its inputs. A prompt that stands for tasks of different ground truths tells none.
    """
    from rollout_etl.read.scan import Rollouts

    inputs = Rollouts(list(dict.fromkeys(path for _, path in sidecars)), style=style, lookup=lookup)
    wanted = list(dict.fromkeys([*_KEYS, *names, "ground_truth"]))
    table = pl.concat([pl.DataFrame(schema={name: SCHEMA[name] for name in wanted}), *inputs.batches(wanted)]).rename({"source": "inputs"})
    if "ground_truth_origin" in names:
        table = table.with_columns(ground_truth_origin=pl.format("task_inputs.{}", "ground_truth_origin"))
    # Of repeated inputs the first that tells.
    table = table.sort(pl.col("ground_truth").is_null(), maintain_order=True)
    # A folder or a pattern stands for its files.
    files = {path: [item.path for item in find_inputs(path)[0]] for path in dict.fromkeys(path for _, path in sidecars)}
    looked_in = [(source, file) for source, path in sidecars for file in files[path]]
    sources = pl.DataFrame(looked_in, schema={"source": pl.String, "inputs": pl.String}, orient="row")
    table = table.join(sources, on="inputs", maintain_order="left").drop("inputs")
    by_index = table.drop_nulls("task_index").unique(["source", "task_index"], keep="first", maintain_order=True)
    truths = pl.col("ground_truth").drop_nulls().n_unique().over("source", "prompt_key")
    by_prompt = table.filter(truths < 2).unique(["source", "prompt_key"], keep="first", maintain_order=True)
    by_prompt = by_prompt.with_columns(pl.col("task_index").is_not_null().alias(_INDEXED))
    return by_index.select("source", "task_index", *names), by_prompt.select("source", "prompt_key", _INDEXED, *names)
