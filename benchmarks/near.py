"""Precision and recall of near-duplicate search against exact computation, and its cost.

    python benchmarks/near.py --texts 20000 --threshold 0.8

Texts are made in families: an original and edits of it, some words of which are replaced, so that similarities lie on both sides of
the threshold. Recall and precision are of the texts that would be left out; the exact ones come from all pairs that share a shingle.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator

import numpy as np
import polars as pl

from rollout_etl.curate.near import Rows, _linked, _shingles, near_copies


def made(count: int, seed: int) -> list[str]:
    """Texts of 40 to 200 words."""
    rng = random.Random(seed)
    vocabulary = [f"w{number}" for number in range(20_000)]
    texts: list[str] = []
    while len(texts) < count:
        original = rng.choices(vocabulary, k=rng.randint(40, 200))
        for _ in range(min(rng.randint(1, 6), count - len(texts))):
            changed = rng.random() ** 2 * 0.15
            texts.append(" ".join(rng.choice(vocabulary) if rng.random() < changed else word for word in original))
    rng.shuffle(texts)
    return texts


def exact(texts: pl.Series, threshold: float) -> Rows:
    """Later members of the clusters of all pairs that are as alike as the threshold."""
    shingles = _shingles(pl.DataFrame({"index": np.arange(len(texts)), "text": texts})).unique()
    sizes = shingles.group_by("index").len("size")
    both = shingles.rename({"index": "a"}).join(shingles.rename({"index": "b"}), on="shingle").filter(pl.col("a") < pl.col("b"))
    shared = both.group_by("a", "b").len("shared")
    both = shared.join(sizes.rename({"index": "a", "size": "of_a"}), on="a").join(sizes.rename({"index": "b", "size": "of_b"}), on="b")
    alike = both.filter(pl.col("shared") / (pl.col("of_a") + pl.col("of_b") - pl.col("shared")) >= threshold - 1e-9)
    members, firsts = _linked(alike["a"].to_numpy(), alike["b"].to_numpy())
    later: Rows = members[members != firsts]
    return later


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=20_000)
    parser.add_argument("--threshold", type=float, default=0.8)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    texts = pl.Series("text", made(options.texts, options.seed))
    indices = np.arange(len(texts))

    def fetch(rows: Rows) -> Iterator[pl.DataFrame]:
        for start in range(0, len(rows), 20_000):
            part = rows[start : start + 20_000]
            yield pl.DataFrame({"index": part, "text": texts.gather(part)})

    start = time.perf_counter()
    found = set(near_copies(indices, pl.repeat(0, len(texts), eager=True), fetch, options.threshold).tolist())
    seconds = time.perf_counter() - start
    wanted = set(exact(texts, options.threshold).tolist())
    print(f"texts {len(texts):,}, left out {len(found):,}, exactly {len(wanted):,}")
    print(f"recall {len(found & wanted) / len(wanted):.4f}, precision {len(found & wanted) / len(found):.4f}")
    print(f"{seconds:.2f} s, {seconds / len(texts) * 1e6:.0f} s a million")


if __name__ == "__main__":
    main()
