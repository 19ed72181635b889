"""Random choices that do not depend on the engine, threads, the order of files, or the rest of the data.

A rollout's number is computed from its keys and a seed, and the smallest numbers are chosen. So a choice stays the same when rollouts are
added, except that new ones can take the place of others.
"""

from __future__ import annotations

import numpy as np
import polars as pl

KEYS = ("task_key", "prompt_key", "attempt", "response_key")
"""Canonical columns that a rollout's number is computed from."""
PLACES = ("source", "line")
"""Canonical columns that order rollouts with the same number, such as copies without an attempt."""
_SPREAD = 0xD1342543DE82EF95
"""An odd number that spreads neighbouring seeds over all bits."""
_GAMMA, _FIRST, _SECOND = (np.uint64(number) for number in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def _u64(value: int) -> pl.Expr:
    return pl.lit(value % (1 << 64), dtype=pl.UInt64)


def _finalized(numbers: pl.Series) -> pl.Series:
    x = numbers.to_numpy() + _GAMMA
    x = (x ^ (x >> np.uint64(30))) * _FIRST
    x = (x ^ (x >> np.uint64(27))) * _SECOND
    return pl.Series(numbers.name, x ^ (x >> np.uint64(31)), dtype=pl.UInt64)


def mixed(number: pl.Expr) -> pl.Expr:
    """The finalizer of SplitMix64 (Steele, Lea, Flood 2014). UInt64 to UInt64, with evenly distributed bits."""
    # An expression would repeat its input eight times, and mixing is done several times.
    return number.cast(pl.UInt64).map_batches(_finalized, return_dtype=pl.UInt64, is_elementwise=True)


def of_key(key: str) -> pl.Expr:
    """60 bits of a column of md5 keys. UInt64; 0 for null."""
    return pl.col(key).str.slice(0, 15).str.to_integer(base=16).cast(pl.UInt64).fill_null(0)


def order(seed: int, prefix: str = "") -> pl.Expr:
    """The number of a rollout, from the columns `KEYS`. UInt64."""
    number = mixed(of_key(f"{prefix}task_key") ^ _u64(seed * _SPREAD))
    number = mixed(number ^ of_key(f"{prefix}prompt_key"))
    attempt = pl.col(f"{prefix}attempt").fill_null(-1).cast(pl.Int64).reinterpret(signed=False)
    return mixed(mixed(number ^ attempt) ^ pl.col(f"{prefix}response_key").fill_null(0))


def share(key: str, seed: int = 0) -> pl.Expr:
    """A number from 0 up to 1 for each md5 key, the same wherever the key occurs. Float64."""
    return (mixed(of_key(key) ^ _u64(seed * _SPREAD)) // _u64(1 << 11)).cast(pl.Float64) / float(1 << 53)
