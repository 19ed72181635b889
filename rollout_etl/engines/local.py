"""Tasks one after the other in this process: each uses all of its threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any


class Local:
    """Does tasks here."""

    def run(self, task: Callable[..., int], arguments: Iterable[tuple[Any, ...]]) -> Iterator[int]:
        """See `Engine`."""
        for each in arguments:
            yield task(*each)
