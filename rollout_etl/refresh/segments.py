"""Inputs as segments: stretches of files that are read once and identified by their content.

If lines are appended to a file, it consists of its old segments and a new one. Segments end after a newline, so an incomplete last line is
a separate segment. Each is identified by the digest of its file up to its end, and names the previous one.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from rollout_etl import __version__
from rollout_etl.read.canonical import Lookup, Style
from rollout_etl.read.inputs import Input, find_inputs
from rollout_etl.refresh.fingerprints import Fingerprints, content_of

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Segment:
    """A stretch of an input."""

    origin: str
    """What the columns of its rollouts depend on besides its lines: reading options, names, task inputs next to the file."""
    before: str
    """Digest of the file up to the start of the segment; empty for the first segment."""
    upto: str
    """Digest of the file up to the end of the segment."""
    begin: int
    end: int
    number: int = -1
    """Number in the store; -1 if it has to be read."""
    first: int = 0
    """Smallest row number in the store."""
    rows: int = 0
    """Lines that are not blank."""
    lines: int = 0
    """All lines."""

    def of(self, item: Input) -> Input:
        """The input for reading this segment."""
        return replace(item, start=self.begin, end=self.end) if item.is_plain else item


def origin_of(item: Input, style: Style, lookup: Lookup, task_inputs: str | None, fingerprints: Fingerprints) -> str:
    """What the columns of an input's rollouts depend on besides its lines."""
    if task_inputs is not None:
        tasks = [fingerprints.of(found.path) for found in find_inputs(task_inputs)[0]]
    else:
        tasks = [] if item.task_inputs is None else [fingerprints.of(item.task_inputs)]
    options = [__version__, style.think, style.whole_rows, lookup.ground_truth_field, lookup.group_by]
    spelt = json.dumps([*options, item.namespace, item.name, item.number, task_inputs is None, tasks])
    return hashlib.sha256(spelt.encode()).hexdigest()


def chain_of(item: Input, origin: str, known: Sequence[Segment], fingerprints: Fingerprints) -> list[Segment]:
    """The segments of an input in their order, from `known` if it has them. Raises `UnreadableError`."""
    by_end = {segment.upto: segment for segment in known if segment.origin == origin}
    digest = content_of(item, fingerprints)
    if found := _linked(digest, by_end):
        return found
    if not item.is_plain:
        return [Segment(origin, "", digest, 0, 0)]
    size = fingerprints.size(item.path)
    whole = _behind_last_newline(item.path, size)
    # An incomplete line that was read before may now be the beginning of a longer one.
    ends = _behind_newlines(item.path, {segment.end for segment in by_end.values() if 0 < segment.end < size})
    digests = {**_digests(item.path, {*ends, whole} - {size}), size: digest}
    old: list[Segment] = []
    for end in sorted(ends, reverse=True):
        if old := _linked(digests[end], by_end):
            break
    begin = old[-1].end if old else 0
    cuts = [begin, *sorted({end for end in (whole, size) if end > begin})]
    return old + [Segment(origin, digests[low] if low else "", digests[high], low, high) for low, high in pairwise(cuts)]


def _linked(digest: str, by_end: Mapping[str, Segment]) -> list[Segment]:
    """The chain of known segments that ends with a digest; empty if one is missing."""
    found: list[Segment] = []
    while digest:
        if digest not in by_end:
            return []
        found.insert(0, by_end[digest])
        digest = found[0].before
    return found


def _behind_newlines(path: str, ends: Iterable[int]) -> set[int]:
    """Those of the offsets that come right after a newline."""
    with open(path, "rb", buffering=0) as file:
        return {end for end in ends if os.pread(file.fileno(), 1, end - 1) == b"\n"}


def _behind_last_newline(path: str, size: int) -> int:
    """Where the last whole line ends, in bytes; 0 without one."""
    end = size
    with open(path, "rb") as file:
        while end > 0:
            begin = max(0, end - _BLOCK)
            file.seek(begin)
            if (at := file.read(end - begin).rfind(b"\n")) >= 0:
                return begin + at + 1
            end = begin
    return 0


def _digests(path: str, ends: Iterable[int]) -> dict[int, str]:
    """SHA-256 of a file up to each of these ends, in one pass."""
    found, digest, at = {}, hashlib.sha256(), 0
    with open(path, "rb", buffering=0) as file:
        for end in sorted(ends):
            while at < end and (block := file.read(min(_BLOCK, end - at))):
                digest.update(block)
                at += len(block)
            found[end] = digest.hexdigest()
    return found
