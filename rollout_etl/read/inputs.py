"""From paths, folders, globs and URLs to the files that are read, in a fixed order."""

from __future__ import annotations

import contextlib
import glob
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from rollout_etl.errors import UnreadableError, UsageError
from rollout_etl.own_files import begins_as, is_own_folder, is_own_place
from rollout_etl.plain_text import readable_name
from rollout_etl.read.stored import Stored, is_stored, load

SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".json", ".parquet")
MANIFEST_SUFFIX = ".manifest.json"
_SIDECAR = re.compile(r"_(materialized_inputs|failures|reward_profiling|agent_metrics|aggregate_metrics|metrics)$")
_SHARD = re.compile(r"[-_.]?(?:(?:shard|part|rank|worker|chunk)[-_]?\d+|\d+-of-\d+)$")
NAMED = re.compile(r"([A-Za-z][\w.-]*)=(.+)", re.DOTALL)
_URL = re.compile(r"^[a-z][a-z0-9+.-]*://", re.IGNORECASE)


@dataclass(frozen=True)
class Input:
    """A file to read."""

    path: str
    stored: Stored | None = None
    """The ingested folder that holds the lines of the file; the file itself is not opened."""
    number: int = 0
    """The number of the source in that folder."""
    name: str | None = None
    """`NAME` of `NAME=PATH`: the `task_name` of its rollouts, and part of their keys."""
    start: int = 0
    end: int | None = None
    """If the file is read in ranges, only the lines between these bytes; None: to its end."""

    @property
    def is_remote(self) -> bool:
        return self.stored is None and bool(_URL.match(self.path))

    @property
    def local_path(self) -> str | None:
        """The path of the file on this machine, None for a remote file."""
        if self.path.lower().startswith("file://"):
            return unquote(urlsplit(self.path).path)
        return None if self.is_remote else self.path

    @property
    def is_plain(self) -> bool:
        """Whether the file is local and uncompressed, so that each line has a byte offset in it."""
        return self.stored is None and not self.is_remote and self.suffix == ".jsonl"

    @property
    def _file(self) -> str:
        """The path without the query of a URL; in the name of a local file `?` has no special meaning."""
        return self.path.split("?")[0] if _URL.match(self.path) else self.path

    @property
    def suffix(self) -> str:
        """The one of `SUFFIXES` that the name ends with; `.jsonl` for names that end otherwise."""
        name = self._file.lower()
        for suffix in sorted(SUFFIXES, key=len, reverse=True):
            if name.endswith(suffix):
                return suffix
        return next((f".jsonl{end}" for end in (".gz", ".zst") if name.endswith(end)), ".jsonl")

    @property
    def stem(self) -> str:
        """The name without folder and suffix."""
        name = self._file.rstrip("/").rsplit("/", 1)[-1]
        return name[: -len(self.suffix)] if name.lower().endswith(self.suffix) else name.rsplit(".", 1)[0]

    @property
    def namespace(self) -> str:
        """The stem without shard number: shards of one run share their task indices."""
        stem = _SHARD.sub("", self.stem) or self.stem
        return stem if self.name is None else f"{self.name}={stem}"

    @property
    def task_inputs(self) -> str | None:
        """Path of the materialized inputs next to the file, or that were ingested with it."""
        if self.stored is not None:
            beside_then = self.stored.sources[self.number].task_inputs
            return None if beside_then is None else os.path.join(self.stored.folder, beside_then)
        if self.is_remote:
            return None
        beside = Path(self.path).with_name(f"{self.stem}_materialized_inputs.jsonl")
        return str(beside) if beside.is_file() and str(beside) != self.path else None


def _is_sidecar(path: str) -> bool:
    """Whether a file is one of those that NeMo Gym writes next to rollouts, by its name."""
    return bool(_SIDECAR.search(Input(path).stem))


def _is_own(path: str) -> bool:
    """Whether this program wrote a file, or ingested rollouts into it."""
    if path.endswith(MANIFEST_SUFFIX) or is_stored(os.path.dirname(path)):
        return True
    if any(os.path.exists(f"{one}{MANIFEST_SUFFIX}") for one in (path, os.path.dirname(path))):
        return True
    # A file that cannot be read is reported when it is read.
    with contextlib.suppress(OSError):
        return path.lower().endswith((".json", ".jsonl")) and os.path.isfile(path) and begins_as(path, "quarantine", "profile")
    return False


def _in_folder(folder: str) -> list[str]:
    def refuse(error: OSError) -> None:
        raise UnreadableError(f"cannot read {error.filename}: {error.strerror}")

    found = []
    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not is_own_folder(os.path.join(parent, name)))
        found += [os.path.join(parent, name) for name in sorted(names) if name.lower().endswith(SUFFIXES)]
    return found


def each_path(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[str]:
    """One or several paths, as texts. Raises `UsageError` for a value that is not a path."""
    given = [paths] if isinstance(paths, str | os.PathLike) else paths
    if not isinstance(given, Iterable):
        raise UsageError(f"inputs must be a path or a list of paths, not {given!r}")
    found = list(given)
    for path in found:
        if not isinstance(path, str | os.PathLike):
            raise UsageError(f"the input {path!r} is not a path")
    return [os.fspath(path) for path in found]


def find_inputs(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> tuple[list[Input], list[str]]:
    """The files of `paths`, each once, and notes on files that were left out. With `NAME=PATH`, the rollouts get NAME as their task name.

    Raises `UsageError` for a path that does not exist or holds nothing to read.
    """
    given = each_path(paths)
    if not given:
        raise UsageError("no input given")
    if not all(given):
        raise UsageError("an input is an empty text: a variable may not be set")
    found: dict[str, Input] = {}
    sidecars: list[str] = []
    own: list[str] = []
    special: list[str] = []
    for name, path in map(_named, given):
        if is_stored(path):
            stored = load(path)
            for number, source in enumerate(stored.sources):
                _add(found, f"{os.path.realpath(path)}#{number}", Input(source.path, stored, number, name))
            continue
        named, searched = _expand(path)
        kept = list(named)
        for p in searched:
            if os.path.exists(p) and not os.path.isfile(p):
                special.append(p)
                continue
            (sidecars if _is_sidecar(p) else own if _is_own(p) else kept).append(p)
        if not kept:
            others = " but sidecars and what rollout-etl wrote" if searched else ""
            raise UsageError(f"nothing to read in {path}: no file ends with {', '.join(SUFFIXES)}{others}")
        for p in kept:
            _add(found, p if _URL.match(p) else os.path.realpath(p), Input(p, name=name))
    notes = [*_note(sidecars, "sidecar file(s)"), *_note(own, "file(s) that rollout-etl wrote"), *_note(special, "pipe(s) or device(s)", "save one to a file")]
    return list(found.values()), notes


def _add(found: dict[str, Input], key: str, item: Input) -> None:
    """Add an input, once; a name is more than none. Raises `UsageError` for one that has another name already, or a file name that is no text."""
    if (shown := readable_name(item.path)) != item.path:
        raise UsageError(f"{shown} is not UTF-8; give the file another name")
    known = found.setdefault(key, item)
    if known.name is None:
        found[key] = item
    elif item.name not in (None, known.name):
        raise UsageError(f"{item.path} is named twice, as {known.name} and as {item.name}")


def searched_note(paths: Iterable[str], output: str | os.PathLike[str]) -> list[str]:
    """A note for an output in a folder that is searched for inputs, if a later search would read it as rollouts."""
    place = os.path.realpath(output)
    for folder in [folder for _, folder in map(_named, paths) if os.path.isdir(folder) and not is_stored(folder)]:
        if place.lower().endswith(SUFFIXES) and place.startswith(os.path.join(os.path.realpath(folder), "")):
            return [f"{output} lies in {folder}, which was searched for rollouts: the next search will find it there"]
    return []


Stamp = tuple[int, int, int]


def stamps_of(inputs: Iterable[Input]) -> dict[str, Stamp]:
    """Size, time and inode of local files, to notice changes."""
    return {path: stamp for item in inputs if item.stored is None and (path := item.local_path) is not None and (stamp := _stamp(path)) is not None}


def check_stamps(stamps: Mapping[str, Stamp]) -> None:
    """Raise `UnreadableError` for a file that has changed or is gone."""
    for path, stamp in stamps.items():
        found = _stamp(path)
        if found != stamp:
            raise UnreadableError(f"{path} {'disappeared' if found is None else 'changed'} while it was being read; run again when it is complete")


def _stamp(path: str) -> Stamp | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino


def _named(path: str) -> tuple[str | None, str]:
    """Name and path of `NAME=PATH`; if the whole text is an existing path, it has no name."""
    match = None if os.path.exists(path) else NAMED.fullmatch(path)
    return (match[1], match[2]) if match else (None, path)


def _expand(path: str) -> tuple[list[str], list[str]]:
    """Files that are named explicitly, and files that were found by searching."""
    if _URL.match(path):
        try:
            urlsplit(path)
        except ValueError as error:
            raise UsageError(f"{path} is not a URL: {error}") from error
        return [path], []
    if os.path.isdir(path):
        return [], _in_folder(path)
    if os.path.exists(path):
        if not os.path.isfile(path):
            raise UsageError(f"{path} is not a regular file: rollouts are read more than once, so save a pipe to a file first")
        if path.endswith(".parquet") and is_stored(os.path.dirname(path)):
            raise UsageError(f"{path} is part of an ingested folder: name the folder {os.path.dirname(path) or '.'}")
        if not os.access(path, os.R_OK):
            raise UnreadableError(f"cannot read {path}: permission denied")
        return [path], []
    if any(c in path for c in "*?["):
        matches = sorted(glob.glob(path, recursive=True))
        if not matches:
            raise UsageError(f"no file or folder matches {path}")
        return [], [f for m in matches if not is_own_place(m) for f in (_in_folder(m) if os.path.isdir(m) else [m])]
    raise UsageError(f"no such file or folder: {path}")


def _note(left_out: Sequence[str], what: str, way_out: str = "name a file") -> list[str]:
    if not left_out:
        return []
    shown = ", ".join(os.path.basename(p) for p in left_out[:3]) + (", ..." if len(left_out) > 3 else "")
    return [f"left out {len(left_out)} {what}: {shown} ({way_out} to read it nevertheless)"]
