"""Standard streams that take whatever a command says: closed, of another encoding, or read by a program that has ended."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Literal, TextIO

from rollout_etl.errors import WriteError


def prepare() -> None:
    """Make sure that saying something cannot fail for what is said.

    A stream that was closed leads nowhere: without one, the next file that is opened would take its number. To a terminal, what its
    encoding has no character for is `?`; to files and programs everything is UTF-8, as in all files that are written.
    """
    sys.stdin = sys.stdin or _nowhere("r")
    sys.stdout = sys.stdout or _nowhere("w")
    sys.stderr = sys.stderr or _nowhere("w")
    for stream, otherwise in ((sys.stdout, "surrogatepass"), (sys.stderr, "backslashreplace")):
        # Tests and notebooks put other things in their place.
        if isinstance(stream, io.TextIOWrapper):
            if stream.isatty():
                stream.reconfigure(errors="replace")
            else:
                stream.reconfigure(encoding="utf-8", errors=otherwise)


def _nowhere(mode: Literal["r", "w"]) -> TextIO:
    return open(os.devnull, mode, encoding="utf-8")


@contextlib.contextmanager
def saying() -> Iterator[None]:
    """Raises `WriteError` where there is no room for what is said, and `BrokenPipeError` where nobody listens any more."""
    try:
        yield
        sys.stderr.flush()
        sys.stdout.flush()
    except BrokenPipeError:
        _forget(sys.stdout)
        raise
    except OSError as error:
        _forget(sys.stdout)
        raise WriteError(f"cannot write to standard output: {error.strerror}") from error


def flush() -> None:
    """Bring what was said on its way. Raises what `saying` does."""
    with saying():
        pass


def _forget(stream: TextIO) -> None:
    """What is left in a stream would fail again, with a traceback, when Python ends."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
