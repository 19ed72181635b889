"""The options of curation, named as on the command line: one dataclass, checked when it is made."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from rollout_etl.errors import UsageError
from rollout_etl.option_values import check_values

DEDUPS = ("rollout", "response", "prompt", "near-response", "near-prompt")
"""Kinds of copies: see `rollout_etl.curate.dedup` and `rollout_etl.curate.near`."""


@dataclass(frozen=True, kw_only=True)
class Curation:
    """Which rollouts are used, and which part of a split they go to. Every field is an option of every recipe."""

    where: str | None = None
    """Condition on a rollout, over canonical columns and `metrics.NAME`."""
    where_group: str | None = None
    """Condition on a group, over `rollout_etl.curate.groups.STATISTICS`."""
    success: float = 0.5
    """Smallest reward that counts as a success of a group."""
    dedup: tuple[str, ...] = ()
    """Kinds of copies to drop, from `DEDUPS`."""
    near: float = 0.8
    """Jaccard similarity of word 3-grams at or above which two texts are near-copies."""
    exclude_prompts: str | None = None
    """File of prompts that must not be trained on."""
    exclude_ngram: int = 13
    """A prompt that shares this many consecutive words with an excluded one is excluded too; 0: equal texts only."""
    select: str = "all"
    """Which rollouts of a group to use: `all`, `best`, `best-n=N`, `shortest-correct`, `first-correct`."""
    per_group: int | None = None
    """At most this many rollouts of a group, the first in the order of `select`."""
    cap: tuple[str, ...] = ()
    """`COLUMN=N`: at most N examples for each value of a column."""
    mix: str | None = None
    """`NAME=SHARE,...`: shares of the examples by `task_name`."""
    upsample: bool = False
    """Reach the shares of `mix` by repeating examples instead of dropping some."""
    sample: str | None = None
    """How many examples to draw: `N` or `P%`."""
    evenly: bool = False
    """Draw equally from each reward, or from each fifth of the rewards if there are more than five."""
    shuffle: int | None = None
    """Seed for shuffling the examples; None: input order."""
    split: str | None = None
    """`train=0.9,val=0.05,...`: shares of the prompts."""
    stratify: bool = False
    """Split each task separately, with exact shares; prompts can then change parts when data grows."""
    split_near: bool = False
    """Keep near-duplicate prompts (see `near`) in the same part; a prompt can change parts when a new one links it to others."""
    reward: str | None = None
    """The reward as an expression over metrics and the recorded `reward`."""
    reward_scale: tuple[str, ...] = ()
    """`A,B:C,D` or `NAME=A,B:C,D`: maps rewards from A..B to C..D, for all sources or for one."""
    advantage: Literal["grpo", "rloo", "max-rl"] | None = None
    """Formula of the column `advantage`."""
    tokenizer: str | None = None
    """File of a tokenizer, folder that holds one, or name on the Hugging Face hub."""
    max_tokens: int | None = None
    """Rollouts with more tokens are dropped."""

    def __post_init__(self) -> None:
        check_values(self)
        for name in self.dedup:
            if name not in DEDUPS:
                raise UsageError(f"--dedup {name} is unknown; it is one of {', '.join(DEDUPS)}")
        if not 0.3 <= self.near <= 1:
            raise UsageError(f"--near {self.near:g} must be from 0.3 to 1")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise UsageError("--max-tokens must be at least 1")
        if (self.max_tokens is None) != (self.tokenizer is None):
            raise UsageError("--tokenizer and --max-tokens go together")
        if self.per_group is not None and self.per_group < 1:
            raise UsageError("--per-group must be at least 1")
        if self.exclude_ngram < 0:
            raise UsageError("--exclude-ngram must be 0 or more")
        if self.upsample and self.mix is None:
            raise UsageError("--upsample is for --mix")
        for name in ("stratify", "split_near"):
            if getattr(self, name) and self.split is None:
                raise UsageError(f"--{name.replace('_', '-')} is for --val and --split")
        if self.evenly and self.sample is None:
            raise UsageError("--evenly is for --sample")
        self._check_texts()

    def _check_texts(self) -> None:
        """Parse the options that have a syntax of their own before anything is read."""
        from rollout_etl.curate import balance, conditions, groups, rewards, select, split

        if self.where is not None:
            conditions.condition(self.where)
        if self.where_group is not None:
            groups.group_condition(self.where_group)
        if self.reward is not None:
            rewards.formula(self.reward)
        rewards.scales(self.reward_scale)
        select.order_of(self.select, self.per_group)
        balance.caps(self.cap)
        balance.shares(self.mix)
        balance.sample_size(self.sample)
        split.parts(self.split)

    def to_json(self) -> dict[str, Any]:
        """The options that differ from the defaults, for the manifest."""
        return {
            f.name: list(value) if isinstance(value, tuple) else value for f in fields(self) if (value := getattr(self, f.name)) != f.default
        }


def check_options(**given: Any) -> None:
    """Raise `UsageError` for options that `Curation` refuses."""
    Curation(**given)
