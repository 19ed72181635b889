"""Where the tasks of a run are done: in this process, or on a Ray cluster. Both do the same tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol


class Engine(Protocol):
    """Does tasks."""

    def run(self, task: Callable[..., int], arguments: Iterable[tuple[Any, ...]]) -> Iterator[int]:
        """`task(*arguments)` for each of the arguments, in any order; what it returns, as soon as it is done. Raises what a task raises."""
