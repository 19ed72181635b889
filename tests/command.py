"""The command as tests run it, and the folders that it works in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
DEMO = ROOT / "demo" / "rollouts.jsonl"
COMMAND = str(Path(sys.executable).with_name("rollout-etl"))


def run(*arguments: str | Path, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run `rollout-etl` in `folder` to its end, with nothing on standard input."""
    command = [COMMAND, *map(str, arguments)]
    return subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", timeout=120)


def tree(folder: Path) -> dict[str, bytes]:
    """All files of a folder by name, with what they hold."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
