"""Blocks of whole lines from a stream of bytes, and where lines begin in them. Text is not parsed here: a line ends with a newline byte."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

BLOCK_BYTES = 1 << 21
"""Small enough to stay in the processor's cache, large enough that Python's share is small."""
_GRAIN = 1 << 18
"""Memory is allocated in multiples of this size: freed memory is only reused for blocks that are not larger, and new memory costs more than reading."""
_LONGEST_LINE = (1 << 31) - 1


class Stream(Protocol):
    def readinto(self, buffer: memoryview, /) -> int | None: ...


def blocks(stream: Stream) -> Iterator[np.ndarray]:
    """Blocks of whole lines; only the last may lack its newline."""
    carry = np.empty(0, dtype=np.uint8)
    size = BLOCK_BYTES
    while True:
        room = np.empty(-(-(len(carry) + size) // _GRAIN) * _GRAIN, dtype=np.uint8)
        block = room[: len(carry) + size]
        block[: len(carry)] = carry
        view, filled = block.data, len(carry)
        while filled < len(block) and (count := stream.readinto(view[filled:])):
            filled += count
        if filled < len(block):
            if filled:
                yield block[:filled]
            return
        cut = _last_newline(block, len(carry)) + 1
        if cut:
            yield block[:cut]
            carry, size = block[cut:], BLOCK_BYTES
        else:
            carry, size = block, min(size * 2, 1 << 28)
            if len(carry) > _LONGEST_LINE:
                raise OSError("a line is longer than 2 GB")


def _last_newline(block: np.ndarray, start: int) -> int:
    """Position of the last newline at or after `start`, -1 without one. Searched from the end, because lines are shorter than blocks."""
    end, step = len(block), 1 << 14
    while end > start:
        low = max(start, end - step)
        found = np.flatnonzero(block[low:end] == 10)
        if len(found):
            return low + int(found[-1])
        end, step = low, step * 4
    return -1


def _newlines(block: np.ndarray) -> np.ndarray:
    """Positions of all newlines, in pieces that stay in the cache."""
    piece = 1 << 18
    return np.concatenate([np.flatnonzero(block[low : low + piece] == 10) + low for low in range(0, len(block), piece)])


def offsets_of(block: np.ndarray) -> np.ndarray:
    """Where the lines of a block begin, and its end."""
    ends = _newlines(block) + 1
    if len(ends) == 0 or ends[-1] != len(block):
        ends = np.append(ends, len(block))
    offsets = np.zeros(len(ends) + 1, dtype=np.int32)
    offsets[1:] = ends
    return offsets


def blank_lines(block: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Positions of lines that hold only white space. Few lines start with white space, so few are checked."""
    starts = block[offsets[:-1]]
    suspects = np.flatnonzero((starts == 10) | (starts == 13) | (starts == 32) | (starts == 9))
    blank = [i for i in suspects if not block[offsets[i] : offsets[i + 1]].tobytes().strip(b" \t\r\n")]
    return np.array(blank, dtype=np.int64)
