"""How much memory a run may use, and whether it would need more."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rollout_etl.errors import UsageError
from rollout_etl.publish.parts import BUCKETS
from rollout_etl.read.inputs import Input
from rollout_etl.sizes import bytes_of, spelt

if TYPE_CHECKING:
    from rollout_etl.read.scan import Rollouts

_CGROUPS = Path("/sys/fs/cgroup")
SMALLEST = 512_000_000
"""Less than the program and its libraries take."""
_UNPACKED = {".jsonl.gz": 6, ".jsonl.zst": 8, ".parquet": 6}
"""Rough ratio of the size of the rollouts to that of their file."""
NARROW_BYTES = 400
"""Memory per rollout while groups are decided: keys, reward, attempt, place."""
MOST_BUCKETS = 256
_PROGRAM_BYTES, _STATISTICS_BYTES = 450_000_000, 250
"""Memory of the program while it reads, and per rollout for statistics."""
_HELD = 2.5
"""Memory for an input whose payload is held, as a multiple of the bytes of its lines, including intermediate results."""


def limit_of(text: str) -> int:
    """`--memory-limit` as bytes. Raises `UsageError` for a text that is not a size, and for less than `SMALLEST`."""
    size = bytes_of("--memory-limit", text)
    if size < SMALLEST:
        raise UsageError(f"--memory-limit {text}: the program alone takes {SMALLEST // 10**6}MB")
    return size


def available(root: Path = _CGROUPS, own: Path = Path("/proc/self/cgroup")) -> int:
    """Bytes of memory of this machine, or of the container, job or service (cgroup v2 or v1) that this process runs in."""
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in _limit_files(root, own):
        with contextlib.suppress(OSError):
            text = path.read_text().strip()
            # "max" means no limit, and so does the largest number of pages in version 1.
            sizes += [int(text)] if text.isdigit() else []
    return min(sizes)


def _limit_files(root: Path, own: Path) -> Iterator[Path]:
    """Files that may hold a limit: those of this process's group and of all groups around it."""
    groups = [("", "/"), ("memory", "/")]
    with contextlib.suppress(OSError):
        groups += [(kinds, path) for _, kinds, path in (line.split(":", 2) for line in own.read_text().splitlines())]
    for kinds, path in groups:
        if kinds in ("", "memory"):
            folder, name = (root, "memory.max") if kinds == "" else (root / "memory", "memory.limit_in_bytes")
            inner = folder / path.lstrip("/")
            yield from (at / name for at in (inner, *inner.parents) if at.is_relative_to(folder))


def default_limit() -> int:
    """Half of the memory: written data waits in the page cache, and other programs run on the machine."""
    return max(available() // 2, SMALLEST)


def unpacked_bytes(inputs: Iterable[Input]) -> int:
    """Bytes of the lines of the inputs, estimated for compressed files; the size of remote files is not known."""
    return sum(_size(item) for item in inputs)


def _size(item: Input) -> int:
    if item.stored is not None:
        # A folder counts with its first source.
        return 6 * sum(os.path.getsize(path) for path in item.stored.part_files) if item.number == 0 else 0
    if item.is_remote:
        return 0
    return os.path.getsize(item.local_path or item.path) * _UNPACKED.get(item.suffix, 1)


def check_statistics(limit: int, compared: Iterable[Rollouts]) -> None:
    """Raise `UsageError` if statistics of the rollouts would need more than `limit`."""
    count = sum(unpacked_bytes(each.inputs) / each.glimpse.bytes_per_rollout for each in compared)
    needed = int(_PROGRAM_BYTES + _STATISTICS_BYTES * count)
    if needed > limit:
        raise UsageError(f"statistics of about {count / 1e6:.1f} million rollouts need {spelt(needed)} of memory, more than --memory-limit {spelt(limit)}")


def shuffle_buckets(limit: int, inputs: Iterable[Input]) -> int:
    """Number of buckets in which examples are shuffled, one in memory at a time. The row of a rollout is about as long as its line."""
    return min(max(16 * unpacked_bytes(inputs) // limit, BUCKETS), MOST_BUCKETS)


def fits(limit: int, input_bytes: int, bytes_per_rollout: float, per: Literal["rollout", "pair", "prompt"], narrow: bool) -> bool:
    """Whether a run stays within `limit`: rollouts are streamed, groups need narrow columns (`narrow`), and pairs also their messages."""
    held = NARROW_BYTES * input_bytes / max(bytes_per_rollout, 1.0) if narrow else 0.0
    return held + (_HELD * input_bytes if per == "pair" else 0.0) <= limit / 2
