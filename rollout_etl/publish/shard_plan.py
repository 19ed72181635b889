"""Shards with content-defined boundaries, which are reused from an earlier run if nothing in them changed.

An example closes its shard if a number computed from it is small, so that adding or removing examples in the middle changes one shard,
not all that follow. The fingerprint of a shard covers everything that its bytes depend on. A shard with a known fingerprint need not be
made again; its counts are stored with it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from rollout_etl.curate.split import TRAIN
from rollout_etl.publish.files import holds

SHARD, EXAMPLE = "_shard", "_example"
"""Columns of examples: the number of its shard within its part, and its own number within the shard. Int64."""


def content_cuts(keys: npt.NDArray[np.uint64], rows: int) -> list[int]:
    """Where shards end: about `rows` examples each, from half to twice as many, except for the last. `keys` are random numbers."""
    closing = np.flatnonzero(keys < np.uint64(((1 << 64) - 1) // max(rows // 2, 1)))
    least, ends, start = max(rows // 2, 1), list[int](), 0
    while start < len(keys):
        at = np.searchsorted(closing, start + least - 1)
        found = int(closing[at]) + 1 if at < len(closing) else len(keys)
        ends.append(min(found, start + 2 * rows, len(keys)))
        start = ends[-1]
    return ends


@dataclass
class Shard:
    """A shard and its counts."""

    fingerprint: str
    file: str | None = None
    """Its path relative to the folder of the run; None for one without rows."""
    rows: int = 0
    bytes: int = 0
    sha256: str = ""
    examples: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    """Examples dropped by rule."""
    dropped_at: list[int] = field(default_factory=list)
    """Numbers of the examples that were dropped."""
    counts: dict[str, int] = field(default_factory=dict)
    """Counts of the recipe for the rows."""
    guesses: dict[str, Any] = field(default_factory=dict)
    """How a reader that guesses types reads it (see `TypeGuesses`)."""
    earlier: Path | None = None
    """The file that it is reused from."""

    def to_json(self) -> dict[str, Any]:
        """What a later run needs."""
        return {name: value for name, value in asdict(self).items() if name != "earlier"}


class EarlierShards:
    """The shards of an earlier run, by fingerprint."""

    def __init__(self, folder: Path, records: Sequence[Mapping[str, Any]] = ()) -> None:
        self._folder = folder
        self._known = {record["fingerprint"]: record for record in records}
        self.damaged: list[Path] = []
        """Files that were asked for, and are not what they were when they were written."""

    def of(self, fingerprint: str) -> Shard | None:
        """The shard with that fingerprint, if its file is still what was written."""
        record = self._known.get(fingerprint)
        if record is None:
            return None
        path = None if record["file"] is None else self._folder / record["file"]
        # What was damaged on the disk would go from one version to the next; reading it costs far less than making it.
        if path is not None and not holds(path, record["sha256"]):
            self.damaged.append(path)
            return None
        return Shard(**record, earlier=path)


class ShardPlan:
    """The planned shards of a run, part by part, before anything is fetched for them."""

    def __init__(self, rows: int, earlier: EarlierShards | None) -> None:
        self._rows, self._earlier = rows, earlier
        self.parts: dict[str, list[Shard]] = {}
        self._made: set[tuple[str, int]] = set()

    def forget_earlier(self) -> None:
        """Make all shards again."""
        self._earlier = None

    def numbered(self, examples: pl.DataFrame, key: str, about: Sequence[str], settings: str, chained: bool) -> pl.DataFrame:
        """`examples` with `SHARD` and `EXAMPLE`, in their order, part after part.

        `key` is a column of random numbers (UInt64); `about` names the columns, all numeric, that rows depend on besides `settings`.
        With `chained`, a shard also depends on the first one of its part.
        """
        found = [examples.head(0).with_columns(pl.lit(0, dtype=pl.Int64).alias(name) for name in (SHARD, EXAMPLE))]
        for part, frame in _parts(examples):
            ends = content_cuts(frame[key].to_numpy(), self._rows)
            shards, first = self.parts.setdefault(part, []), ""
            for fingerprint in _fingerprints(frame, about, ends, settings):
                mark = hashlib.sha256(f"{part} {fingerprint} {first}".encode()).hexdigest()
                first = first or (mark if chained else "")
                known = None if self._earlier is None else self._earlier.of(mark)
                shards.append(known or Shard(mark))
                if known is None:
                    self._made.add((part, len(shards) - 1))
            sizes = np.diff([0, *ends])
            within = np.arange(len(frame)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
            numbers = np.repeat(np.arange(len(ends)), sizes)
            found.append(frame.with_columns(pl.Series(SHARD, numbers, dtype=pl.Int64), pl.Series(EXAMPLE, within, dtype=pl.Int64)))
        return pl.concat(found)

    def to_make(self, numbered: pl.DataFrame) -> pl.DataFrame:
        """Those of the numbered examples that have to be written."""
        part = _part(numbered)
        made = pl.DataFrame(sorted(self._made), schema={"_part": pl.String, SHARD: pl.Int64}, orient="row")
        return numbered.join(made, left_on=[part, SHARD], right_on=["_part", SHARD], how="semi", maintain_order="left")

    def kept(self, numbered: pl.DataFrame) -> pl.DataFrame:
        """The numbered examples that no rule dropped, once all are counted."""
        gone = [(part, number, at) for part, shards in self.parts.items() for number, shard in enumerate(shards) for at in shard.dropped_at]
        dropped = pl.DataFrame(gone, schema={"_part": pl.String, SHARD: pl.Int64, EXAMPLE: pl.Int64}, orient="row")
        return numbered.join(dropped, left_on=[_part(numbered), SHARD, EXAMPLE], right_on=["_part", SHARD, EXAMPLE], how="anti", maintain_order="left")

    def count(self, judged: pl.DataFrame, counts: Mapping[str, pl.Expr]) -> None:
        """Add examples with the column `rule`; `counts` are evaluated for those that no rule drops."""
        of = [_part(judged).alias("_part"), pl.col(SHARD)]
        for name, number, rule, at in judged.filter(pl.col("rule").is_not_null()).group_by(*of, "rule").agg(pl.col(EXAMPLE)).iter_rows():
            shard = self.parts[name][number]
            shard.dropped[rule] = shard.dropped.get(rule, 0) + len(at)
            shard.dropped_at = sorted([*shard.dropped_at, *at])
        sums = [(pl.col("rule").is_null() & holds).sum().alias(f"count {name}") for name, holds in counts.items()]
        for found in judged.group_by(*of).agg(pl.len().alias("_examples"), *sums).iter_rows(named=True):
            shard = self.parts[found["_part"]][found[SHARD]]
            shard.examples += found["_examples"]
            for name in counts:
                shard.counts[name] = shard.counts.get(name, 0) + int(found[f"count {name}"])

    @property
    def taken_over(self) -> Iterator[Shard]:
        """Shards that are not made again."""
        for name, shards in self.parts.items():
            yield from (shard for number, shard in enumerate(shards) if (name, number) not in self._made)

    def counted(self) -> tuple[int, Counter[str], Counter[str]]:
        """Counts of the reused shards: examples, those dropped by rule, and the recipe's counts of the others."""
        dropped, counts = Counter[str](), Counter[str]()
        for shard in self.taken_over:
            dropped.update(shard.dropped)
            counts.update(shard.counts)
        return sum(shard.examples for shard in self.taken_over), dropped, counts


def _part(examples: pl.DataFrame) -> pl.Expr:
    """The name of the part of each example."""
    return pl.col("part") if "part" in examples.columns else pl.lit(TRAIN)


def _parts(examples: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    """The examples of each part by its name."""
    if "part" not in examples.columns:
        return [(TRAIN, examples)]
    return [(str(name), frame) for (name,), frame in examples.partition_by("part", as_dict=True, maintain_order=True).items()]


def _fingerprints(examples: pl.DataFrame, about: Sequence[str], ends: Sequence[int], settings: str) -> Iterator[str]:
    """A digest of everything that the bytes of each shard depend on."""
    columns = [np.ascontiguousarray(_numbers(examples[name])) for name in about]
    start = 0
    for end in ends:
        digest = hashlib.sha256(settings.encode())
        for column in columns:
            digest.update(column[start:end].tobytes())
        yield digest.hexdigest()
        start = end


def _numbers(values: pl.Series) -> npt.NDArray[Any]:
    """Numbers, with null as a number of its own."""
    if values.dtype == pl.Float64:
        return values.fill_null(float("nan")).to_numpy()
    return values.cast(pl.Int64).fill_null(-1).to_numpy() if values.dtype != pl.UInt64 else values.fill_null(0).to_numpy()
