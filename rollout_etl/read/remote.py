"""Lines of files behind URLs. If the scheme gives bytes, bad lines are recognised as in local files."""

from __future__ import annotations

import http.client
import io
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import Request, url2pathname, urlopen

import numpy as np
import pyarrow as pa

_STORES = ("s3", "s3a", "gs", "gcs", "az", "azure", "adl", "abfs", "abfss", "hf")
"""Schemes that Polars reads."""
_TIMEOUT_SECONDS = 60
PAUSES = (0.3, 1.0, 3.0)
"""Seconds to wait before each further try."""
_PASSING = (408, 425, 429, 500, 502, 503, 504)
"""HTTP status codes after which another try may succeed."""


def opened(url: str) -> Any:
    """The bytes of a `file`, `http` or `https` URL as a stream, None for those of object stores. Raises `OSError`."""
    scheme = urlsplit(url).scheme.lower()
    if scheme == "file":
        return io.FileIO(url2pathname(urlsplit(url).path))
    if scheme in ("http", "https"):
        return io.BufferedReader(_Body(url), 1 << 20)
    if scheme not in _STORES:
        raise OSError(f"supported URLs are file, http, https, {', '.join(_STORES)}; save the file to this machine first")
    return None


class _Body(io.RawIOBase):
    """The content of a URL. A broken connection is resumed if the server sends ranges of the same file."""

    def __init__(self, url: str) -> None:
        # URLs copied from a browser may contain spaces and letters that are not ASCII.
        self._url = quote(url, safe="%/:?#[]@!$&'()*+,;=~")
        self._at = self._stalls = 0
        self._answer = self._asked()
        self._length = self._answer.length
        self._version = _version(self._answer)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        while True:
            try:
                count = self._answer.readinto(buffer)
                # To `http.client`, a broken connection looks like the end.
                if count or not len(buffer) or self._length is None or self._at == self._length:
                    self._at += count
                    self._stalls = 0 if count else self._stalls
                    return count
                reason = f"the connection broke {self._length - self._at} bytes before the end"
            except (http.client.HTTPException, OSError) as error:
                reason = f"the connection broke: {error}"
            self._go_on(reason)

    def _go_on(self, reason: str) -> None:
        """Request the rest. Raises `OSError` if it may not be the rest of the same file."""
        self._answer.close()
        self._stalls += 1
        if self._version is None or self._stalls > len(PAUSES):
            raise OSError(reason)
        self._answer = self._asked({"Range": f"bytes={self._at}-", "If-Range": self._version})
        if _version(self._answer) != self._version:
            raise OSError("the file changed while it was being read")
        if self._answer.status != http.client.PARTIAL_CONTENT:
            raise OSError(reason)

    def _asked(self, headers: Mapping[str, str] | None = None) -> http.client.HTTPResponse:
        for pause in (*PAUSES, None):
            try:
                answer: http.client.HTTPResponse = urlopen(Request(self._url, headers=dict(headers or {})), timeout=_TIMEOUT_SECONDS)
                return answer
            except HTTPError as error:
                # The error holds the connection.
                error.close()
                if pause is None or error.code not in _PASSING:
                    raise OSError(f"HTTP {error.code} {error.reason}") from None
            except (URLError, TimeoutError, ConnectionError, http.client.HTTPException) as error:
                if pause is None:
                    cause = error.reason if isinstance(error, URLError) else error
                    raise OSError(getattr(cause, "strerror", None) or str(cause)) from error
            except ValueError as error:
                raise OSError(str(error)) from error
            time.sleep(pause)
        raise AssertionError

    def close(self) -> None:
        self._answer.close()
        super().close()


def _version(answer: http.client.HTTPResponse) -> str | None:
    """The tag or time that identifies a state of the file; weak tags do not."""
    tag = answer.headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified")


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
