"""Working ahead: threads make frames while earlier ones are still in use, and the frames are put back into order."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator
from typing import TypeVar

import numpy as np
import polars as pl

from rollout_etl.errors import UnreadableError

T = TypeVar("T")
_END = object()
_DEPTH = 2


def read_ahead(items: Iterator[T]) -> Iterator[T]:
    """The items in their order, with up to `_DEPTH` of them made in advance. Errors of the iterator are raised here."""
    made: queue.Queue[object] = queue.Queue(maxsize=_DEPTH)
    failure: list[BaseException] = []
    unwanted = threading.Event()

    def make() -> None:
        try:
            for item in items:
                while not unwanted.is_set():
                    try:
                        made.put(item, timeout=0.1)
                        break
                    except queue.Full:
                        continue
                if unwanted.is_set():
                    return
        except BaseException as error:
            failure.append(error)
        finally:
            ended = False
            while not (ended or unwanted.is_set()):
                with contextlib.suppress(queue.Full):
                    made.put(_END, timeout=0.1)
                    ended = True

    maker = threading.Thread(target=make, name="read-ahead", daemon=True)
    maker.start()
    try:
        while (item := made.get()) is not _END:
            yield item  # type: ignore[misc]
        if failure:
            raise failure[0]
    finally:
        unwanted.set()
        maker.join()


class RowOrder:
    """Puts frames into the order of their column `row`, because threads finish in any order.

    Rows count from 0 without gaps, or are those of `rows`, which are sorted.
    """

    def __init__(self, rows: np.ndarray | None = None) -> None:
        self._rows = rows
        self._released = 0
        self._waiting: list[pl.DataFrame] = []

    @property
    def next_row(self) -> int:
        """The row that comes next."""
        if self._rows is None or self._released >= len(self._rows):
            return self._released
        return int(self._rows[self._released])

    def released(self, frame: pl.DataFrame) -> Iterator[pl.DataFrame]:
        """The rows that can be returned after `frame` has arrived: all up to the first that is still missing."""
        together = pl.concat([*self._waiting, frame]) if self._waiting else frame
        together = together if together["row"].is_sorted() else together.sort("row")
        found = together["row"].to_numpy()
        span = slice(self._released, self._released + len(found))
        expected = np.arange(span.start, span.stop) if self._rows is None else self._rows[span]
        wrong = np.flatnonzero(found[: len(expected)] != expected)
        ready = int(wrong[0]) if len(wrong) else len(expected)
        self._released += ready
        self._waiting = [together[ready:]] if ready < len(together) else []
        if ready:
            yield together[:ready]

    def forget_waiting(self) -> None:
        """Drop rows that were not returned: they are read again."""
        self._waiting = []

    def check_complete(self) -> None:
        """Raise `UnreadableError` if rows are left over, or if some of `rows` are missing."""
        if self._waiting or (self._rows is not None and self._released != len(self._rows)):
            raise UnreadableError(f"the input changed while it was being read: row {self.next_row} is not where it was")
