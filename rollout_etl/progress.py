"""Progress of work, reported through `logging`: the logger `rollout_etl` gets records for every stage.

Records have an attribute `event`, `begin`, `advance` (at most five a second) or `end`, and an attribute `stage`, the `Stage` itself.
`begin` and `end` are of level INFO, `advance` is of level DEBUG. Nothing is shown unless there is a handler.
"""

from __future__ import annotations

import logging
import resource
import sys
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")
LOG = logging.getLogger("rollout_etl")
_TOLD_EVERY = 0.2


def peak_memory() -> int:
    """Largest resident memory of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class Stage:
    """A stage of work, used as a context manager."""

    def __init__(self, name: str, total_bytes: int | None = None, told: bool = True) -> None:
        """A stage that is part of another one need not be `told` (reported)."""
        self.name, self._is_told = name, told
        self.total_bytes = total_bytes
        """Bytes to read, if known in advance."""
        self.bytes = self.rows = 0
        self.waited = 0.0
        """Seconds spent waiting for what the stage reads."""
        self._start = self._told = time.monotonic()
        self._cpu_start = time.process_time()

    @property
    def seconds(self) -> float:
        """Seconds since the stage began."""
        return time.monotonic() - self._start

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds to the end, at the rate so far; None if the total is not known."""
        if not self.total_bytes or not self.bytes:
            return None
        return max(0.0, self.seconds * (self.total_bytes / self.bytes - 1))

    def advance(self, rows: int = 0, bytes: int = 0) -> None:
        """Add to the work that is done."""
        self.rows += rows
        self.bytes += bytes
        now = time.monotonic()
        if now - self._told > _TOLD_EVERY:
            self._told = now
            self._tell(logging.DEBUG, "advance")

    def waiting(self, items: Iterator[T]) -> Iterator[T]:
        """The same items, counting the time until each arrives as waiting."""
        while True:
            start = time.monotonic()
            try:
                item = next(items)
            except StopIteration:
                return
            finally:
                self.waited += time.monotonic() - start
            yield item

    def to_json(self) -> dict[str, Any]:
        """Measures of the stage: seconds, bytes, rows. `cpu_seconds` and `peak_memory` are those of the whole process."""
        return {
            "stage": self.name,
            "rows": self.rows,
            "bytes": self.bytes,
            "total_bytes": self.total_bytes,
            "seconds": round(self.seconds, 3),
            "seconds_left": None if self.seconds_left is None else round(self.seconds_left, 1),
            "waited_seconds": round(self.waited, 3),
            "cpu_seconds": round(time.process_time() - self._cpu_start, 3),
            "peak_memory": peak_memory(),
        }

    def _tell(self, level: int, event: str) -> None:
        if self._is_told and LOG.isEnabledFor(level):
            LOG.log(level, "%s %s", event, self.name, extra={"event": event, "stage": self})

    def __enter__(self) -> Self:
        self._tell(logging.INFO, "begin")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._tell(logging.INFO, "end")
