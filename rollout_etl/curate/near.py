"""Near-duplicates: texts whose sets of word 3-grams have a Jaccard similarity of at least some threshold.

MinHash signatures (Broder 1997; computed by `rensa`) are cut into bands, and texts that agree in a band are candidates (LSH). To
avoid comparing all members of a large band, each is compared only with its first member and with the one before it. Candidates are
compared exactly, so no text is dropped that is less similar than the threshold; some pairs can be missed (`benchmarks/near.py` measures
how many). Near-duplicates of near-duplicates form one cluster, and the first text of a cluster is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import numpy as np
import numpy.typing as npt
import polars as pl

from rollout_etl.curate.groups import GROUP
from rollout_etl.curate.options import check_options
from rollout_etl.curate.select import TIES
from rollout_etl.curate.words import ngrams, words
from rollout_etl.errors import UsageError

SHINGLE = 3
"""Number of words in a shingle; a shorter text is a single shingle."""
_HASHES = 126
_SEED = 1
_FOUND = 0.99
"""Texts whose similarity is the threshold agree in a band with at least this probability."""
TEXTS = {"near-response": "response_text", "near-prompt": "prompt_text"}
"""Canonical column that each kind of near-copies compares."""
Rows = npt.NDArray[np.int64]
Fetch = Callable[[Rows], Iterable[pl.DataFrame]]
"""Returns frames of `index` (Int64) and `text` (String) for sorted indices."""


def band_rows(threshold: float) -> int:
    """Number of hashes in a band, chosen so that texts at the threshold are found with a probability of `_FOUND`."""
    return max((r for r in range(1, 22) if _HASHES % r == 0 and 1 - (1 - threshold**r) ** (_HASHES // r) >= _FOUND), default=1)


def near_copies(indices: Rows, groups: pl.Series, fetch: Fetch, threshold: float = 0.8) -> Rows:
    """The indices, in order, of texts that have a near-duplicate with a smaller index in their group (see `clusters`)."""
    members, firsts = clusters(indices, groups, fetch, threshold)
    later: Rows = members[members != firsts]
    return later


def clusters(indices: Rows, groups: pl.Series, fetch: Fetch, threshold: float = 0.8) -> tuple[Rows, Rows]:
    """The indices of texts that have near-duplicates in their group, in order, and the smallest index of each one's cluster.

    `groups` is parallel to `indices`, which are sorted. Texts without words are not duplicates. Raises `UsageError` without `rensa`.
    """
    bands = pl.concat([_EMPTY, *(_bands(frame, band_rows(threshold)) for frame in fetch(indices))])
    grouped = bands.join(pl.DataFrame({"index": indices, "group": groups}), on="index", how="left")
    pairs = _candidates(grouped)
    if pairs.is_empty():
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    compared = pl.concat([pairs["a"], pairs["b"]]).unique().sort().to_numpy()
    sets = pl.concat([_shingles(frame).group_by("index").agg(pl.col("shingle").unique()) for frame in fetch(compared)])
    alike = pl.concat([_alike(part, sets, threshold) for part in pairs.iter_slices(100_000)])
    return _linked(alike["a"].to_numpy(), alike["b"].to_numpy())


def _shingles(frame: pl.DataFrame) -> pl.DataFrame:
    """`index` and `shingle` (UInt64), with the shingles of a text next to each other."""
    worded = frame.select("index", words("text"))
    short = worded.filter(pl.col("words").list.len().is_between(1, SHINGLE - 1)).select("index", ngram=pl.col("words").list.join(" "))
    # Hashes differ between versions of Polars, but they are only compared within one run.
    return pl.concat([ngrams(worded, SHINGLE), short]).sort("index", maintain_order=True).select("index", shingle=pl.col("ngram").hash(_SEED))


_EMPTY = pl.DataFrame(schema={"index": pl.Int64, "band": pl.UInt32, "hash": pl.UInt64})


def _bands(frame: pl.DataFrame, rows: int) -> pl.DataFrame:
    """`index`, number of the `band` and its `hash` for each text and band."""
    try:
        from rensa import RMinHash
    except ImportError as error:
        raise UsageError("near-duplicates need the package rensa: pip install '.[near]' in a checkout of rollout-etl") from error
    shingles = _shingles(frame)
    if shingles.is_empty():
        return _EMPTY
    counts = shingles.group_by("index", maintain_order=True).len()
    offsets = np.concatenate([[0], counts["len"].cum_sum().to_numpy()])
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(shingles["shingle"].to_numpy(), offsets, _HASHES, _SEED)
    values = np.array(matrix.to_rows(), dtype=np.uint64).reshape(len(counts), -1, rows)
    hashes = np.zeros(values.shape[:2], dtype=np.uint64)
    for position in range(rows):
        hashes = (hashes ^ values[:, :, position]) * np.uint64(0x9E3779B97F4A7C15)
        hashes ^= hashes >> np.uint64(29)
    bands = hashes.shape[1]
    return pl.DataFrame(
        {"index": np.repeat(counts["index"].to_numpy(), bands), "band": np.tile(np.arange(bands, dtype=np.uint32), len(counts)), "hash": hashes.ravel()}
    )


def _candidates(bands: pl.DataFrame) -> pl.DataFrame:
    """Pairs `a` < `b` of indices that agree in a band: each with the first of its bucket, and with the one before."""
    bucket = ["group", "band", "hash"]
    # Most buckets hold one text.
    ordered = bands.filter(pl.len().over(bucket) > 1).sort(*bucket, "index")
    linked = ordered.with_columns(first=pl.col("index").first().over(bucket), before=pl.col("index").shift(1).over(bucket)).drop_nulls("before")
    return pl.concat([linked.select(a=name, b="index") for name in ("first", "before")]).unique().sort("a", "b")


def _alike(pairs: pl.DataFrame, sets: pl.DataFrame, threshold: float) -> pl.DataFrame:
    both = pairs.join(sets.rename({"index": "a", "shingle": "of_a"}), on="a").join(sets.rename({"index": "b", "shingle": "of_b"}), on="b")
    shared = pl.col("of_a").list.set_intersection("of_b").list.len().cast(pl.Float64)
    together = pl.col("of_a").list.len() + pl.col("of_b").list.len() - shared
    return both.filter(shared / together >= threshold - 1e-9).select("a", "b")


def _linked(a: Rows, b: Rows) -> tuple[Rows, Rows]:
    """The members of clusters that are linked by pairs `a` < `b`, and the first of each one's cluster."""
    members, flat = np.unique(np.concatenate([a, b]), return_inverse=True)
    left, right = flat[: len(a)], flat[len(a) :]
    labels = np.arange(len(members))
    while True:
        smaller = np.minimum(labels[left], labels[right])
        following = labels.copy()
        np.minimum.at(following, left, smaller)
        np.minimum.at(following, right, smaller)
        # Labels are members themselves, so following them halves the distance at each step.
        following = following[following]
        if np.array_equal(following, labels):
            return members.astype(np.int64), members[labels].astype(np.int64)
        labels = following


def chosen_without_near_copies(rollouts: pl.DataFrame, of: str, fetch: Callable[[Rows, str], Iterable[pl.DataFrame]], threshold: float) -> pl.DataFrame:
    """`rollouts` (columns `row`, `GROUP`, `TIES`) without near-copies; `fetch` returns `row` and a column of texts for sorted rows.

    `near-response` compares the last answers within a group and keeps the first by `TIES`; `near-prompt` compares the last questions of
    all prompts and keeps the first prompt by key, with all its rollouts.
    """
    if of == "near-response":
        items = rollouts.sort(*TIES, nulls_last=True).select("row", group=pl.struct(GROUP).rank("dense"))
    else:
        items = rollouts.sort("prompt_key", "row").unique("prompt_key", keep="first", maintain_order=True).select("row", "prompt_key", group=pl.lit(0))
    items = items.with_columns(index=pl.int_range(pl.len()))
    copies = items[near_copies(items["index"].to_numpy(), items["group"], partial(_texts, items, fetch, of), threshold).tolist()]
    return rollouts.join(copies, on="row" if of == "near-response" else "prompt_key", how="anti", maintain_order="left")


def with_shared_keys(rollouts: pl.DataFrame, key: str, fetch: Callable[[Rows, str], Iterable[pl.DataFrame]], threshold: float) -> pl.DataFrame:
    """`rollouts` (columns `row` and `key`), with the same `key` for near-duplicate prompts: the smallest of their cluster.

    The last questions are compared; `fetch` is that of `chosen_without_near_copies`.
    """
    items = rollouts.sort(key, "row").unique(key, keep="first", maintain_order=True).select("row", key).with_columns(index=pl.int_range(pl.len()))
    members, firsts = clusters(items["index"].to_numpy(), pl.repeat(0, len(items), eager=True), partial(_texts, items, fetch, "near-prompt"), threshold)
    shared = pl.DataFrame({key: items[members.tolist()][key], "shared": items[firsts.tolist()][key]})
    return rollouts.join(shared, on=key, how="left", maintain_order="left").with_columns(pl.coalesce("shared", key).alias(key)).drop("shared")


def _texts(items: pl.DataFrame, fetch: Callable[[Rows, str], Iterable[pl.DataFrame]], of: str, indices: Rows) -> Iterator[pl.DataFrame]:
    """`index` and `text` of the items (columns `row`, `index`) with these indices."""
    wanted = items[indices.tolist()].select("row", "index")
    for frame in fetch(wanted["row"].sort().to_numpy(), TEXTS[of]):
        yield frame.rename({TEXTS[of]: "text"}).join(wanted, on="row").sort("index").select("index", "text")


def without_near_copies(rollouts: pl.LazyFrame, of: str = "near-response", threshold: float = 0.8) -> pl.LazyFrame:
    """`rollouts` without near-copies (see `chosen_without_near_copies`, whose columns are needed, and `response_text` or `prompt_text`).

    Raises `UsageError` if `of` is not one of `TEXTS`, or `threshold` is not from 0.3 to 1.
    """
    if of not in TEXTS:
        raise UsageError(f"of={of!r} is unknown; it is one of {', '.join(TEXTS)}")

    check_options(near=threshold)

    def kept(frame: pl.DataFrame) -> pl.DataFrame:
        texts = frame.select("row", TEXTS[of])
        return chosen_without_near_copies(frame, of, lambda rows, name: [texts.filter(pl.col("row").is_in(rows))], threshold)

    return rollouts.map_batches(kept)
