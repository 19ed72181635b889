"""From the input to the rollouts that are used: read, rescore, judge by rules, choose by the steps of curation, and count."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import polars as pl

from rollout_etl import named_fields
from rollout_etl.curate import near, plan, rewards, split
from rollout_etl.curate.groups import GROUP, group_table
from rollout_etl.curate.options import Curation
from rollout_etl.curate.rules import RULES, SOUND, Rule, columns_of, verdict
from rollout_etl.read.inputs import Input
from rollout_etl.read.scan import Rollouts
from rollout_etl.read.schema import RECORDED, SCHEMA
from rollout_etl.run.report import Report
from rollout_etl.run.stretches import as_they_come, rows_of, stretches

TIED = pl.len().over(*GROUP, "reward", "attempt") > 1
"""Rollouts of a group that differ only in their content."""
LEFT_OUT = {"encrypted": "num_encrypted", "empty": "num_empty", "unknown": "num_unknown"}
_COUNTED = ("shape", *LEFT_OUT.values())
_SOUND = [RULES[name] for name in SOUND]
_STRETCH_BYTES = 1 << 25
"""Bytes of lines whose pairs are written at a time, while the next ones are made."""


class Judge:
    """Reads rollouts and decides which are used, counting in one report."""

    def __init__(self, rollouts: Rollouts, curation: Curation, report: Report) -> None:
        self.rollouts, self.curation, self.report = rollouts, curation, report
        self._rescores = curation.reward is not None or bool(curation.reward_scale)
        self._rewards: list[pl.DataFrame] | None = [] if curation.where_group is not None else None

    def over(self, inputs: Sequence[Input]) -> Judge:
        """A judge for some of the inputs, or ranges of them, with a report of its own."""
        # Share these: benchmarks and tokenizers are loaded only once.
        _ = self._text_rules
        part = copy.copy(self)
        part._rewards = None
        part.rollouts, part.report = self.rollouts.over(inputs), Report("", "", [], {})
        return part

    @cached_property
    def _text_rules(self) -> tuple[list[Rule], list[plan.Derived]]:
        return plan.text_rules(self.curation)

    def read(self, columns: Sequence[str], rows: np.ndarray | None = None, min_reward: float | None = None) -> Iterator[pl.DataFrame]:
        """Frames of canonical columns, with rewards computed as the options say (see `Rollouts.batches`)."""
        if not self._rescores or not {"reward", "is_nonfinite"} & set(columns):
            yield from self.rollouts.batches(columns, rows=rows, min_reward=None if self._rescores else min_reward)
            return
        recorded = [name for name in columns if name != rewards.CLAMPED]
        for frame in self.rollouts.batches(list(dict.fromkeys([*recorded, *rewards.RESCORED_FROM])), rows=rows):
            yield rewards.rescored(frame.lazy(), self.curation.reward, self.curation.reward_scale).collect().select(columns)

    def decides_apart(self, rules: Sequence[Rule]) -> bool:
        """Whether rollouts can be judged without reading lines."""
        if self.curation.exclude_prompts is not None or self.curation.tokenizer is not None:
            return False
        where, derived = plan.where_rules(self.curation)
        return self.rollouts.holds(name for name in self._wanted(["row"], [*rules, *where], derived) if name != rewards.CLAMPED)

    def _wanted(self, columns: Sequence[str], rules: Sequence[Rule], derived: Sequence[plan.Derived]) -> list[str]:
        """Columns that are read to judge rollouts and to return `columns` of them, each once."""
        given = {name for one in derived for name in one.gives}
        wanted = [*columns, *(name for name in columns_of(rules) if name not in given), *_COUNTED, *(name for one in derived for name in one.columns)]
        wanted += [] if self._rewards is None else [*GROUP, "reward", *columns_of(_SOUND)]
        wanted += [*rewards.RESCORED_FROM, rewards.CLAMPED] if self._rescores else []
        return list(dict.fromkeys(wanted))

    def judged(self, rules: Sequence[Rule], columns: Sequence[str], min_reward: float | None = None) -> Iterator[pl.DataFrame]:
        """Reads and counts every rollout once; returns those that no rule drops, with `columns`."""
        where, derived = plan.where_rules(self.curation)
        texts, from_texts = self._text_rules
        asked, named = [*rules, *where], named_fields.of_curation(self.curation)
        for frame in self.read(self._wanted([*columns, *(["row"] if texts else [])], [*asked, *texts], [*derived, *from_texts]), min_reward=min_reward):
            if self._rescores:
                self.report.clamped += int(frame[rewards.CLAMPED].sum())
            if self._rewards is not None:
                self._rewards.append(frame.filter(verdict(_SOUND).is_null()).select(*GROUP, "reward"))
            self.report.held.update(named_fields.count(frame, named))
            for one in derived:
                frame = one.add(frame)
            judged = frame.with_columns(verdict(asked))
            if texts:
                judged = _asked_again(judged, texts, from_texts)
            self.report.count_rollouts(judged)
            for shape, count in judged["shape"].value_counts().iter_rows():
                self.report.shapes[shape] += count
            for name, column in LEFT_OUT.items():
                self.report.left_out[name] += int(judged[column].sum())
            yield judged.filter(pl.col("rule").is_null()).select(columns)
        self.report.remarks += [one.rate() for one in from_texts if one.rate is not None]
        assert self.rollouts.account is not None
        self.report.count_lines(self.rollouts.account)

    def chosen(self, rules: Sequence[Rule], columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """The rollouts that are used, with narrow `columns` and those of the curation: as frames of whole groups, here a single one."""
        # Content breaks few ties and costs a hash of the texts, so it is only looked up for those ties, unless steps need it for all.
        late = self._is_content_late(columns)
        cheap = [name for name in dict.fromkeys([*columns, *plan.narrow_columns(self.curation)]) if name != "completion_key" or not late]
        narrow = self.stepped(pl.concat([empty(cheap), *self.judged(rules, cheap)]))
        yield self._with_content(narrow) if late else narrow

    def glimpsed(self, rules: Sequence[Rule], columns: Sequence[str]) -> Iterator[pl.DataFrame] | None:
        """The frames of `chosen`, for inspecting all of them before they are counted; None if there is only one."""
        return None

    def stepped(self, narrow: pl.DataFrame, counted: bool = True) -> pl.DataFrame:
        """The rollouts of a frame of `chosen` that the steps of curation keep; the others are counted."""
        for step in plan.rollout_steps(self.curation, lambda: self._votes, self._texts):
            left = step.apply(narrow.lazy()).collect()
            if counted:
                self._count_dropped(step.name, len(narrow) - len(left))
            narrow = left
        return near.with_shared_keys(narrow, split.KEY, self._texts, self.curation.near) if self.curation.split_near else narrow

    def fetched(self, columns: Sequence[str], rows: np.ndarray) -> Iterator[pl.DataFrame]:
        """Frames of canonical columns for some rollouts (sorted row numbers), in their order."""
        return self.read(columns, rows)

    def together(self, columns: Sequence[str], pairs: pl.DataFrame, sizes: pl.Series) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
        """Stretches of `pairs` (columns `chosen_row`, `rejected_row`) in order, each with canonical columns of its rollouts.

        `sizes` are the bytes of the lines of each pair.
        """
        parts = stretches(pairs, sizes, _STRETCH_BYTES)
        if not self.rollouts.holds(["row"]):
            yield from as_they_come(parts, self.read(columns, rows_of(pairs)))
            return
        # If lines are read by offset, a stretch costs only its own lines.
        for stretch in parts:
            yield stretch, pl.concat(list(self.read(columns, rows_of(stretch))))

    def _texts(self, rows: near.Rows, column: str) -> Iterator[pl.DataFrame]:
        """`row` and a column of texts, for sorted rows."""
        return self.read(("row", column), rows)

    def _count_dropped(self, name: str, count: int) -> None:
        if count:
            self.report.dropped[name] += count
            self.report.kept -= count

    def _is_content_late(self, columns: Sequence[str]) -> bool:
        """Whether `completion_key` is needed only for rollouts that tie."""
        return "completion_key" in columns and "completion_key" not in plan.narrow_columns(self.curation)

    def _with_content(self, narrow: pl.DataFrame) -> pl.DataFrame:
        """`narrow` with `completion_key` for rollouts of a group that tie in reward and attempt, null for others."""
        tied = narrow.filter(TIED)["row"]
        if tied.is_empty():
            return narrow.with_columns(completion_key=pl.lit(None, dtype=pl.UInt64))
        keys = pl.concat(list(self.rollouts.batches(("row", "completion_key"), rows=tied.to_numpy())))
        return narrow.join(keys, on="row", how="left", maintain_order="left")

    @property
    def _votes(self) -> pl.LazyFrame:
        assert self._rewards is not None
        return pl.concat([empty((*GROUP, "reward")), *self._rewards]).lazy()

    @cached_property
    def statistics(self) -> pl.DataFrame:
        """Statistics of all groups; takes one more pass over keys and rewards if no pass has gathered them."""
        if self._rewards is None:
            self._rewards = list(self.voting())
        return group_table(self._votes, self.curation.success).collect()

    def voting(self) -> Iterator[pl.DataFrame]:
        """Keys and rewards of the rollouts that count for their groups: one pass over everything."""
        for frame in self.read(list(dict.fromkeys([*GROUP, "reward", *columns_of(_SOUND)]))):
            yield frame.filter(verdict(_SOUND).is_null()).select(*GROUP, "reward")


def _asked_again(judged: pl.DataFrame, rules: Sequence[Rule], derived: Sequence[plan.Derived]) -> pl.DataFrame:
    """`judged` after checking more rules on the rollouts that none has dropped."""
    dropped, left = judged.filter(pl.col("rule").is_not_null()), judged.filter(pl.col("rule").is_null())
    for one in derived:
        left = one.add(left)
    return pl.concat([dropped, left.with_columns(verdict(rules)).select(judged.columns)]).sort("row")


def empty(columns: Sequence[str]) -> pl.DataFrame:
    """An empty frame: inputs may hold no rollouts."""
    return pl.DataFrame(schema={name: SCHEMA.get(name) or RECORDED[name].dtype for name in columns})
