"""Texts that are written as they lie in memory."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout_etl.publish import text_bytes
from rollout_etl.publish.text_bytes import bytes_of

TEXT = st.text(max_size=3) | st.sampled_from(("x" * 12, "x" * 13, "é" * 7, "line " * 10, "y" * 5000))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(TEXT, max_size=8), max_size=4), st.data())
def test_bytes_are_those_of_the_texts(chunks: list[list[str]], data: st.DataObject) -> None:
    texts = pl.concat([pl.Series("text", chunk, dtype=pl.String) for chunk in [[], *chunks]])
    if data.draw(st.booleans()):
        texts = pl.select(pl.concat_str(texts, pl.lit("\n"))).to_series()
    texts = texts.slice(data.draw(st.integers(0, 5)), data.draw(st.none() | st.integers(0, 20)))
    if data.draw(st.booleans()):
        texts = texts.gather(data.draw(st.permutations(range(len(texts)))))
    assert b"".join(bytes_of(texts)) == "".join(texts).encode()


def test_lines_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(texts: pl.Series) -> memoryview:
        raise AssertionError(f"{len(texts)} texts were copied")

    monkeypatch.setattr(text_bytes, "_copied", refuse)
    lines = pl.select(pl.concat_str(pl.Series([f"line {number:>20}" for number in range(10_000)]), pl.lit("\n"))).to_series()
    for part in (lines, lines.slice(500, 3000)):
        assert b"".join(bytes_of(part)) == "".join(part).encode()
