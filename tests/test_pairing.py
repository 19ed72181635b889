"""Preference pairs by every strategy, against plain Python on random rollouts."""

from __future__ import annotations

from collections import Counter
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout_etl.recipes.options import DpoOptions
from rollout_etl.recipes.pairing import limits, pair_rollouts
from tests.narrow_rows import KEYS, QUICK, frame, rollouts
from tests.oracle import curation as plain

STRATEGIES = (
    "same_prompt", "best-worst", "best-second", "ranked", "adjacent", "all", "top-k-bottom-k", "best-vs-mean-minus-2-sigma", "random-negative", "stratified",
)


@QUICK
@pytest.mark.parametrize("strategy", STRATEGIES)
@given(rows=rollouts(), gap=st.sampled_from((0.0, 0.25, 0.5)), ties=st.sampled_from(("first", "shorter", "longer")), cross=st.booleans())
def test_strategies(strategy: Any, rows: list[dict[str, Any]], gap: float, ties: Any, cross: bool) -> None:
    options = DpoOptions(strategy=strategy, min_gap=gap, ties=ties, cross_prompt=cross and strategy == "stratified")
    pairs, combinations = pair_rollouts(frame(rows), options)
    wanted = plain.all_pairs(rows, options)
    found = list(pairs.select("chosen_row", "rejected_row").iter_rows())
    possible = [(a["row"], b["row"]) for a, b in wanted]
    if strategy == "random-negative":
        assert set(found) <= set(possible)
        assert Counter(a for a, _ in found) == Counter({a for a, _ in possible})
    else:
        assert found == sorted(possible)
    assert combinations == len(possible)
    by_row = {row["row"]: row for row in rows}
    for a, b, better, worse, apart, longer, shorter in pairs.select(
        "chosen_row", "rejected_row", "chosen_reward", "rejected_reward", "reward_gap", "chosen_chars", "rejected_chars"
    ).iter_rows():
        assert (by_row[a]["reward"], by_row[b]["reward"]) == (better, worse) and apart == better - worse
        assert (by_row[a]["completion_chars"], by_row[b]["completion_chars"]) == (longer, shorter)


@QUICK
@given(rows=rollouts(40), limit=st.integers(1, 6), uses=st.integers(1, 3), seed=st.integers(0, 3), strategy=st.sampled_from(("all", "top-k-bottom-k", "ranked", "adjacent")))
def test_limits_of_pairs(rows: list[dict[str, Any]], limit: int, uses: int, seed: int, strategy: Any) -> None:
    options = DpoOptions(strategy=strategy, pairs_per_group=limit, max_uses=uses, seed=seed, top_k=3)
    pairs, _ = pair_rollouts(frame(rows), options)
    by_row = {row["row"]: row for row in rows}
    group = {row["row"]: (row["task_key"], row["prompt_key"]) for row in rows}
    possible = Counter(group[a["row"]] for a, _ in plain.all_pairs(rows, options))
    assert pairs.select("chosen_row", "rejected_row").is_duplicated().sum() == 0
    assert Counter(group[row] for row in pairs["chosen_row"]) == {key: min(count, limit) for key, count in possible.items()}
    made = [(by_row[a], by_row[b]) for a, b in pairs.select("chosen_row", "rejected_row").iter_rows()]
    worn = pairs.filter("is_overused").select("chosen_row", "rejected_row").rows()
    assert sorted(worn) == sorted(plain.overused(made, uses))
    left = pairs.filter(~pl.col("is_overused"))
    assert max(Counter([*left["chosen_row"], *left["rejected_row"]]).values(), default=0) <= uses


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (DpoOptions(strategy="all", pairs_per_group=4), "--pairs-per-group 4, --seed 0"),
        (DpoOptions(strategy="all", max_pairs=9, seed=2), "--max-pairs 9, --seed 2"),
        (DpoOptions(strategy="all", pairs_per_group=4, max_pairs=9), "--pairs-per-group 4, --max-pairs 9, --seed 0"),
        (DpoOptions(strategy="random-negative"), "--strategy random-negative, --seed 0"),
        (DpoOptions(strategy="adjacent", pairs_per_group=1), "--pairs-per-group 1"),
    ],
)
def test_what_limited_the_pairs_is_named(options: DpoOptions, said: str) -> None:
    assert limits(options, 9) == said


def test_pairs_of_a_group_stay_when_other_groups_come() -> None:
    def group(prompt: str) -> list[dict[str, Any]]:
        return [{"task_key": KEYS[0], "prompt_key": prompt, "reward": i / 10, "attempt": i, "completion_key": i, "source": "a", "completion_chars": 1} for i in range(10)]

    def chosen(prompts: list[str]) -> set[tuple[float, float]]:
        rows = [{**row, "row": number, "line": number} for number, row in enumerate(row for prompt in prompts for row in group(prompt))]
        pairs, _ = pair_rollouts(pl.DataFrame(rows, schema_overrides={"completion_key": pl.UInt64}), DpoOptions(strategy="all", pairs_per_group=4, seed=5))
        first = [row["row"] for row in rows if row["prompt_key"] == KEYS[2]]
        return set(pairs.filter(pl.col("chosen_row").is_in(first)).select("chosen_reward", "rejected_reward").iter_rows())

    assert len(chosen([KEYS[2]])) == 4
    assert chosen([KEYS[2]]) == chosen([KEYS[0], KEYS[2], KEYS[3]])
