"""Prompts of benchmarks, which must not be trained on: equal texts, and texts that share many consecutive words.

Texts are compared word by word, in lower case: spaces and punctuation do not count. Sharing 13 consecutive words is the test of
Brown et al. 2020 (arXiv:2005.14165, appendix C).
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from rollout_etl.curate.options import check_options
from rollout_etl.curate.words import ngrams, words
from rollout_etl.errors import UnreadableError, UsageError

FIELDS = ("prompt", "question", "problem", "input", "text", "instruction")
"""Fields that may hold the prompt of a JSON object; the first that is a text is used."""
_TEXT = "prompt_text"
_JSON = (".jsonl", ".ndjson", ".json")


@dataclass(frozen=True)
class Excluded:
    """Prompts that must not be trained on."""

    texts: pl.Series
    """Their words, joined by spaces."""
    ngrams: pl.Series
    """All runs of `size` consecutive words in them."""
    size: int

    @classmethod
    def read(cls, path: str, size: int) -> Excluded:
        """Prompts of a file: a text on each line; in `.jsonl`, `.ndjson` and `.json` values of JSON, each a text or an object with one in
        one of `FIELDS`. Raises `RolloutETLError`.
        """
        try:
            text = Path(path).read_text(encoding="utf-8-sig")
        except FileNotFoundError as error:
            raise UsageError(f"--exclude-prompts: no such file: {path}") from error
        except (OSError, UnicodeDecodeError) as error:
            raise UnreadableError(f"cannot read {path}: {getattr(error, 'strerror', None) or 'not UTF-8'}") from error
        texts = _prompts(path, text) if path.lower().endswith(_JSON) else [line for line in text.split("\n") if line.strip()]
        return cls.of(pl.Series(_TEXT, texts, dtype=pl.String), size)

    @classmethod
    def of(cls, texts: pl.Series, size: int) -> Excluded:
        """The prompts `texts`; sharing `size` consecutive words excludes a prompt too; 0: equal texts only."""
        worded = pl.DataFrame({_TEXT: texts}).select(words(_TEXT))
        runs = ngrams(worded.with_row_index(), size)["ngram"] if size else pl.Series("ngram", [], dtype=pl.String)
        return cls(worded.select(pl.col("words").list.join(" "))["words"].unique(), runs.unique(), size)

    def marked(self, rollouts: pl.DataFrame) -> pl.DataFrame:
        """`rollouts`, which have `prompt_text`, with `is_excluded` (Boolean). Prompts without words are not excluded."""
        # The rollouts of a group share a prompt.
        prompts = rollouts.select(_TEXT).unique().with_row_index().with_columns(words(_TEXT))
        equal = prompts.filter(pl.col("words").list.len() > 0, pl.col("words").list.join(" ").is_in(self.texts.implode()))["index"]
        shared = ngrams(prompts, self.size).filter(pl.col("ngram").is_in(self.ngrams.implode()))["index"] if self.size else equal.clear()
        found = prompts.select(_TEXT, is_excluded=pl.col("index").is_in(pl.concat([equal, shared]).implode()))
        return rollouts.join(found, on=_TEXT, how="left", nulls_equal=True, maintain_order="left")


def without_prompts(rollouts: pl.LazyFrame, texts: pl.Series, size: int = 13) -> pl.LazyFrame:
    """The rollouts whose prompt is none of `texts` and shares no `size` consecutive words with any. Needs `prompt_text`."""
    check_options(exclude_ngram=size)
    if not isinstance(texts, pl.Series) or texts.dtype != pl.String:
        raise UsageError("texts must be a Series of String")
    excluded = Excluded.of(texts, size)
    return rollouts.map_batches(lambda frame: excluded.marked(frame).filter(~pl.col("is_excluded")).drop("is_excluded"))


def _prompts(path: str, text: str) -> list[str]:
    """The prompts in JSON: in a list, or in values line by line."""
    if path.lower().endswith(".json"):
        # JSON lines often have this suffix as well.
        with contextlib.suppress(ValueError, RecursionError):
            found = json.loads(text)
            return [_prompt_of(path, f"item {number}", row) for number, row in enumerate(found if isinstance(found, list) else [found], start=1)]
    return [_prompt_of(path, f"line {number}", _value(path, number, line)) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]


def _value(path: str, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"cannot read {path}: line {number} is not JSON") from error


def _prompt_of(path: str, place: str, row: Any) -> str:
    if isinstance(row, str):
        return row
    for name in FIELDS if isinstance(row, dict) else ():
        if isinstance(row.get(name), str):
            return str(row[name])
    raise UnreadableError(f"cannot read {path}: {place} has no text in any of {', '.join(FIELDS)}")
