"""Reward arithmetic: advantages, formulas over metrics, other scales."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout_etl.curate import rewards
from rollout_etl.errors import UsageError
from tests.narrow_rows import QUICK, frame, rollouts
from tests.oracle import curation as plain


@QUICK
@given(rows=rollouts(), kind=st.sampled_from(("grpo", "rloo", "max-rl")))
def test_advantages(rows: list[dict[str, Any]], kind: Any) -> None:
    found = rewards.with_advantage(frame(rows).lazy(), kind).collect()
    by_row = dict(zip(found["row"], found["advantage"], strict=True))
    for group in plain.groups_of(rows):
        wanted = plain.advantage([row["reward"] for row in group], kind)
        assert [by_row[row["row"]] for row in group] == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("kind", ["GRPO", "rlo", None])
def test_an_advantage_that_there_is_not(kind: Any) -> None:
    with pytest.raises(UsageError, match="it is one of grpo, rloo, max-rl"):
        rewards.with_advantage(frame([]).lazy(), kind)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("0.5*correct + 0.5*style", [0.75, None]),
        ("metrics.correct * 2 - reward", [1.0, 2.0]),
        ("case when correct < 0.5 then 0.3 * reward else reward end", [1.0, 0.0]),
        ("2 * correct * style / (correct + style)", [2 / 3, None]),
        ("reward / 0", [None, None]),
        ('"my-style"', [0.25, None]),
        ('"metrics.my-style" * 2', [0.5, None]),
        ('greatest(metrics."my-style", correct)', [1.0, None]),
    ],
)
def test_formulas(text: str, wanted: list[float | None]) -> None:
    metrics = ['{"correct":1,"style":0.5,"my-style":0.25}', '{"correct":1,"styles":3}']
    table = pl.LazyFrame({"reward": [1.0, 0.0], "is_nonfinite": [False, False], "task_name": ["a", "b"], "metrics": metrics})
    assert rewards.rescored(table, text).collect()["reward"].to_list() == pytest.approx(wanted)


def test_scales_clamp_and_count() -> None:
    table = pl.LazyFrame({"reward": [0.0, 5.0, 12.0, None, 0.25], "is_nonfinite": [False] * 5, "task_name": ["a", "a", "a", "a", None], "metrics": ["{}"] * 5})
    found = rewards.rescored(table, None, ("a=0,10:-1,1", "0,1:0,2")).collect()
    assert found["reward"].to_list() == [-1.0, 0.0, 1.0, None, 0.5]
    assert found["is_clamped"].to_list() == [False, False, True, False, False]


def test_weights_that_do_not_sum_to_1() -> None:
    assert "sum to 0.9" in str(rewards.weights_warning("0.6*correctness + 0.3*efficiency"))
    assert rewards.weights_warning("0.6*correctness + 0.4*efficiency") is None
    assert rewards.weights_warning("case when a < 0.5 then 0.3 * b else b end") is None
