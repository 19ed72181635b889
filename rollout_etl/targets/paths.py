"""Paths in run files: how they are written, and which of them a trainer would read as something else than a name."""

from __future__ import annotations

import glob
import json
import os
import re
from pathlib import Path

from rollout_etl.errors import UsageError
from rollout_etl.plain_text import one_line

_NOT_IN_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
"""Characters that are valid in JSON but not in YAML, or that end a line there."""


def absolute(path: Path) -> Path:
    """The absolute path. A link keeps its name: loaders go by the suffix, which the file that it leads to may lack."""
    return path.parent.resolve() / path.name


def as_glob(path: Path) -> Path:
    """The absolute path for loaders that take every path for a glob: `[1]` in it is a name."""
    return Path(glob.escape(str(absolute(path))))


def quoted_path(path: Path) -> str:
    """The absolute path as a JSON string, which is also valid YAML."""
    text = json.dumps(str(absolute(path)), ensure_ascii=False)
    return _NOT_IN_YAML.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


def run_file_of(data: Path) -> str:
    """How the comment at the top of a run file begins. A line break in the name of the data would end the comment."""
    return f"# Run file for {_NOT_IN_YAML.sub('?', one_line(data.name))}"


def refuse_for_datasets(path: Path, title: str) -> None:
    """Raise `UsageError` for a path that `datasets` takes for more than a name."""
    name = str(absolute(path))
    if "::" in name:
        raise UsageError(f"{title} takes :: in a path for an archive: give {path} another name")
    if os.path.expandvars(name) != name:
        raise UsageError(f"{title} replaces environment variables in paths: give {path} another name")


def refuse_interpolation(path: Path, title: str) -> None:
    """Raise `UsageError` for a path that OmegaConf, which reads the run file, takes for a reference."""
    if "${" in str(absolute(path)):
        raise UsageError(f"{title} takes ${{ in a path for a reference to another setting: give {path} another name")
