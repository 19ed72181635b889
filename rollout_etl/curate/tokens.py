"""Lengths in tokens, counted with Hugging Face's `tokenizers`: from a file, a folder with `tokenizer.json`, or a name on the hub.

The text of all messages is counted: contents, reasoning, names and arguments of calls. A chat template adds more (roles, markers, tool
schemas), so leave some room for it.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import polars as pl

from rollout_etl.errors import UsageError
from rollout_etl.frame_sql import selected
from rollout_etl.option_values import check_value
from rollout_etl.plain_text import first_line

COLUMNS = ("prompt", "completion")
"""Canonical columns that are counted."""
_PATHS = ("$[*].content", "$[*].reasoning_content", "$[*].tool_calls[*].function.name", "$[*].tool_calls[*].function.arguments", "$[*].tool_calls[*].name",
          "$[*].tool_calls[*].arguments")


class TokenCounter:
    """Counts tokens. Texts that occur several times in a batch, such as the prompt of a group, are tokenized once."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.tokens, self.seconds = 0, 0.0
        """Tokens counted so far, and the time that it took."""

    @classmethod
    def load(cls, name: str) -> TokenCounter:
        """The counter of a tokenizer. Raises `UsageError` if there is no such tokenizer, or the package is not installed."""
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise UsageError("--tokenizer needs the package tokenizers: pip install '.[tokens]' in a checkout of rollout-etl") from error
        path = Path(name) / "tokenizer.json" if Path(name).is_dir() else Path(name)
        try:
            return cls(Tokenizer.from_file(str(path)) if path.is_file() else Tokenizer.from_pretrained(name))
        # The library raises plain exceptions, both for files and for the network.
        except Exception as error:
            raise UsageError(f"--tokenizer {name}: {first_line(error)[:200]}") from error

    def rate(self) -> str:
        """Tokens per second, as text."""
        return f"counted {self.tokens:,} tokens, {self.tokens / max(self.seconds, 1e-9) / 1e6:.2f} million per second"

    def counted(self, rollouts: pl.DataFrame) -> pl.DataFrame:
        """`rollouts`, which have `COLUMNS`, with `num_tokens` (Int64)."""
        counts = [self._count(_texts(rollouts[name])) for name in COLUMNS]
        return rollouts.with_columns(num_tokens=counts[0] + counts[1])

    def _count(self, texts: pl.Series) -> pl.Series:
        start = time.perf_counter()
        different = texts.unique()
        found = pl.Series([len(encoding) for encoding in self._tokenizer.encode_batch_fast(different.to_list(), add_special_tokens=False)], dtype=pl.Int64)
        self.tokens += int(found.sum())
        self.seconds += time.perf_counter() - start
        return texts.replace_strict(different, found, return_dtype=pl.Int64)


def with_tokens(rollouts: pl.LazyFrame, tokenizer: str) -> pl.LazyFrame:
    """`rollouts` with `num_tokens` (Int64), the tokens of prompt and completion. Needs `COLUMNS`."""
    check_value("tokenizer", tokenizer, str)
    counter = TokenCounter.load(tokenizer)
    # A filter on the lengths must stay after this step.
    schema = {**rollouts.collect_schema(), "num_tokens": pl.Int64()}
    return rollouts.map_batches(counter.counted, schema=schema, predicate_pushdown=False, projection_pushdown=False)


def _texts(messages: pl.Series) -> pl.Series:
    """The texts of JSON lists of messages, a line for each."""
    parts = ", ".join(f"json_extract_string(j, '{path}')" for path in _PATHS)
    numbered = pl.DataFrame({"j": messages}).with_row_index()
    joined = selected(numbered, f"SELECT index, array_to_string(flatten([{parts}]), chr(10)) AS texts FROM frame ORDER BY index")
    return joined["texts"].fill_null("")
