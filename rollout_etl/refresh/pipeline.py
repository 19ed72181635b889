"""The pipeline file: which rollouts, which training files, which gates.

    inputs = ["results/*.jsonl"]
    publish = "training"

    [[output]]
    file = "sft.jsonl"
    recipe = "sft"
    reward-threshold = 0.9

Options of outputs have the same names as on the command line. Paths are relative to the file; `${NAME}` is replaced from the
environment, and its value is not written anywhere.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rollout_etl.errors import UsageError
from rollout_etl.nearest import nearest
from rollout_etl.read.inputs import NAMED
from rollout_etl.refresh.gates import GATES, Bounds

_VARIABLE = re.compile(r"\$\{(\w+)\}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
TOP: dict[str, str] = {
    "inputs": "Files, folders and globs with rollouts, as on the command line.",
    "publish": "Folder for the versions; current inside it points to the one to use.",
    "keep-versions": "Number of versions to keep, besides the current one and pinned ones.",
    "pinned": "Numbers of versions that are never removed.",
    "options": "Options of all outputs, named as on the command line.",
    "output": "A training file: file, recipe, and options of the recipe.",
    "gates": "Bounds that a version must satisfy to be published.",
    "notify": "Commands that are run after a refresh.",
}
FILES = ("task-inputs", "exclude-prompts", "tokenizer")
"""Options that name files, whose content a version depends on."""
NOTIFY: dict[str, str] = {
    "on-success": "Command that gets the report as JSON on standard input after a refresh that published.",
    "on-failure": "Command that gets the report as JSON on standard input after a refresh that failed.",
    "prometheus": "Text file with metrics for Prometheus, written after every refresh.",
}


@dataclass(frozen=True)
class Output:
    """A training file of every version."""

    file: str
    recipe: str
    options: Mapping[str, Any]
    """The options as in the pipeline file, with variables not replaced."""
    bounds: Bounds


@dataclass(frozen=True)
class Pipeline:
    """The content of a pipeline file."""

    path: Path
    inputs: tuple[str, ...]
    publish: Path
    outputs: tuple[Output, ...]
    keep_versions: int = 5
    pinned: tuple[int, ...] = ()
    on_success: str | None = None
    on_failure: str | None = None
    prometheus: Path | None = None
    known: Mapping[str, Any] = field(default_factory=dict)
    """The text of the file, for the record of a version."""

    def resolved(self, path: str) -> str:
        """A path or URL in the file, with variables replaced, relative to the folder of the file; `NAME=PATH` keeps its name."""
        text, folder = replaced(path), self.path.parent
        named = None if (folder / text).exists() else NAMED.fullmatch(text)
        return f"{named[1]}={input_from(folder, named[2])}" if named else input_from(folder, text)


def load(path: Path) -> Pipeline:
    """Read a pipeline file. Raises `UsageError` for missing keys, and for an unknown key, suggesting the nearest known one."""
    try:
        with path.open("rb") as file:
            found = tomllib.load(file)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {str(error).splitlines()[0]}") from error
    refuse_unknown(path, "", found, TOP)
    notify = _table(path, "notify", found.get("notify", {}))
    refuse_unknown(path, "notify", notify, NOTIFY)
    gates = _table(path, "gates", found.get("gates", {}))
    refuse_unknown(path, "gates", gates, GATES)
    shared = _table(path, "options", found.get("options", {}))
    outputs = found.get("output")
    if not isinstance(outputs, list) or not outputs:
        raise UsageError(f"{path}: no outputs; add [[output]] with file and recipe")
    made = tuple(_output(path, table, shared, gates) for table in outputs)
    files = [output.file for output in made]
    if twice := next((file for file in files if files.count(file) > 1), None):
        raise UsageError(f"{path}: two outputs are named {twice}")
    folder = path.parent
    prometheus = _text(path, "notify.prometheus", notify.get("prometheus"))
    return Pipeline(
        path=path,
        inputs=tuple(_texts(path, "inputs", found.get("inputs"))),
        publish=Path(_seen_from(folder, replaced(_required(path, "publish", found.get("publish"))))),
        outputs=made,
        keep_versions=_count(path, "keep-versions", found.get("keep-versions", 5), 2),
        pinned=tuple(_count(path, "pinned", number, 1) for number in _list(path, "pinned", found.get("pinned", []))),
        on_success=_text(path, "notify.on-success", notify.get("on-success")),
        on_failure=_text(path, "notify.on-failure", notify.get("on-failure")),
        prometheus=None if prometheus is None else Path(_seen_from(folder, replaced(prometheus))),
        known={name: value for name, value in found.items() if name != "notify"},
    )


def _output(path: Path, table: Any, shared: Mapping[str, Any], gates: Mapping[str, Any]) -> Output:
    table = dict(_table(path, "output", table))
    file, recipe = (_required(path, f"output.{name}", table.pop(name, None)) for name in ("file", "recipe"))
    sharded = any(name.replace("_", "-") in ("shards", "shard-size", "shard-rows") for name in {**shared, **table})
    if _CONTROL.search(file):
        raise UsageError(f"{path}: output.file {file!a} holds a control character; give the file another name")
    if os.path.basename(file) != file or file.startswith(".") or not (sharded or file.endswith((".jsonl", ".parquet"))):
        raise UsageError(f"{path}: output.file {file} must be a name without folders that ends with .jsonl or .parquet, unless it is a folder of shards")
    own = _table(path, "output.gates", table.pop("gates", {}))
    refuse_unknown(path, "output.gates", own, GATES)
    return Output(file, recipe, {**shared, **table}, Bounds.of({**gates, **own}, path))


def refuse_unknown(path: Path, where: str, found: Mapping[str, Any], known: Iterable[str]) -> None:
    """Raise `UsageError` for a key that is not one of `known`, suggesting the nearest one."""
    names = list(known)
    for name in found:
        if name not in names:
            place = f"[{where}] " if where else ""
            raise UsageError(f"{path}: {place}has no key '{name}'; the nearest is {nearest(name, names)}")


@contextlib.contextmanager
def of_output(path: Path, file: str) -> Iterator[None]:
    """Adds the pipeline file and the output to a `UsageError`."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{path}: [output {file}] {error}") from error


def replaced(text: str) -> str:
    """`text` with environment variables replaced. Raises `UsageError` for one that is not set."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise UsageError(f"the environment variable {match[1]} is not set, but the pipeline file uses it")
        return os.environ[match[1]]

    return _VARIABLE.sub(value, text)


def input_from(folder: Path, path: str) -> str:
    """A path, glob or URL relative to a folder, in a form in which special characters in the folder's own name are not interpreted."""
    found = _seen_from(folder, path)
    if found == path or os.path.exists(found):
        return found
    found = str(Path(glob.escape(str(folder)), path)) if glob.has_magic(path) else found
    return f"./{found}" if NAMED.fullmatch(found) else found


def _seen_from(folder: Path, path: str) -> str:
    if path.startswith("~/") and not (folder / "~").exists():
        raise UsageError(f"{path} begins with ~, which is not replaced in a pipeline file: write ${{HOME}} instead of ~")
    return path if re.match(r"[a-z][a-z0-9+.-]*://", path, re.IGNORECASE) else str(folder / path)


def _table(path: Path, name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{path}: {name} must be a table")
    return value


def _text(path: Path, name: str, value: Any) -> str | None:
    if value is not None and not (isinstance(value, str) and value):
        raise UsageError(f"{path}: {name} must be a text")
    return value


def _list(path: Path, name: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise UsageError(f"{path}: {name} must be a list")
    return value


def _required(path: Path, name: str, value: Any) -> str:
    found = _text(path, name, value)
    if found is None:
        raise UsageError(f"{path}: {name} is missing")
    return found


def _texts(path: Path, name: str, value: Any) -> list[str]:
    if not isinstance(value, list) or not value or not all(isinstance(one, str) and one for one in value):
        raise UsageError(f"{path}: {name} must be a list of texts that is not empty")
    return value


def _count(path: Path, name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(f"{path}: {name} must hold whole numbers of {least} or more")
    return value
