"""Reading the manifests that runs wrote."""

from __future__ import annotations

import json
from glob import escape
from pathlib import Path
from typing import Any

from rollout_etl.read.inputs import MANIFEST_SUFFIX


def _manifest_of(path: Path) -> dict[str, Any]:
    """The manifest next to a training file or a folder of shards, which is the report of a run. Empty if there is none."""
    beside = path.with_name(path.name + MANIFEST_SUFFIX)
    try:
        found = json.loads(beside.read_bytes()) if beside.is_file() else {}
    except (OSError, ValueError):
        found = {}
    return found if isinstance(found, dict) else {}


def purpose_of(path: Path, target: str | None, recipe: str | None) -> tuple[str, str | None]:
    """Trainer and recipe that a file or folder is for: as given, or as in its manifest, or else NeMo RL and None."""
    known = {name: value for name, value in _manifest_of(path).items() if isinstance(value, str)}
    return target or known.get("target") or "nemo-rl", recipe or known.get("recipe")


def parts_of(output: Path) -> list[Path]:
    """The other parts of an output that a run wrote next to it, according to its manifests, and that are unchanged since."""
    beside = sorted(output.parent.glob(f"{escape(output.stem)}.*{escape(output.suffix)}{MANIFEST_SUFFIX}"))
    found = [manifest.with_name(manifest.name.removesuffix(MANIFEST_SUFFIX)) for manifest in beside]
    return [path for path in found if path != output and _is_part(path, output)]


def _is_part(path: Path, output: Path) -> bool:
    manifest = _manifest_of(path)
    outputs = manifest["outputs"] if isinstance(manifest.get("outputs"), list) else []
    # Paths can be written in many ways, but the file name is the same in all. Shards are listed by name within the folder.
    wrote = {(Path(of["path"]), of.get("bytes")) for of in outputs if isinstance(of, dict) and isinstance(of.get("path"), str)}
    if not {output.name} & {name for of, _ in wrote for name in (of.name, of.parent.name)}:
        return False
    if path.is_dir():
        return {(of.name, size) for of, size in wrote if of.parent.name == path.name} == {(one.name, one.stat().st_size) for one in path.iterdir()}
    return path.is_file() and (path.name, path.stat().st_size) in {(of.name, size) for of, size in wrote}
