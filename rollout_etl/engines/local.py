"""Tasks one after the other in this process; each uses all threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any


class Local:
    """Executes tasks in this process."""

    def run(self, task: Callable[..., int], arguments: Iterable[tuple[Any, ...]]) -> Iterator[int]:
        """See `Engine`."""
        for each in arguments:
            yield task(*each)
