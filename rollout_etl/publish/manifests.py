"""What a run says of the files that it wrote, read again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rollout_etl.read.inputs import MANIFEST_SUFFIX


def _manifest_of(path: Path) -> dict[str, Any]:
    """The manifest beside a training file or a folder of shards: a run's report. Empty where there is none."""
    beside = path.with_name(path.name + MANIFEST_SUFFIX)
    try:
        found = json.loads(beside.read_bytes()) if beside.is_file() else {}
    except (OSError, ValueError):
        found = {}
    return found if isinstance(found, dict) else {}


def purpose_of(path: Path, target: str | None, recipe: str | None) -> tuple[str, str | None]:
    """Trainer and recipe that a file or folder is for: as named here, else as its manifest says, else NeMo RL and None."""
    known = {name: value for name, value in _manifest_of(path).items() if isinstance(value, str)}
    return target or known.get("target") or "nemo-rl", recipe or known.get("recipe")
