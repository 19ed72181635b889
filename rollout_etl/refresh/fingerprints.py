"""Identifying inputs by content, since names and times of files are not reliable."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rollout_etl.errors import UnreadableError
from rollout_etl.publish.files import StagedFile, sha256_of
from rollout_etl.read.inputs import Input, find_inputs
from rollout_etl.read.stored import INDEX

_Stamp = tuple[int, int, int, int]


@dataclass(frozen=True)
class Source:
    """An input of a refresh."""

    path: str
    """What a run reads: a file or an ingested folder, with the name of its task if it has one."""
    sha256: str
    """Digest of its bytes and those of the task inputs next to it; empty for a remote file, whose content is not known."""
    bytes: int
    namespace: str = ""
    """The part of the file name that goes into the keys of its rollouts."""


class Fingerprints:
    """SHA-256 of files, remembered until the file system reports a change."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, tuple[_Stamp, str]] = {}
        self._seen: dict[str, tuple[_Stamp, str]] = {}
        try:
            loaded = json.loads(path.read_text(encoding="utf-8"))
            self._known = {name: ((stamp[0], stamp[1], stamp[2], stamp[3]), digest) for name, (stamp, digest) in loaded.items()}
        except (OSError, ValueError, TypeError, AttributeError, IndexError):
            # Only a cache: without it, files are read again.
            pass

    def of(self, path: str) -> str:
        """The digest of a file. Raises `UnreadableError` if it cannot be read."""
        try:
            stamp = _stamp(path)
            known = self._seen.get(path) or self._known.get(path)
            if known is None or known[0] != stamp:
                known = (stamp, sha256_of(path))
        except OSError as error:
            raise UnreadableError(f"cannot read {path}: {error.strerror}") from error
        self._seen[path] = known
        return known[1]

    def note(self, path: str, digest: str) -> None:
        """Remember the digest of a file that was written just now. Raises `OSError`."""
        self._seen[path] = (_stamp(path), digest)

    def size(self, path: str) -> int:
        """Size in bytes of a file whose digest has been computed."""
        return self._seen[path][0][0]

    def changed(self) -> list[str]:
        """Files that have changed since their digest was computed."""
        return [path for path, (stamp, _) in self._seen.items() if not os.path.exists(path) or _stamp(path) != stamp]

    def save(self) -> None:
        """Save the digests, if any is new."""
        if self._seen != self._known:
            with StagedFile(self._path) as file:
                file.write(json.dumps(self._seen).encode())
                file.finish()
                file.publish()


def _stamp(path: str) -> _Stamp:
    found = os.stat(path)
    # The change time cannot be set by programs, so a replaced file is noticed whatever its modification time.
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def sources_of(inputs: Sequence[str], fingerprints: Fingerprints) -> tuple[list[Source], list[str]]:
    """The inputs of a refresh in their order, each content once, and notes on what was left out."""
    found, notes = find_inputs(inputs)
    sources: dict[str, Source] = {}
    for item in found:
        if item.is_remote:
            sources.setdefault(item.path, Source(item.path, "", 0))
            continue
        path, files = _files_of(item)
        # Task inputs next to a file are part of its content.
        files += [item.task_inputs] if item.task_inputs and item.stored is None else []
        content = _together(fingerprints.of(file) for file in files)
        path = path if item.name is None else f"{item.name}={path}"
        namespace = item.namespace if item.stored is None else item.name or ""
        known = sources.setdefault(content, Source(path, content, sum(os.path.getsize(file) for file in files), namespace))
        if known.path != path:
            notes.append(f"left out {path}: it has the same content as {known.path}")
    return list(sources.values()), notes


def content_of(item: Input, fingerprints: Fingerprints) -> str:
    """The digest of a local input: of its bytes, or of the folder that it was ingested into."""
    return _together(fingerprints.of(file) for file in _files_of(item)[1])


def _files_of(item: Input) -> tuple[str, list[str]]:
    """What a run reads for an input, and the files behind it."""
    if item.stored is None:
        return item.path, [item.path]
    return item.stored.folder, [os.path.join(item.stored.folder, INDEX), *item.stored.files]


def _together(digests: Iterable[str]) -> str:
    listed = list(digests)
    return listed[0] if len(listed) == 1 else hashlib.sha256("".join(listed).encode()).hexdigest()
