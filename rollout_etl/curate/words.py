"""Texts as words, so that spaces, punctuation and case do not count when texts are compared."""

from __future__ import annotations

import polars as pl

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}"
"""Scripts that are written without spaces: each character counts as a word, or a whole sentence would be one."""


def words(text: str) -> pl.Expr:
    """The words (letters and digits) of a column of texts, in lower case. List(String), empty for null."""
    return pl.col(text).fill_null("").str.to_lowercase().str.extract_all(rf"[{_UNSPACED}]|[\p{{L}}\p{{N}}--[{_UNSPACED}]]+").alias("words")


def ngrams(worded: pl.DataFrame, size: int) -> pl.DataFrame:
    """`index` and `ngram` (String) for each run of `size` words of the column `words`, in the order of `worded`."""
    each = worded.select("index", "words").filter(pl.col("words").list.len() >= size).explode("words")
    runs = each.with_columns(last=pl.col("index").shift(1 - size), ngram=pl.concat_str([pl.col("words").shift(-i) for i in range(size)], separator=" "))
    return runs.filter(pl.col("last") == pl.col("index")).select("index", "ngram")
