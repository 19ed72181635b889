"""The steps of curation, each against plain Python on random rollouts, and what must hold of each whatever the data."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollout_etl
from rollout_etl.curate import balance, dedup, order, select, split
from rollout_etl.curate.conditions import condition
from rollout_etl.curate.decontaminate import Excluded, without_prompts
from rollout_etl.curate.groups import group_table, where_group
from rollout_etl.errors import UnreadableError, UsageError
from rollout_etl.read.schema import SCHEMA
from tests.narrow_rows import KEYS, QUICK, SHARES, frame, rollouts, rows_left
from tests.oracle import curation as plain


@pytest.mark.parametrize(
    "text",
    [
        "task_name = 'count(*)'", "greatest(reward, 0.5) > 0.5", "reward in (0, 1)", "split_part(source, '/', 1) = 'a'", "coalesce(reward, 0) = 0",
        "case when reward > 0 then line > 1 else task_name like 'a%' end", "attempt % 2 = 0",
        'metrics."my-style" > 0.5', '"metrics.my-style" > 0.5',
    ],
)  # fmt: skip
def test_conditions_on_single_rows(text: str) -> None:
    assert set(condition(text).meta.root_names()) <= {*SCHEMA, "metrics.my-style"}


@QUICK
@given(rows=rollouts(), success=st.sampled_from((0.5, 1.0)), k=st.integers(1, 5))
def test_statistics_of_groups(rows: list[dict[str, Any]], success: float, k: int) -> None:
    found = group_table(frame(rows).lazy(), success, [k]).collect().to_dicts()
    wanted = [plain.statistics(group, success, k) for group in plain.groups_of(rows)]
    for got, want in zip(found, wanted, strict=True):
        assert {name: got[name] for name in want} == pytest.approx(want)
        assert [got["easy"], got["medium"], got["hard"]].count(True) == 1
        assert [got["solved_by_all"], got["solved_by_some"], got["solved_by_none"]].count(True) == 1


def test_statistics_of_groups_do_not_depend_on_the_order_of_rollouts() -> None:
    """To the last bit: they are written to files, and compared with thresholds."""
    rewards = [(0.1 + 0.7 * number) % 1 for number in range(40)]
    rows = [("t", "p", reward) for reward in rewards]
    orders = [rows, rows[::-1], sorted(rows), [*rows[1::2], *rows[::2]]]
    tables = [group_table(pl.LazyFrame(each, schema=["task_key", "prompt_key", "reward"], orient="row")).collect().rows() for each in orders]
    assert tables[1:] == tables[:1] * 3


@QUICK
@given(rows=rollouts())
def test_where_group(rows: list[dict[str, Any]]) -> None:
    found = rows_left(where_group(frame(rows).lazy(), "0 < mean_reward and mean_reward < 1 and n >= 3 and (pass_at_2 > 0.5 or has_spread)"))
    wanted = []
    for group in plain.groups_of(rows):
        about = plain.statistics(group, 0.5, 2)
        if 0 < about["mean_reward"] < 1 and about["n"] >= 3 and (about["pass_at_2"] > 0.5 or about["has_spread"]):
            wanted += [row["row"] for row in group]
    assert found == sorted(wanted)


@QUICK
@given(rows=rollouts(), which=st.sampled_from(("all", "best", "best-n=2", "shortest-correct", "first-correct")), limit=st.none() | st.integers(1, 3))
def test_selection(rows: list[dict[str, Any]], which: str, limit: int | None) -> None:
    limit = None if "=" in which else limit
    found = rows_left(select.selected(frame(rows).lazy(), which, limit, 0.5))
    assert found == [row["row"] for row in plain.selected(rows, which, limit, 0.5)]
    if limit is not None:
        kept = [row for row in rows if row["row"] in found]
        assert all(len(group) <= limit for group in plain.groups_of(kept))


@QUICK
@given(rows=rollouts(), of=st.sampled_from(("rollout", "response", "prompt")))
def test_copies(rows: list[dict[str, Any]], of: str) -> None:
    once = dedup.without_copies(frame(rows).lazy(), of)
    assert rows_left(once) == [row["row"] for row in plain.without_copies(rows, of)]
    assert rows_left(dedup.without_copies(once, of)) == rows_left(once)


@QUICK
@given(rows=rollouts(), limit=st.integers(1, 4), seed=st.integers(0, 5))
def test_caps(rows: list[dict[str, Any]], limit: int, seed: int) -> None:
    numbered = frame(rows).with_columns(order=order.order(seed))
    found = balance.cap(numbered.lazy(), "task_name", limit).collect()
    assert Counter(found["task_name"]) == {name: min(count, limit) for name, count in Counter(row["task_name"] for row in rows).items()}
    assert found["row"].is_sorted()


@QUICK
@given(rows=rollouts(40), upsample=st.booleans(), shares=st.sampled_from(({"math": 0.6, "code": 0.4}, {"math": 0.9, "code": 0.05, "chess": 0.05}, {"code": 1.0})))
def test_mixes(rows: list[dict[str, Any]], upsample: bool, shares: dict[str, float]) -> None:
    numbered = frame(rows).with_columns(order=order.order(0))
    found = balance.mix(numbered.lazy(), shares, upsample).collect()
    have = Counter(row["task_name"] for row in rows if row["task_name"])
    assert Counter(found["task_name"]) == plain.mix_counts(have, shares, upsample)
    assert not found.select("row", "copy").is_duplicated().any()
    times = Counter(found["row"])
    by_name = {row["row"]: row["task_name"] for row in rows}
    for name in shares:
        repeated = [times[row] for row in by_name if by_name[row] == name and (upsample or times[row])]
        assert not repeated or max(repeated) - min(repeated) <= 1


@QUICK
@given(rows=rollouts(40), count=st.integers(1, 10))
def test_samples(rows: list[dict[str, Any]], count: int) -> None:
    numbered = frame(rows).with_columns(order=order.order(3))
    assert len(balance.sample(numbered.lazy(), str(count)).collect()) == min(count, len(rows))
    fewer, more = (set(rows_left(balance.sample(numbered.lazy(), size))) for size in ("20%", "60%"))
    assert fewer <= more <= {row["row"] for row in rows}
    assert rows_left(balance.sample(numbered.lazy(), "100%")) == [row["row"] for row in rows]


def prompts(count: int, first: int = 0) -> pl.LazyFrame:
    import hashlib

    keys = [hashlib.md5(str(number).encode()).hexdigest() for number in range(first, first + count)]
    return pl.LazyFrame({"messages_key": keys, "task_name": [f"task {number % 7}" for number in range(count)], "agent_name": ["agent"] * count})


def test_split_has_its_shares_and_stays_when_data_grows() -> None:
    text = "train=0.8,val=0.1,test=0.1"
    found = split.with_part(prompts(20_000), text).collect()
    sizes = Counter(found["part"])
    assert sizes["val"] == pytest.approx(2000, rel=0.1) and sizes["test"] == pytest.approx(2000, rel=0.1)
    grown = split.with_part(pl.concat([prompts(2_000, first=20_000), prompts(20_000)]), text).collect()
    assert grown["part"][2_000:].equals(found["part"])
    larger = split.with_part(prompts(20_000), "train=0.7,val=0.2,test=0.1").collect()
    assert set(found.filter(pl.col("part") == "val")["messages_key"]) <= set(larger.filter(pl.col("part") == "val")["messages_key"])


@QUICK
@given(rows=rollouts(40), size=st.integers(1, 30), many=st.booleans())
def test_even_samples(rows: list[dict[str, Any]], size: int, many: bool) -> None:
    """No level has more than one example less than another, but for those that are used up."""
    for number, row in enumerate(rows):
        row["reward"] = number // 2 / 100 if many else [0.0, 0.5, 1.0][number * number % 3]
        row["order"] = row["row"] * 7919 % 101
    table = frame(rows).with_columns(order=pl.Series([row["order"] for row in rows], dtype=pl.UInt64))
    found = balance.sample(table.lazy(), str(size), evenly=True).collect()
    ordered = sorted(rows, key=lambda row: (row["reward"], row["order"], row["row"]))
    in_fifths = len({row["reward"] for row in rows}) > 5
    levels = {row["row"]: (place * 5 + 4) // len(rows) if in_fifths else row["reward"] for place, row in enumerate(ordered)}
    turns = {row["row"]: sum(levels[o["row"]] == levels[row["row"]] and (o["order"], o["row"]) < (row["order"], row["row"]) for o in rows) for row in rows}
    wanted = sorted(rows, key=lambda row: (turns[row["row"]], row["order"], row["row"]))[:size]
    assert found["row"].to_list() == sorted(row["row"] for row in wanted)


def test_even_samples_do_not_depend_on_the_order_of_files() -> None:
    table = pl.DataFrame({"reward": [number % 7 / 7 for number in range(50)] + [None] * 3, "order": [number * 7919 % 101 for number in range(53)]})
    table = table.cast({"order": pl.UInt64})
    found = [set(balance.sample(one.lazy(), "20", evenly=True).collect().rows()) for one in (table, table.reverse())]
    assert found[0] == found[1] and len(found[0]) == 20


@QUICK
@given(rows=rollouts(40), stratify=st.booleans())
def test_no_prompt_on_two_sides(rows: list[dict[str, Any]], stratify: bool) -> None:
    found = split.with_part(frame(rows).lazy(), "train=0.4,val=0.3,test=0.3", stratify).collect()
    assert found["row"].to_list() == [row["row"] for row in rows]
    assert found.group_by("messages_key").agg(pl.col("part").n_unique())["part"].to_list() == [1] * found["messages_key"].n_unique()


def test_stratified_split_takes_from_each_task() -> None:
    found = split.with_part(prompts(700), "train=0.9,val=0.1", stratify=True).collect()
    assert set(Counter(found.filter(pl.col("part") == "val")["task_name"]).values()) == {10}


@pytest.mark.parametrize("size", range(3, 12))
@pytest.mark.parametrize("text", ["train=0.1,val=0.6,test=0.3", "val=0.45,test=0.45,train=0.1", "train=0.98,val=0.01,test=0.01"])
def test_stratified_parts_of_a_small_task(text: str, size: int) -> None:
    found = split.with_part(prompts(size).with_columns(task_name=pl.lit("math")), text, stratify=True).collect()
    assert set(found["part"]) == {"train", "val", "test"}


def test_stratified_split_does_not_depend_on_the_order_of_files() -> None:
    """Some prompts are those of two tasks."""
    table = pl.concat([prompts(100), prompts(100, first=3)]).collect()
    found = [dict(split.with_part(one.lazy(), "train=0.6,val=0.4", stratify=True).select("messages_key", "part").collect().iter_rows()) for one in (table, table.reverse())]
    assert found[0] == found[1]


def test_shares_do_not_change_between_versions() -> None:
    """Prompts would change sides."""
    found = pl.DataFrame({"key": KEYS}).select(share=order.share("key"), drawn=order.share("key", seed=1))
    assert found["share"].round(6).to_list() == SHARES
    assert found["share"].to_list() != found["drawn"].to_list()


@QUICK
@given(rows=rollouts(), benchmark=st.lists(st.sampled_from(("WHAT is 2+2", "a b c", "!", "q r s", "z b c d")), max_size=3), size=st.sampled_from((0, 1, 3)))
def test_excluded_prompts(rows: list[dict[str, Any]], benchmark: list[str], size: int) -> None:
    found = rows_left(without_prompts(frame(rows).lazy(), pl.Series(benchmark, dtype=pl.String), size))
    assert found == [row["row"] for row in rows if not plain.is_excluded(row["prompt_text"], benchmark, size)]


@pytest.mark.parametrize("asked", ["请回答:小明有五个苹果吃了两个还剩几个请一步一步想", "問題です。りんごが五個あります二個食べました残りは何個ですか"])
def test_excluded_prompts_in_scripts_without_spaces(asked: str) -> None:
    rows = pl.LazyFrame({"prompt_text": [asked, asked[:12], "1 " + asked[5:-2]]})
    assert rows_left(without_prompts(rows.with_row_index("row"), pl.Series([asked[2:-1]]))) == [1]
    assert [plain.is_excluded(text, [asked[2:-1]], 13) for text in rows.collect()["prompt_text"]] == [True, False, True]


def test_copies_of_what_there_is_not() -> None:
    with pytest.raises(UsageError, match="of='foo' is unknown; it is one of rollout, response, prompt"):
        dedup.without_copies(frame([]).lazy(), "foo")
    with pytest.raises(UsageError, match="of='foo' is unknown; it is one of near-response, near-prompt"):
        rollout_etl.without_near_copies(frame([]).lazy(), "foo")


ASKED = [{"question": "What is 2 + 2?"}, {"id": 1, "prompt": "a b c"}]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "What is 2 + 2?\n\na b c\n"),
        ("a.jsonl", "\n".join(map(json.dumps, ASKED))),
        ("a.ndjson", "\r\n".join(map(json.dumps, ASKED))),
        ("a.JSON", json.dumps(ASKED, indent=1)),
        ("a.json", "\n".join(map(json.dumps, ASKED))),
        ("list.json", json.dumps(["What is 2 + 2?", "a b c"])),
    ],
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_files_of_excluded_prompts(name: str, text: str, mark: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(mark + text, encoding="utf-8")
    assert sorted(Excluded.read(str(tmp_path / name), 0).texts) == ["a b c", "what is 2 2"]


@pytest.mark.parametrize(("name", "text", "said"), [("a.ndjson", "{}\n", "line 1 has no text"), ("a.json", '["a", 1]', "item 2 has no text"), ("a.json", "a b", "line 1 is not JSON")])
def test_files_without_prompts(name: str, text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UnreadableError, match=said):
        Excluded.read(str(tmp_path / name), 0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"where": "rewrd > 1"}, "did you mean reward"),
        ({"where": "reward >"}, "--where reward >"),
        ({"where": "reward + 1"}, "is not a condition"),
        *(({"where": text}, "a condition applies to one row at a time") for text in (
            "count(*) > 1", "first_value(reward) > 0.5", "stddev_samp(reward) > 0", "covar_samp(reward, line) > 0", "last_value(reward) > 0",
            "array_agg(reward) is null", "string_agg(task_name, ',') = 'a'", "avg/**/(reward) > 1", '"avg"(reward) > 1', "reward > max(reward) / 2",
            "row_number() over (order by reward) > 1", "lag(reward) over (order by line) > 1", "unnest(string_to_array(source, '/')) = 'x'",
        )),
        ({"where_group": "n > avg(n)"}, "a condition applies to one row at a time"),
        *(({"reward": text}, "a formula applies to one rollout at a time") for text in (
            "max(correctness)", "avg(style) over ()", "first(style)", "style + count(*)", '"avg"(style)', "last_value(style)",
        )),
        ({"where": "sum(reward) > 1"}, "one row at a time"),
        ({"where_group": "mean > 1"}, "columns are n, mean_reward"),
        ({"where_group": "has_spred"}, "did you mean has_spread"),
        ({"select": "bets"}, "write all, best"),
        ({"select": "best-n=2", "per_group": 3}, "both say how many"),
        ({"per_group": 0}, "at least 1"),
        ({"dedup": ("text",)}, "it is one of rollout, response, prompt"),
        ({"cap": ("task_nam=3",)}, "did you mean task_name"),
        ({"cap": ("task_name=x",)}, "write COLUMN=N"),
        ({"mix": "math"}, "write NAME=NUMBER"),
        ({"mix": "math=0.5,math=0.5"}, "twice"),
        ({"sample": "0"}, "write a number"),
        ({"sample": "120%"}, "write a number"),
        ({"split": "train=0.5,val=0.2"}, "sum to 0.7"),
        ({"split": "val=1"}, "must be named train"),
        ({"reward": "1 + 1"}, "names no metric"),
        ({"reward": "upper(correct)"}, "--reward"),
        ({"reward_scale": ("0,1",)}, "does not map one range"),
        ({"reward_scale": ("1,0:0,1",)}, "must be less than"),
        ({"success": float("nan")}, "is not a number"),
        ({"upsample": True}, "is for --mix"),
        ({"stratify": True}, "is for --val"),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(value),
)
def test_errors(options: dict[str, Any], said: str) -> None:
    from rollout_etl.curate.options import Curation

    with pytest.raises(UsageError, match=said.replace("+", r"\+")) as found:
        Curation(**options)
    assert "\n" not in str(found.value)
