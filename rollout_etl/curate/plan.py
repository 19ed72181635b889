"""The steps of a curation in their order, each named and counted: first those on rollouts, then those on examples.

Every step is a function from LazyFrame to LazyFrame over narrow columns, so that memory grows with the number of rollouts and not
with their size. Anything that depends on texts is computed batch by batch, as columns that rules use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import polars as pl

from rollout_etl.curate import balance, dedup, groups, near, order, select, split, tokens
from rollout_etl.curate.conditions import condition, source_columns, with_metrics
from rollout_etl.curate.decontaminate import Excluded
from rollout_etl.curate.options import Curation
from rollout_etl.curate.rules import Rule


@dataclass(frozen=True)
class Step:
    """A named step that drops rollouts or examples."""

    name: str
    """The name under which dropped rollouts or examples are counted."""
    apply: Callable[[pl.LazyFrame], pl.LazyFrame]
    columns: Sequence[str] = ()
    """Canonical columns that it uses."""


@dataclass(frozen=True)
class Derived:
    """Columns that rules use besides canonical ones, computed batch by batch."""

    gives: Sequence[str]
    columns: Sequence[str]
    """Canonical columns that they are computed from."""
    add: Callable[[pl.DataFrame], pl.DataFrame]
    rate: Callable[[], str] | None = None
    """Reports how fast that was, once everything is done."""


def where_rules(curation: Curation) -> tuple[list[Rule], list[Derived]]:
    """The rule for `--where`, checked after those of the recipe."""
    if curation.where is None:
        return [], []
    wanted = condition(curation.where)
    metrics = [name for name in dict.fromkeys(wanted.meta.root_names()) if name.startswith("metrics.")]
    derived = [Derived(metrics, source_columns(metrics), partial(with_metrics, names=metrics))] if metrics else []
    return [Rule("where", ~wanted.fill_null(False), f"not {curation.where}")], derived


def text_rules(curation: Curation) -> tuple[list[Rule], list[Derived]]:
    """Rules that need texts, so they are only checked on rollouts that no other rule drops."""
    rules, derived = [], []
    if curation.exclude_prompts is not None:
        excluded = Excluded.read(curation.exclude_prompts, curation.exclude_ngram)
        derived.append(Derived(("is_excluded",), ("prompt_text",), excluded.marked))
        rules.append(Rule("excluded_prompt", pl.col("is_excluded"), f"the prompt is, or shares words with, one of {curation.exclude_prompts}"))
    if curation.tokenizer is not None and curation.max_tokens is not None:
        counter = tokens.TokenCounter.load(curation.tokenizer)
        derived.append(Derived(("num_tokens",), tokens.COLUMNS, counter.counted, counter.rate))
        rules.append(Rule("too_long", pl.col("num_tokens") > curation.max_tokens, f"more than {curation.max_tokens} tokens"))
    return rules, derived


Texts = Callable[[near.Rows, str], Iterable[pl.DataFrame]]
"""Returns `row` and a column of texts for sorted rows, to find near-copies."""


def _nothing(rows: near.Rows, column: str) -> Iterable[pl.DataFrame]:
    return ()


def rollout_steps(curation: Curation, votes: Callable[[], pl.LazyFrame] = pl.LazyFrame, texts: Texts = _nothing) -> list[Step]:
    """The steps on rollouts after the rules. `votes` returns the rewards that count for groups (columns `GROUP` and `reward`)."""
    steps = []
    if curation.where_group is not None:
        text, success = curation.where_group, curation.success
        steps.append(Step("where_group", lambda frame: groups.where_group(frame, text, votes(), success), (*groups.GROUP, "reward")))
    for of in curation.dedup:
        if of in near.TEXTS:
            kept = partial(near.chosen_without_near_copies, of=of, fetch=texts, threshold=curation.near)
            steps.append(Step(of.replace("-", "_"), lambda frame, kept=kept: frame.map_batches(kept), ("row", *dedup.COLUMNS)))  # type: ignore[misc]
        else:
            steps.append(Step(f"duplicate_{of}", partial(dedup.without_copies, of=of), dedup.COLUMNS))
    if curation.select != "all" or curation.per_group is not None:
        chosen = partial(select.selected, select=curation.select, per_group=curation.per_group, success=curation.success)
        steps.append(Step("not_selected", chosen, select.COLUMNS))
    return steps


def example_steps(curation: Curation) -> list[Step]:
    """The steps on examples, which have the column `order`."""
    steps = [Step(f"over_cap_{column}", partial(balance.cap, column=column, limit=limit), (column,)) for column, limit in balance.caps(curation.cap).items()]
    if curation.mix is not None:
        wanted = balance.shares(curation.mix)
        steps.append(Step("out_of_mix", partial(balance.mix, wanted=wanted, upsample=curation.upsample), (balance.SOURCE,)))
    if curation.sample is not None:
        drawn = partial(balance.sample, size=curation.sample, evenly=curation.evenly)
        steps.append(Step("not_sampled", drawn, ("reward",) if curation.evenly else ()))
    return steps


def narrow_columns(curation: Curation) -> list[str]:
    """Canonical columns that the steps need besides those that a recipe reads, each once."""
    steps = [*rollout_steps(curation), *example_steps(curation)]
    needed = [name for step in steps for name in step.columns]
    needed += (*order.KEYS, *order.PLACES) if example_steps(curation) else ()
    return list(dict.fromkeys([*needed, *placing_columns(curation)]))


def placing_columns(curation: Curation) -> list[str]:
    """Canonical columns that decide which part of a split an example is in, and its place in a shuffled order."""
    return [*(split.COLUMNS if curation.split is not None else ()), *(order.KEYS if curation.shuffle is not None else ())]


def looks_around(curation: Curation) -> bool:
    """Whether the choice of a rollout depends on others, so that all must be read before one is used."""
    return bool(rollout_steps(curation) or example_steps(curation) or splits_together(curation))


def compares_groups(curation: Curation) -> bool:
    """Whether the choice of a rollout depends on rollouts of other groups."""
    return curation.split_near or any(of != "response" for of in curation.dedup)


def splits_together(curation: Curation) -> bool:
    """Whether the part of an example depends on other examples."""
    return curation.stratify or curation.split_near


def numbered(examples: pl.DataFrame, seed: int, sides: Sequence[str] = ("",)) -> pl.Expr:
    """The number of an example, for `order` and `place`: that of its rollout, or for a pair of both rollouts. UInt64."""
    number = order.order(seed, sides[0])
    for side in sides[1:]:
        number = order.mixed(number ^ order.order(seed + 1, side))
    return order.mixed(number ^ pl.col("copy").cast(pl.UInt64)) if "copy" in examples.columns else number


def placed(examples: pl.DataFrame, curation: Curation, sides: Sequence[str] = ("",)) -> pl.DataFrame:
    """`examples` with `part`, their part of a split, and `place` in a shuffled order, if these are requested."""
    if curation.split is not None and "part" not in examples.columns:
        prefix = sides[0]
        keyed = examples.select(examples_key=pl.int_range(pl.len()), **{name: f"{prefix}{name}" for name in split.COLUMNS})
        parts = split.with_part(keyed.lazy(), curation.split, curation.stratify).collect()
        examples = examples.with_columns(parts["part"])
    return examples if curation.shuffle is None else examples.with_columns(place=numbered(examples, curation.shuffle, sides))
