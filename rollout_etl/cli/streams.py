"""Standard streams that accept all output, even if they are closed, have another encoding, or their reader has ended."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Literal, TextIO

from rollout_etl.errors import WriteError


def prepare() -> None:
    """Make sure that output cannot fail because of its content.

    A closed stream is replaced by the null device: otherwise, the next file that is opened would get its number. On a terminal,
    characters that its encoding lacks become `?`; files and programs get UTF-8, as in all files that are written.
    """
    sys.stdin = sys.stdin or _nowhere("r")
    sys.stdout = sys.stdout or _nowhere("w")
    sys.stderr = sys.stderr or _nowhere("w")
    for stream, otherwise in ((sys.stdout, "surrogatepass"), (sys.stderr, "backslashreplace")):
        # Tests and notebooks replace them with other objects.
        if isinstance(stream, io.TextIOWrapper):
            if stream.isatty():
                stream.reconfigure(errors="replace")
            else:
                stream.reconfigure(encoding="utf-8", errors=otherwise)


def _nowhere(mode: Literal["r", "w"]) -> TextIO:
    return open(os.devnull, mode, encoding="utf-8")


@contextlib.contextmanager
def saying() -> Iterator[None]:
    """Raises `WriteError` if the output cannot be written, and `BrokenPipeError` if its reader has ended."""
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
    """Flush the streams. Raises what `saying` does."""
    with saying():
        pass


def _forget(stream: TextIO) -> None:
    """Discard what is left in a stream, which would fail again, with a traceback, when Python ends."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
