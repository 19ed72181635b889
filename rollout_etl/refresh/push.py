"""Copying versions to where others read them: a dataset on the Hugging Face hub, or a bucket.

    hf://datasets/ORG/NAME      one commit, made by huggingface_hub: readers see the old version or the new one
    s3://BUCKET/PATH            PATH/versions/000007/..., then PATH/current, which names it; any other file system of fsspec as well

The libraries find keys themselves (HF_TOKEN, AWS_PROFILE, ...): none is requested, stored or shown here.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rollout_etl.errors import UsageError, WriteError
from rollout_etl.plain_text import first_line
from rollout_etl.refresh.versions import RECORD, Versions, write_text

_HUB = "hf://datasets/"
_PUSHED = "pushed.json"
_SECRETS = re.compile(r"//[^/@\s]+@|\b(hf_|AKIA|ASIA)\w+")


def check(urls: Sequence[str]) -> None:
    """Raise `UsageError` for a URL that cannot be pushed to, and for a library that is not installed."""
    for url in urls:
        if not re.match(r"[a-z][a-z0-9+.-]*://.", url, re.IGNORECASE) or (url.startswith("hf://") and not re.fullmatch(r"hf://datasets/[^/]+/[^/]+/?", url)):
            raise UsageError(f"--push {_shown(url)} is not a URL; use hf://datasets/ORG/NAME, s3://BUCKET/PATH or another URL")
        try:
            _ = _hub() if url.startswith(_HUB) else _file_system(url)
        except ImportError as error:
            raise UsageError(f"--push {_shown(url)} needs libraries that are not installed: pip install '.[push]' in a checkout of rollout-etl") from error
        except ValueError as error:
            raise UsageError(f"--push {_shown(url)}: {_shown(str(error).splitlines()[0])}") from error


def push(versions: Versions, urls: Sequence[str]) -> tuple[list[str], list[str]]:
    """Copy the current version to the places that do not have it yet. Returns where it was copied to, and the errors of the others.

    The next refresh tries those again. Call it while the folder is locked, otherwise an older version may be copied last.
    """
    number, state = versions.current, versions.state / _PUSHED
    if number is None:
        return [], []
    # If versions and state are removed by hand, a number may be reused; a record is unique.
    version = hashlib.sha256((versions.path(number) / RECORD).read_bytes()).hexdigest()
    pushed = _pushed(state)
    done, failures = list[str](), list[str]()
    for url in dict.fromkeys(urls):
        # Two URLs may be shown the same way, and the hidden part may contain a key.
        place = hashlib.sha256(url.encode(errors="surrogateescape")).hexdigest()
        if pushed.get(place) == version:
            continue
        try:
            (_to_hub if url.startswith(_HUB) else _to_bucket)(versions.path(number), number, url)
        # Each library has its own errors, and their messages may contain keys.
        except Exception as error:
            failures.append(f"cannot push version {number} to {_shown(url)}: {_shown(first_line(error))}")
            continue
        done.append(_shown(url))
        pushed[place] = version
        # Without this note the version is copied again.
        with contextlib.suppress(WriteError):
            write_text(state, json.dumps(pushed) + "\n")
    return done, failures


def _pushed(state: Path) -> dict[str, str]:
    """The version that each place has, by digest."""
    try:
        found = json.loads(state.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _to_hub(folder: Path, number: int, url: str) -> None:
    repository = url.removeprefix(_HUB).strip("/")
    _hub().upload_folder(
        repo_id=repository, repo_type="dataset", folder_path=folder, commit_message=f"Version {number}", delete_patterns="*"
    )


def _to_bucket(folder: Path, number: int, url: str) -> None:
    system, root = _file_system(url)
    # Making folders would also create the bucket, so a misspelt name would become a new bucket.
    bucket = root.split("/")[0] or "/"
    if not system.exists(bucket):
        raise FileNotFoundError(f"there is no {bucket}")
    target = f"{root.rstrip('/')}/versions/{number:06}"
    files = {f"{target}/{path.relative_to(folder).as_posix()}": path for path in sorted(folder.rglob("*")) if path.is_file()}
    # A failed push, or another version with the same number, may have left files that readers of the folder would also read.
    with contextlib.suppress(FileNotFoundError):
        for other in system.find(target):
            if other.startswith(f"{target}/") and other not in files:
                system.rm_file(other)
    for there, path in files.items():
        system.makedirs(there.rpartition("/")[0], exist_ok=True)
        system.put_file(str(path), there)
    # Written last, so that its readers find a complete version.
    system.pipe_file(f"{root.rstrip('/')}/current", f"versions/{number:06}\n".encode())


def _hub() -> Any:
    from huggingface_hub import HfApi

    return HfApi()


def _file_system(url: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    found: tuple[Any, str] = url_to_fs(url)
    return found


def _shown(text: str) -> str:
    """A text without anything that may be a key."""
    return _SECRETS.sub(lambda match: "//***@" if match[0].startswith("//") else "***", text)
