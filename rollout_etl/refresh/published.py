"""Whether the files of a version are still what they were when it was published."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rollout_etl.errors import RolloutETLError, UnreadableError
from rollout_etl.plain_text import counted
from rollout_etl.refresh.fingerprints import Fingerprints
from rollout_etl.refresh.versions import Versions


class Published:
    """Digests of published files: a file is only read again if the file system reports a change of it."""

    def __init__(self, versions: Versions) -> None:
        self._versions = versions
        self._digests = Fingerprints(versions.state / "published.json")

    def damaged(self, record: Mapping[str, Any]) -> list[Path]:
        """Files of a version that are missing, or are not what was written."""
        return [path for path, digest in self._files(record) if not self._holds(path, digest)]

    def damaged_in_use(self, used: Mapping[str, Any], newest: Mapping[str, Any]) -> list[Path]:
        """Damaged files of the version in use, if a refresh makes them anew. Raises `UnreadableError` if it does not, after a rollback."""
        damaged = self.damaged(used)
        if damaged and used["version"] != newest["version"]:
            raise UnreadableError(f"{said(damaged)}: go back to another version with rollout-etl rollback")
        return damaged

    def note(self, record: Mapping[str, Any]) -> None:
        """Save the digests of a version that was published just now."""
        with contextlib.suppress(OSError):
            for path, digest in self._files(record):
                self._digests.note(os.path.abspath(path), digest)
        self.save()

    def save(self) -> None:
        """Save the digests, if any is new. Without them, files are read again."""
        with contextlib.suppress(RolloutETLError, OSError):
            self._digests.save()

    def _holds(self, path: Path, digest: str) -> bool:
        try:
            return self._digests.of(os.path.abspath(path)) == digest
        except UnreadableError:
            return False

    def _files(self, record: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
        folder = self._versions.path(record["version"])
        for entry in record["outputs"].values():
            yield from ((folder / name, digest) for name, digest in entry["files"].items())


def said(damaged: Sequence[Path]) -> str:
    """Which files are damaged."""
    more = f" (and {counted(len(damaged) - 1, 'more file')} there)" if len(damaged) > 1 else ""
    return f"{damaged[0]}{more} is missing or damaged"
