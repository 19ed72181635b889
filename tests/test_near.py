"""Near-duplicates against exact similarities of all pairs."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rollout_etl
from rollout_etl import Curation, SftOptions
from rollout_etl.curate.near import Rows, band_rows, near_copies, without_near_copies
from rollout_etl.errors import UsageError
from tests.oracle.curation import words


def shingles(text: str | None) -> set[tuple[str, ...]]:
    own = words(text)
    return {tuple(own[i : i + 3]) for i in range(len(own) - 2)} or ({tuple(own)} if own else set())


def exact(texts: list[str | None], groups: list[int], threshold: float) -> list[int]:
    """All members of clusters but the first."""
    cluster = list(range(len(texts)))
    sets = [shingles(text) for text in texts]
    for a, b in combinations(range(len(texts)), 2):
        together = sets[a] | sets[b]
        if groups[a] == groups[b] and together and len(sets[a] & sets[b]) / len(together) >= threshold - 1e-9:
            old, new = max(cluster[a], cluster[b]), min(cluster[a], cluster[b])
            cluster = [new if one == old else one for one in cluster]
    return [number for number, first in enumerate(cluster) if first != number]


def found(texts: list[str | None], groups: list[int], threshold: float) -> list[int]:
    def fetch(rows: Rows) -> Iterator[pl.DataFrame]:
        for part in np.array_split(rows, 3):
            yield pl.DataFrame({"index": part, "text": [texts[row] for row in part]}, schema={"index": pl.Int64, "text": pl.String})

    return near_copies(np.arange(len(texts)), pl.Series(groups, dtype=pl.Int64), fetch, threshold).tolist()


def test_families() -> None:
    rng = random.Random(3)
    texts: list[str | None] = []
    for _ in range(60):
        original = rng.choices([f"w{number}" for number in range(500)], k=rng.randint(5, 60))
        for _ in range(rng.randint(1, 5)):
            changed = rng.random() * 0.12
            texts.append(" ".join(rng.choice("xyz") if rng.random() < changed else word for word in original))
    rng.shuffle(texts)
    groups = [number % 2 for number in range(len(texts))]
    for threshold in (0.5, 0.8, 1.0):
        wanted, got = set(exact(texts, groups, threshold)), set(found(texts, groups, threshold))
        assert got <= wanted and len(got) >= 0.95 * len(wanted) > 0


@settings(max_examples=15, deadline=None, derandomize=True)
@given(texts=st.lists(st.sampled_from(("a b c d", "A, b c d!", "a b c e", "", None, "a", "x", "!?", "a b c d e f g h i j", "春眠不覚暁処処聞", "春眠不覚暁、処処聞")), max_size=8))
def test_copies_and_texts_without_words(texts: list[str | None]) -> None:
    assert found(texts, [0] * len(texts), 1.0) == exact(texts, [0] * len(texts), 1.0)


def test_copies_in_scripts_without_spaces() -> None:
    text = "小明有五个苹果他吃了两个又买了三个请问他现在一共有几个苹果"
    texts: list[str | None] = [text, text + "呢", text[::-1], "りんごが五個あります"]
    assert found(texts, [0] * 4, 0.8) == exact(texts, [0] * 4, 0.8) == [1]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.9, 0.95])
def test_bands_find_what_is_as_alike_as_the_threshold(threshold: float) -> None:
    rows = band_rows(threshold)
    assert 126 % rows == 0
    assert 1 - (1 - threshold**rows) ** (126 // rows) >= 0.99 or rows == 1


def rollout(task: int, attempt: int, question: str, answer: str) -> dict[str, Any]:
    output = [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": answer}]}]
    return {
        "responses_create_params": {"input": [{"role": "user", "content": question}]}, "response": {"output": output}, "reward": 1.0,
        "_ng_task_index": task, "_ng_rollout_index": attempt,
    }


def test_runs(tmp_path: Path) -> None:
    long = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty"
    rows = [rollout(0, 0, "q " + long, long + " first"), rollout(0, 1, "q " + long, long + " second"), rollout(0, 2, "q " + long, "else")]
    rows += [rollout(1, 0, "q " + long + " more", long + " first"), rollout(2, 0, "another question", "else")]
    path = tmp_path / "rollouts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = SftOptions()
    responses = rollout_etl.write(path, tmp_path / "a.jsonl", recipe="sft", options=options, curation=Curation(dedup=("near-response",)), config=False)
    assert responses["rollouts"]["dropped"] == {"near_response": 1}
    prompts = rollout_etl.write(path, tmp_path / "b.jsonl", recipe="sft", options=options, curation=Curation(dedup=("near-prompt",)), config=False)
    assert prompts["rollouts"]["dropped"]["near_prompt"] in (1, 3)
    lazy = rollout_etl.scan_rollouts(path)
    assert without_near_copies(lazy).collect()["row"].to_list() == [0, 2, 3, 4]


def test_error() -> None:
    with pytest.raises(UsageError, match=r"from 0\.3 to 1"):
        Curation(near=0.1)


def test_near_prompts_are_on_one_side(tmp_path: Path) -> None:
    """Thirty prompts, each asked in two nearly equal ways: whatever the recipe, both ways are in one part, and by hash alone some are not."""
    words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu", "xi", "omicron", "pi", "rho", "sigma", "tau", "upsilon"]
    rows = []
    for number in range(30):
        for way in range(2):
            question = " ".join([f"topic{number}", *words[number % 10 :], f"topic{number}", *words, *(["please"] if way else [])])
            rows += [rollout(number * 2 + way, attempt, question, f"{way} {attempt}") | {"reward": float(attempt)} for attempt in range(2)]
    path = tmp_path / "rollouts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    apart = {}
    for name, recipe, together in (("hash", "sft", False), ("near", "sft", True), ("pairs", "dpo", True)):
        curation = Curation(split="train=0.5,val=0.5", split_near=together)
        rollout_etl.write(path, tmp_path / f"{name}.jsonl", recipe=recipe, curation=curation, config=False, options=SftOptions() if recipe == "sft" else None)
        sides = [{text for text in (tmp_path / file).read_text().split() if "topic" in text} for file in (f"{name}.jsonl", f"{name}.val.jsonl")]
        found = [{re.findall(r"topic\d+", text)[0] for text in side} for side in sides]
        apart[name] = len(found[0] & found[1])
        assert len(found[0] | found[1]) == 30
    assert apart["hash"] > 0
    assert (apart["near"], apart["pairs"]) == (0, 0)
