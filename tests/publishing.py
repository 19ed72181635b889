"""Runs over rollouts whose outputs are known, for tests of how outputs appear."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rollout_etl.read.inputs import MANIFEST_SUFFIX
from rollout_etl.recipes.options import SftOptions
from rollout_etl.run.execute import Run, execute
from tests.command import COMMAND

OUTPUTS = ("out.jsonl", "out.jsonl.nemo-rl.yaml", f"out.jsonl{MANIFEST_SUFFIX}")


def rollouts(word: str, count: int = 40) -> str:
    rows: list[dict[str, Any]] = [
        {
            "responses_create_params": {"input": f"Problem {number}?"},
            "response": {"output": [{"type": "message", "role": "assistant", "content": f"{word} {number} " * 20}]},
            "reward": 1.0,
        }
        for number in range(count)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def outputs(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in files(folder).items() if not name.startswith("in")}


def sft(folder: Path, rows: str, output: str = "out.jsonl", command: list[str] | None = None) -> subprocess.Popen[bytes]:
    """A run over `rows` that is under way in `folder`."""
    (folder / "in.jsonl").write_text(rows, encoding="utf-8")
    arguments = [*(command or [COMMAND]), "sft", "in.jsonl", "-o", output]
    return subprocess.Popen(arguments, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finished(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    _, said = process.communicate(timeout=120)
    return process.returncode, said.decode("utf-8")


@dataclass(frozen=True)
class Known:
    """What an old and a new run write into a folder, and how long a run takes."""

    folder: Path
    old: dict[str, bytes]
    new: dict[str, bytes]
    seconds: float

    @classmethod
    def of(cls, folder: Path) -> Known:
        """What is known after both have run in `folder`."""
        written = []
        for word in ("old", "new"):
            start = time.monotonic()
            assert finished(sft(folder, rollouts(word)))[0] == 0
            written.append(outputs(folder))
        assert set(written[0]) == set(written[1]) == set(OUTPUTS)
        return cls(folder, written[0], written[1], time.monotonic() - start)

    def laid_out(self) -> Path:
        """The folder with the old output and nothing else."""
        shutil.rmtree(self.folder)
        self.folder.mkdir()
        for name, data in self.old.items():
            (self.folder / name).write_bytes(data)
        return self.folder


def run(folder: Path, rows: str, output: Path | None = None, **options: Any) -> None:
    source = folder / "in.jsonl"
    source.write_text(rows, encoding="utf-8")
    execute(Run(inputs=[str(source)], output=output or folder / "out.jsonl", options=SftOptions(**options)))
