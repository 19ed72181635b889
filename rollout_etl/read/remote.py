"""Files behind URLs as lines: bytes where the scheme gives bytes, so that bad lines are told apart as in files of this machine."""

from __future__ import annotations

import http.client
import io
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import url2pathname, urlopen

import numpy as np
import pyarrow as pa

_TIMEOUT_SECONDS = 60


def opened(url: str) -> Any:
    """The bytes of a `file`, `http` or `https` URL as a stream, None for other schemes. Raises `OSError`."""
    scheme = urlsplit(url).scheme.lower()
    if scheme == "file":
        return io.FileIO(url2pathname(urlsplit(url).path))
    if scheme in ("http", "https"):
        try:
            return io.BufferedReader(_Body(urlopen(url, timeout=_TIMEOUT_SECONDS)), 1 << 20)
        except HTTPError as error:
            # The error holds the connection.
            error.close()
            raise OSError(f"HTTP {error.code} {error.reason}") from None
        except (http.client.HTTPException, ValueError) as error:
            raise OSError(str(error)) from error
    return None


class _Body(io.RawIOBase):
    """The body of an answer. A connection that breaks looks like an end to `http.client`; here it is an error."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self._answer = answer
        self._left = answer.length

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        try:
            count = self._answer.readinto(buffer)
        except http.client.HTTPException as error:
            raise OSError(f"the connection broke: {error}") from error
        if self._left is not None:
            self._left -= count
            if not count and self._left and len(buffer):
                raise OSError(f"the connection broke {self._left} bytes before the end")
        return count

    def close(self) -> None:
        self._answer.close()
        super().close()


def lines(url: str) -> Iterator[tuple[np.ndarray, pa.StringArray]]:
    """Line numbers and texts of what Polars reads from an object store. Raises `OSError`; bytes that are not UTF-8 are an error here."""
    import polars as pl
    from polars.exceptions import PolarsError

    first = 1
    try:
        for frame in pl.scan_lines(url).collect_batches(maintain_order=True):
            numbered = frame.with_row_index("number", offset=first)
            first += len(frame)
            kept = numbered.filter(pl.col("line").str.strip_chars(" \t\r\n") != "")
            yield kept["number"].cast(pl.Int64).to_numpy(), kept["line"].to_arrow(compat_level=pl.CompatLevel.oldest()).cast(pa.string())
    except PolarsError as error:
        raise OSError(str(error).splitlines()[0]) from error
