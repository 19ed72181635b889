"""Finding the task inputs that a rollout was made from.

They are matched by `_ng_task_index` if both sides have it, else by prompt; inputs of the rollout's own agent come before those that name
none. If several inputs match, prompt and task fields decide among them. Values in which the remaining inputs differ are not used.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from rollout_etl.read.structure import TASK_FIELDS

KEYS = ("source", "task_index", "prompt_key", "agent_name", "task_fields")
"""Columns that rollouts and inputs are matched by."""
_OWN, _NAMELESS, _ALL = "own", "nameless", "all"
"""Inputs of the rollout's agent, those without an agent, and all of them."""
_FOUND: dict[str, pl.DataType | type[pl.DataType]] = {
    "truth_at": pl.UInt32, "agent_at": pl.UInt32, "row_at": pl.UInt32, "truth_differs": pl.Boolean, "row_differs": pl.Boolean,
}

_NOTHING = pl.DataFrame(schema={"rollout": pl.UInt32, **_FOUND})


class Matcher:
    """Finds inputs, given as a frame of `KEYS`, `ground_truth`, and `rest`, a hash of everything else that distinguishes tasks."""

    def __init__(self, inputs: pl.DataFrame) -> None:
        self._fields = [name for name in TASK_FIELDS if inputs["task_fields"].struct.field(name).null_count() < len(inputs)]
        self._inputs = inputs.with_row_index("at").unnest("task_fields")
        self._grouped: dict[tuple[str, bool, tuple[str, ...]], pl.DataFrame] = {}

    def matched(self, rollouts: pl.DataFrame) -> pl.DataFrame:
        """For each of `rollouts` (`KEYS`) the numbers of the inputs that give its ground truth, its agent and its Gym row.

        `truth_differs` and `row_differs` say that several matching inputs give different values.
        """
        left = rollouts.with_row_index("rollout").unnest("task_fields")
        found = []
        for match in (self._by_index, self._by_prompt):
            for of in (_OWN, _NAMELESS, _ALL):
                found.append(match(left.filter(pl.col("agent_name").is_null() == (of == _ALL)), of))
                left = left.join(found[-1], on="rollout", how="anti")
        numbers = pl.DataFrame({"rollout": pl.int_range(len(rollouts), dtype=pl.UInt32, eager=True)})
        return numbers.join(pl.concat(found), on="rollout", how="left", maintain_order="left")

    def _by_index(self, asked: pl.DataFrame, of: str) -> pl.DataFrame:
        """Inputs by index. If those with the same index differ, prompt and task fields decide among them."""
        on = ["source", "task_index"]
        first = self._joined(asked, of, False, on)
        unsure = asked.join(first.filter(pl.col("truth_differs") | pl.col("row_differs")).select("rollout"), on="rollout", how="semi")
        if unsure.is_empty():
            return first
        second = self._told_apart(unsure, of, False, [*on, "prompt_key"])
        return pl.concat([first.join(second, on="rollout", how="anti"), second])

    def _by_prompt(self, asked: pl.DataFrame, of: str) -> pl.DataFrame:
        """If the inputs have the index too, it takes precedence over the prompt."""
        has_index, on = pl.col("task_index").is_not_null(), ["source", "prompt_key"]
        return pl.concat([self._told_apart(asked.filter(has_index), of, True, on), self._told_apart(asked.filter(~has_index), of, False, on)])

    def _told_apart(self, asked: pl.DataFrame, of: str, bare: bool, on: list[str]) -> pl.DataFrame:
        """Inputs that agree with each rollout in every task field that it has and that inputs can have."""
        has = pl.concat_str(pl.lit(""), *(pl.when(pl.col(name).is_not_null()).then(pl.lit(f"{name},")).otherwise(pl.lit("")) for name in self._fields))
        parts = asked.with_columns(has=has).partition_by("has", as_dict=True, include_key=False)
        return pl.concat([_NOTHING, *(self._joined(part, of, bare, [*on, *str(names).split(",")[:-1]]) for (names,), part in parts.items())])

    def _joined(self, asked: pl.DataFrame, of: str, bare: bool, on: Sequence[str]) -> pl.DataFrame:
        """The rollouts that have inputs. `bare`: only among inputs without an index."""
        if asked.is_empty():
            return _NOTHING
        on = (*on, "agent_name") if of == _OWN else tuple(on)
        if (of, bare, on) not in self._grouped:
            self._grouped[of, bare, on] = self._agreed(of, bare, on)
        return asked.select("rollout", *on).join(self._grouped[of, bare, on], on=on, how="inner", maintain_order="left").select("rollout", *_FOUND)

    def _agreed(self, of: str, bare: bool, on: Sequence[str]) -> pl.DataFrame:
        """Inputs with the same `on`, and the values on which they agree."""
        inputs = self._inputs.filter(pl.col("agent_name").is_null()) if of == _NAMELESS else self._inputs
        inputs = inputs.filter(pl.col("task_index").is_null()) if bare else inputs
        at, truth, agent = pl.col("at"), pl.col("ground_truth"), pl.col("agent_name")
        # If a task occurs again without ground truth, that is not a different ground truth.
        truths = pl.when(pl.col("prompt_key").n_unique() > 1).then(truth.n_unique()).otherwise(truth.drop_nulls().n_unique())
        agents = agent.drop_nulls().n_unique()
        rows = pl.struct("prompt_key", "agent_name", "rest").n_unique()
        return inputs.drop_nulls(on).group_by(on).agg(
            truth_at=pl.when(truths < 2).then(at.filter(truth.is_not_null()).first()),
            agent_at=pl.when(agents < 2).then(at.filter(agent.is_not_null()).first()),
            row_at=pl.when(rows < 2).then(at.first()),
            truth_differs=truths > 1,
            row_differs=rows > 1,
        )
