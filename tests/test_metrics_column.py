"""The column `metrics` is the same whether a row's fields were seen at the start of the scan or not."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout_etl.read.scan import Rollouts
from tests.oracle.reading import canonical

PLAIN = {"messages": [{"role": "user", "content": "q"}], "reward": 1.0}
NAMES = ("accuracy", "Accuracy", "f1", "response", "metadata", "agent_ref", "expected_answer", "task_id", "_hidden", "seed", "wéird", "a b", "x.y", "order", "label", "error")
VALUES = st.one_of(st.none(), st.booleans(), st.integers(-(10**25), 10**25), st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["7", "text", ""]), st.just({"a": 1}), st.just([1]))


def check(folder: Path, lines: list[str]) -> None:
    path = folder / "rollouts.jsonl"
    path.write_text("".join(line + "\n" for line in lines))
    rollouts = Rollouts(str(path))
    found = pl.concat(rollouts.batches(("line", "metrics")))
    for number, metrics in found.iter_rows():
        wanted = canonical(lines[number - 1].encode(), source=str(path), line_number=number, namespace="rollouts")
        assert wanted is not None
        assert metrics == wanted["metrics"], lines[number - 1]
    assert len(found) == len(lines)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6), min_size=1, max_size=30))
def test_random_fields(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, object]]) -> None:
    check(tmp_path_factory.mktemp("rollouts"), [json.dumps({**PLAIN, **row}) for row in rows])


@pytest.mark.parametrize(
    "late",
    ['"new": 0.5', '"accuracy": 0.5, "accuracy": 0.7', '"Accuracy": 0.5', '"accuracy": "0.5"', '"accuracy": true', '"response": 3', '"metadata": 3', '"accuracy": null', '"accuracy": 1e-7',
     '"accuracy": 12345678901234567890', '"accur\\u0061cy": 0.25', '"ACCURACY": 1, "accuracy": 0.5'],
)
def test_rows_unlike_the_first(tmp_path: Path, late: str) -> None:
    first = json.dumps({**PLAIN, "accuracy": 0.5, "metadata": {"a": 1}, "response": {"output": []}})
    check(tmp_path, [first] * 12 + [json.dumps(PLAIN)[:-1] + f", {late}}}"])


def test_many_fields(tmp_path: Path) -> None:
    check(tmp_path, [json.dumps({**PLAIN, **{f"metric_{number}": number for number in range(count)}}) for count in (100, 3, 0)])


@pytest.mark.parametrize("late", ['"new": 0.5', '"reward": 0.5', '"note": "text"', '"messages": 3'])
def test_rows_after_a_beginning_without_metrics(tmp_path: Path, late: str) -> None:
    plain = json.dumps(PLAIN)
    swapped = json.dumps(dict(reversed(PLAIN.items())))
    check(tmp_path, [plain] * 12 + [plain[:-1] + f", {late}}}", swapped, "{" + late + ", " + plain[1:]])
