"""The input cut into ranges that can be read separately: pieces of one large file, or many small files together."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rollout_etl.errors import UnreadableError
from rollout_etl.read.inputs import Input
from rollout_etl.read.lines import Section

Range = tuple[Input, ...]
"""Whole files, or the one piece of a file."""
_BLOCK = 1 << 20


def cut(inputs: Sequence[Input], size: int) -> list[Range]:
    """Ranges of about `size` bytes in the order of the input, cut at line ends. Files that cannot be cut are kept whole."""
    ranges: list[Range] = []
    together: list[Input] = []
    held = 0
    for item in inputs:
        pieces = _pieces(item, size)
        if len(pieces) > 1:
            ranges += [*([tuple(together)] if together else []), *((piece,) for piece in pieces)]
            together, held = [], 0
            continue
        together.append(item)
        held += size if item.is_remote or item.stored is not None else os.path.getsize(item.local_path or item.path)
        if held >= size:
            ranges.append(tuple(together))
            together, held = [], 0
    return ranges + ([tuple(together)] if together else [])


def _pieces(item: Input, size: int) -> list[Input]:
    if item.is_remote or item.stored is not None or item.suffix != ".jsonl":
        return [item]
    try:
        end = os.path.getsize(item.path)
        starts = [0]
        for near in range(size, end, size):
            after = _line_start(item.path, max(near, starts[-1] + 1), end)
            if starts[-1] < after < end:
                starts.append(after)
    except OSError as error:
        raise UnreadableError(f"cannot read {item.path}: {error.strerror}") from error
    if len(starts) == 1:
        return [item]
    return [replace(item, start=start, end=stop) for start, stop in zip(starts, [*starts[1:], end], strict=True)]


def _line_start(path: str, near: int, end: int) -> int:
    """Where the first line begins at or after byte `near`."""
    with open(path, "rb", buffering=0) as file:
        file.seek(near - 1)
        while block := file.read(_BLOCK):
            at = block.find(b"\n")
            if at >= 0:
                return file.tell() - len(block) + at + 1
    return end


def count_lines(item: Input) -> int:
    """Number of newlines in a piece of a file. Raises `UnreadableError` if the file is gone."""
    assert item.end is not None
    count, buffer = 0, np.empty(_BLOCK, dtype=np.uint8)
    try:
        with Section(item.path, item.start, item.end) as file:
            while filled := file.readinto(buffer.data):
                count += int(np.count_nonzero(buffer[:filled] == 10))
    except OSError as error:
        raise UnreadableError(f"cannot read {item.path}: {error.strerror}") from error
    return count
