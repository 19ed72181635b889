"""Time and memory of each pairing strategy on slim rollouts, beside those of `best-worst`.

    python benchmarks/pairing.py --rollouts 1000000 --group-size 8

Each strategy runs in a process of its own; seconds are of the pairing alone.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from typing import Any

import numpy as np
import polars as pl

from rollout_etl.recipes.options import DpoOptions
from rollout_etl.recipes.pairing import pair_rollouts

RUNS: dict[str, dict[str, Any]] = {
    "best-worst": {},
    "best-second": {"strategy": "best-second"},
    "ranked": {"strategy": "ranked"},
    "adjacent": {"strategy": "adjacent"},
    "all, 8 a group": {"strategy": "all", "pairs_per_group": 8},
    "all, 8 a group, 2 uses": {"strategy": "all", "pairs_per_group": 8, "max_uses": 2},
    "top-k-bottom-k": {"strategy": "top-k-bottom-k"},
    "mean-minus-2-sigma": {"strategy": "best-vs-mean-minus-2-sigma"},
    "random-negative": {"strategy": "random-negative"},
    "stratified, 1e6 pairs": {"strategy": "stratified", "max_pairs": 1_000_000},
    "cross-prompt, 1e6 pairs": {"strategy": "stratified", "cross_prompt": True, "max_pairs": 1_000_000},
}


def slim(count: int, size: int) -> pl.DataFrame:
    """Rollouts of groups of `size`, with rewards from 0 to 1."""
    generator = np.random.Generator(np.random.PCG64(0))
    row = np.arange(count)
    keys = pl.Series(row // size).cast(pl.String).str.zfill(32)
    return pl.DataFrame(
        {
            "row": row, "task_key": keys, "prompt_key": keys, "reward": np.round(generator.random(count), 2), "attempt": row % size,
            "completion_key": generator.integers(0, 1 << 62, count).astype(np.uint64), "source": ["rollouts.jsonl"] * count, "line": row + 1,
            "completion_chars": generator.integers(10, 10_000, count),
        }
    )


def one(name: str, count: int, size: int) -> None:
    """Print seconds, pairs and peak megabytes of a strategy."""
    kept = slim(count, size)
    start = time.perf_counter()
    pairs, _ = pair_rollouts(kept, DpoOptions(**RUNS[name]))
    print(time.perf_counter() - start, len(pairs), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=1_000_000)
    parser.add_argument("--group-size", type=int, default=8)
    parser.add_argument("--one", choices=list(RUNS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options.one, options.rollouts, options.group_size)
        return
    first = None
    print(f"{'':26}{'seconds':>9}{'x best-worst':>14}{'pairs':>12}{'peak MB':>9}")
    for name in RUNS:
        command = [sys.executable, __file__, "--one", name, "--rollouts", str(options.rollouts), "--group-size", str(options.group_size)]
        seconds, pairs, megabytes = map(float, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
        first = first or seconds
        print(f"{name:26}{seconds:9.2f}{seconds / first:14.2f}{pairs:12,.0f}{megabytes:9.0f}")


if __name__ == "__main__":
    main()
