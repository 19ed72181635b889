"""Values that rollouts lack, from the inputs of their run: ground truth, and the whole row as a prompt for Gym.

The verify step drops fields that its response class does not declare, so they often stand only in the input dataset, or in
`<stem>_materialized_inputs.jsonl`, which `gym eval run` writes beside the rollouts.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from rollout_etl.read.canonical import Lookup, Style
from rollout_etl.read.inputs import Input, find_inputs
from rollout_etl.read.schema import RECORDED, SCHEMA
from rollout_etl.read.task_match import KEYS, Matcher

if TYPE_CHECKING:
    from rollout_etl.read.scan import Rollouts

_TRUTH = ("ground_truth", "ground_truth_text", "ground_truth_origin")
_TOLD_BY = {**dict.fromkeys(_TRUTH, "truth_at"), "agent_name": "agent_at", "gym_row": "row_at"}
"""For each column, the column with the number of the matching input (see `Matcher.matched`)."""
_ADDED_BY_RUNS = r'"_ng_[a-z_]+":(?:"[^"\\]*"|[^",{}\[\]]*),?'


class _Table(NamedTuple):
    """Inputs that were read: their values, and the matcher that finds them."""

    told: pl.DataFrame
    matcher: Matcher


class TaskInputs:
    """Looks up what the inputs hold (see `task_match.py`)."""

    def __init__(self, rollouts: Rollouts, path: str | None) -> None:
        self._rollouts = rollouts
        if path is not None:
            find_inputs(path)
        self._path = path
        self._tables: dict[tuple[tuple[tuple[str, str], ...], tuple[str, ...]], _Table] = {}

    def over(self, rollouts: Rollouts) -> TaskInputs:
        """The look-up for a part of the inputs. Parts of the same files share what was read."""
        part = TaskInputs(rollouts, self._path)
        part._tables = self._tables
        return part

    @property
    def missing(self) -> bool:
        """Whether some of the rollouts have no task inputs."""
        return len(self._sidecars) < len(self._rollouts.inputs)

    def _looked_up_in(self, names: tuple[str, ...]) -> _Table:
        sidecars = tuple(self._sidecars.items())
        if (sidecars, names) not in self._tables:
            # Parts come one after the other: the tables of earlier ones are done with.
            for key in [key for key in self._tables if key[0] != sidecars]:
                del self._tables[key]
            self._tables[sidecars, names] = _table(sidecars, self._rollouts.style, self._rollouts.lookup, names)
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
        return [*KEYS, *looked_up] if looked_up else []

    def filled(self, frame: pl.DataFrame, columns: Sequence[str]) -> tuple[pl.DataFrame, int]:
        """`frame` with ground truth from the inputs where the rollout has none, and with their Gym rows; and how many rollouts match
        several inputs with different values."""
        names = self._looked_up(columns)
        if not names:
            return frame, 0
        told, matcher = self._looked_up_in(tuple(names))
        match = matcher.matched(frame.select(KEYS))
        missing = frame["ground_truth"].is_null() if "ground_truth" in names else pl.lit(False)
        differs = (pl.col("truth_differs") & missing) | (pl.col("row_differs") if "gym_row" in names else False)
        found = frame.with_columns(told[name].gather(match[_TOLD_BY[name]]).alias(f"{name}_input") for name in names)
        return found.with_columns(self._chosen(names)).select(frame.columns), int(match.select(differs.sum()).item() or 0)

    def _looked_up(self, columns: Sequence[str]) -> list[str]:
        if not self._sidecars:
            return []
        names = [*(_TRUTH if set(columns) & set(_TRUTH) else ()), *(name for name in ("agent_name", "gym_row") if name in columns)]
        return [*names, "agent_name"] if "gym_row" in names and "agent_name" not in names else names

    @staticmethod
    def _chosen(names: Sequence[str]) -> list[pl.Expr]:
        """Ground truth and agent of the rollout before those of the inputs; the Gym row of the inputs, unless it lacks the agent, else that of the rollout."""
        chosen = []
        if "ground_truth" in names:
            missing = pl.col("ground_truth").is_null()
            chosen += [pl.when(missing).then(f"{name}_input").otherwise(name).alias(name) for name in _TRUTH]
        if "agent_name" in names:
            chosen.append(pl.coalesce("agent_name", "agent_name_input"))
        if "gym_row" in names:
            whole = pl.col("gym_row_input").is_not_null() & (pl.col("agent_name_input").is_not_null() | pl.col("agent_name").is_null())
            agent = pl.struct(pl.col("agent_name_input").alias("name")).struct.json_encode()
            row = pl.col("gym_row")
            lent = pl.concat_str(pl.lit('{"agent_ref":'), agent, pl.lit(","), row.str.strip_prefix("{"))
            lacking = pl.col("agent_name").is_null() & pl.col("agent_name_input").is_not_null()
            chosen.append(pl.when(whole).then("gym_row_input").when(lacking).then(lent).otherwise(row).alias("gym_row"))
        return chosen


def _table(sidecars: tuple[tuple[str, str], ...], style: Style, lookup: Lookup, names: tuple[str, ...]) -> _Table:
    """The values of the inputs for `names`. `sidecars` are sources, each with its inputs."""
    from rollout_etl.read.scan import Rollouts

    inputs = Rollouts(list(dict.fromkeys(path for _, path in sidecars)), style=style, lookup=lookup)
    wanted = list(dict.fromkeys([*KEYS, *names, "ground_truth", *(["extra"] if "gym_row" in names else [])]))
    empty = pl.DataFrame(schema={name: SCHEMA.get(name) or RECORDED[name].dtype for name in wanted})
    table = pl.concat([empty, *inputs.batches(wanted)]).rename({"source": "inputs"})
    if "ground_truth_origin" in names:
        table = table.with_columns(ground_truth_origin=pl.format("task_inputs.{}", "ground_truth_origin"))
    # Repeats of a task differ in what the run adds to each, and in how answers are drawn.
    rest = pl.col("extra").str.replace_all(_ADDED_BY_RUNS, "").hash() if "extra" in wanted else pl.lit(0, dtype=pl.UInt64)
    # The first of repeated inputs that has a value.
    table = table.with_columns(rest=rest).sort(pl.col("ground_truth").is_null(), maintain_order=True)
    # A folder or a pattern means its files.
    files = {path: [item.path for item in find_inputs(path)[0]] for path in dict.fromkeys(path for _, path in sidecars)}
    looked_in = [(source, file) for source, path in sidecars for file in files[path]]
    sources = pl.DataFrame(looked_in, schema={"source": pl.String, "inputs": pl.String}, orient="row")
    table = table.join(sources, on="inputs", maintain_order="left").drop("inputs")
    return _Table(table.select(names), Matcher(table.select(*KEYS, "ground_truth", "rest")))
