"""Lengths in tokens, with a tokenizer whose tokens are words."""

from __future__ import annotations

import json
import re
from pathlib import Path

import polars as pl
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

import rollout_etl
from rollout_etl import Curation, SftOptions
from rollout_etl.curate.tokens import with_tokens
from rollout_etl.errors import UsageError
from tests.command import run

DEMO = Path(__file__).parent.parent / "demo" / "rollouts.jsonl"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.enable_truncation(3)
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    made.save(str(path))
    return path


def words(messages: str) -> int:
    total = 0
    for message in json.loads(messages):
        texts = [message.get("content"), message.get("reasoning_content")]
        for call in message.get("tool_calls") or []:
            arguments = call["function"]["arguments"]
            texts += [call["function"]["name"], arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False, separators=(",", ":"))]
        total += sum(len(re.findall(r"\w+|[^\w\s]+", text)) for text in texts if text)
    return total


def test_counts(tokenizer: Path) -> None:
    """The tokenizer's own truncation does not count."""
    table = with_tokens(rollout_etl.scan_rollouts(DEMO, max_bad_fraction=0.05).select("prompt", "completion"), str(tokenizer)).collect()
    assert table["num_tokens"].to_list() == [words(prompt) + words(completion) for prompt, completion in table.select("prompt", "completion").iter_rows()]
    assert table["num_tokens"].max() > 30  # type: ignore[operator]


def test_lengths_can_be_filtered_by(tokenizer: Path) -> None:
    table = with_tokens(rollout_etl.scan_rollouts(DEMO, max_bad_fraction=0.05), str(tokenizer))
    assert table.collect_schema()["num_tokens"] == pl.Int64
    lengths = table.select("line", "num_tokens").collect()
    short = table.filter(pl.col("num_tokens") < 20, pl.col("reward") > 0.5).select("line").collect()
    assert 0 < len(short) < len(lengths)
    assert set(short["line"]) <= set(lengths.filter(pl.col("num_tokens") < 20)["line"])


@pytest.mark.parametrize("where", ["file", "folder"])
def test_long_rollouts_are_dropped_and_counted(tokenizer: Path, where: str, tmp_path: Path) -> None:
    name = str(tokenizer if where == "file" else tokenizer.parent)
    options = SftOptions(reward_threshold=0.0)
    report = rollout_etl.write(
        DEMO, tmp_path / "out.jsonl", recipe="sft", options=options, curation=Curation(tokenizer=name, max_tokens=40), max_bad_fraction=0.05, config=False
    )
    lengths = [words(json.dumps(json.loads(line)["messages"])) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert max(lengths) <= 40
    assert report["rollouts"]["dropped"]["too_long"] == 44 - len(lengths) > 0


def test_errors(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(UsageError, match="go together"):
        Curation(max_tokens=3)
    with pytest.raises(UsageError, match=r"--tokenizer .*bad\.json"):
        rollout_etl.write(DEMO, tmp_path / "o.jsonl", recipe="sft", curation=Curation(tokenizer=str(tmp_path / "bad.json"), max_tokens=3), max_bad_fraction=0.05)


def test_the_summary_says_how_fast_it_went(tokenizer: Path, tmp_path: Path) -> None:
    done = run("sft", str(DEMO), "-o", "out.jsonl", "--max-bad-fraction", "0.05", "--tokenizer", str(tokenizer), "--max-tokens", "40", "--json", folder=tmp_path)
    assert re.search(r"counted [\d,]+ tokens, [\d.]+ million per second", " ".join(done.stderr.split()))
    # The record is the same for the same run.
    assert "a second" not in done.stdout + (tmp_path / "out.jsonl.manifest.json").read_text()
