"""Narrow rows of random rollouts, for what is decided before anything is read in full."""

from __future__ import annotations

from typing import Any

import polars as pl
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from rollout_etl.read.schema import SCHEMA

QUICK = settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
KEYS = [f"{number:032x}" for number in (7, 1 << 90, (1 << 128) - 1, 12345678901234567890123456789)]
SHARES = [0.883311, 0.539868, 0.439321, 0.591127]
COLUMNS = (
    "row", "source", "line", "task_name", "agent_name", "task_key", "prompt_key", "messages_key", "attempt", "reward", "completion_key",
    "response_key", "completion_chars", "prompt_text",
)


@st.composite
def rollouts(draw: st.DrawFn, max_size: int = 24) -> list[dict[str, Any]]:
    """Narrow rows of few groups, with few different rewards and contents, so that they often tie."""
    rows = []
    for number in range(draw(st.integers(0, max_size))):
        prompt = draw(st.sampled_from(KEYS))
        rows.append(
            {
                "row": number, "source": "a.jsonl", "line": number + 1, "task_name": draw(st.sampled_from(("math", "code", None))), "agent_name": "agent",
                "task_key": draw(st.sampled_from(KEYS[:2])), "prompt_key": prompt, "messages_key": prompt[::-1],
                "attempt": draw(st.none() | st.integers(0, 3)), "reward": draw(st.sampled_from((0.0, 0.25, 0.5, 0.75, 1.0, -1.0, 0.9999999999999998))),
                "completion_key": draw(st.integers(0, 3)), "response_key": draw(st.integers(0, 2)), "completion_chars": draw(st.integers(0, 9)),
                "prompt_text": draw(st.sampled_from(("What is 2 + 2?", "what is 2+2", "a b c d", "x a b c y", "", None))),
            }
        )
    return rows


def frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={name: SCHEMA[name] for name in COLUMNS})


def rows_left(lazy: pl.LazyFrame) -> list[int]:
    return lazy.collect()["row"].to_list()
