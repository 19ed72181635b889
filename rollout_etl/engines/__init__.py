"""Where the tasks of a run are executed: in this process, or on a Ray cluster. The tasks are the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol


class Engine(Protocol):
    """Executes tasks."""

    def run(self, task: Callable[..., int], arguments: Iterable[tuple[Any, ...]]) -> Iterator[int]:
        """Call `task(*arguments)` for each of the arguments, in any order, and yield each result as soon as it is there. Raises what a task raises."""
