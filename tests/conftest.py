"""Inputs that several test modules begin with."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pytest

from tests.command import DEMO
from tests.publishing import Known


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`rollouts.jsonl` as in the demo, `good.jsonl` without its broken line, and inputs that cannot be read."""
    shutil.copy(DEMO, tmp_path)
    lines = DEMO.read_bytes().splitlines(keepends=True)
    (tmp_path / "good.jsonl").write_bytes(b"".join(line for line in lines if line.endswith(b"}\n")))
    (tmp_path / "text.jsonl").write_text("no rollout\n")
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b"".join(lines))[:-100])
    (tmp_path / "text.parquet").write_text("no rollout\n")
    (tmp_path / "folder").mkdir()
    for name in ("tasks.jsonl", "tasks_materialized_inputs.jsonl", "list.jsonl.manifest.json"):
        (tmp_path / name).write_text('{"expected_answer": "4"}\n')
    (tmp_path / "prompts.jsonl").write_text('{"question": "What is 2 + 2?"}\n')
    return tmp_path


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Known:
    """Runs over rollouts whose outputs are known."""
    return Known.of(tmp_path_factory.mktemp("publish"))


@pytest.fixture
def laid_out(known: Known) -> Path:
    """The folder of `known` with the old output and nothing else."""
    return known.laid_out()
