"""Ctrl-C while a query runs. DuckDB installs its own handler and often ignores the interrupt, so the signal is blocked in all threads,
and one thread waits for it and stops the query.

Threads inherit blocked signals, so `Interrupts` is entered before DuckDB, Polars and Arrow start theirs.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rollout_etl.explore.session import Session

_EVERY = 0.1


class Interrupts:
    """Inside this context, Ctrl-C stops the query of `session`, or raises `KeyboardInterrupt` if there is none yet.

    On systems that cannot wait for a signal (macOS, Windows), Ctrl-C is left to Python and DuckDB.
    """

    def __init__(self) -> None:
        self.session: Session | None = None
        self._ended, self._let_through = threading.Event(), threading.Event()
        self._works = hasattr(signal, "sigtimedwait") and threading.current_thread() is threading.main_thread()
        self._watcher = threading.Thread(target=self._watch, name="interrupts", daemon=True)

    def __enter__(self) -> Interrupts:
        if self._works:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            self._watcher.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._works:
            self._ended.set()
            self._watcher.join()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

    @contextlib.contextmanager
    def let_through(self) -> Iterator[None]:
        """Inside this context, Ctrl-C raises `KeyboardInterrupt` as usual: for the prompt."""
        if not self._works:
            yield
            return
        self._let_through.set()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            self._let_through.clear()

    def _watch(self) -> None:
        asked = False
        while not self._ended.is_set():
            if self._let_through.is_set():
                asked = False
                self._ended.wait(_EVERY)
                continue
            if signal.sigtimedwait({signal.SIGINT}, _EVERY) is not None:
                if self._let_through.is_set():
                    os.kill(os.getpid(), signal.SIGINT)
                    continue
                asked = True
                if self.session is None:
                    _thread.interrupt_main()
            # DuckDB forgets an interrupt that comes just before a query starts, so it is repeated until everything has ended.
            if asked and self.session is not None:
                with contextlib.suppress(Exception):
                    self.session.connection.interrupt()
