"""The keys of a NeMo RL run file that describe its data, read line by line, without parsing the rest."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from rollout_etl.errors import UnreadableError

COLUMN_KEYS = ("input_key", "output_key", "prompt_key", "chosen_key", "rejected_key", "chat_key")
"""Keys that name a column of the data."""
_KEYS = (*COLUMN_KEYS, "dataset_name", "use_preserving_dataset", "data_path", "train_data_path")
_PAIR = re.compile(rf"(?:^|[{{,\s])({'|'.join(_KEYS)}):[ \t]*(\"(?:[^\"\\]|\\.)*\"|'[^']*'|[^\s,}}#]+)", re.MULTILINE)


def keys_of(path: Path) -> dict[str, str]:
    """Values by key; if a key occurs several times, the first is used, which is that of the training data. Raises `UnreadableError`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableError(f"cannot read {path}: {error.strerror if isinstance(error, OSError) else 'it is not text'}") from error
    found: dict[str, str] = {}
    for key, value in _pairs(text):
        found.setdefault(key, value)
    return found


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    uncommented = re.sub(r"^[ \t]*#.*$", "", text, flags=re.MULTILINE)
    for key, value in _PAIR.findall(uncommented):
        yield key, json.loads(value) if value.startswith('"') else value.strip("'")
