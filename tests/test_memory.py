"""How much memory a run may take: as it is written, as a container allows, and what statistics ask for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rollout_etl.bounded import memory
from rollout_etl.errors import UsageError
from rollout_etl.read.scan import Rollouts


def test_limits() -> None:
    assert memory.limit_of("1.5GiB") == 3 * 2**29


@pytest.mark.parametrize("text", ["", "2 apples", "500MB", "0"])
def test_limits_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--memory-limit"):
        memory.limit_of(text)


def test_memory_of_a_container(tmp_path: Path) -> None:
    own, root = tmp_path / "cgroup", tmp_path / "fs"
    everything = memory.available(root, own)
    own.write_text("0::/job/step\n")
    (root / "job" / "step").mkdir(parents=True)
    (root / "job" / "step" / "memory.max").write_text("max\n")
    assert memory.available(root, own) == everything
    (root / "job" / "memory.max").write_text("5000000\n")
    assert memory.available(root, own) == 5_000_000
    own.write_text("3:cpu:/x\n2:memory:/job\n")
    (root / "memory" / "job").mkdir(parents=True)
    (root / "memory" / "job" / "memory.limit_in_bytes").write_text("4000000\n")
    (root / "memory" / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert memory.available(root, own) == 4_000_000


def test_statistics_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps({"reward": 1.0}) + "\n")
    memory.check_statistics(451_000_000, [Rollouts(path)])
    path.write_text((json.dumps({"reward": 1.0}) + "\n") * 20_000)
    with pytest.raises(UsageError, match="more than --memory-limit 451 MB"):
        memory.check_statistics(451_000_000, [Rollouts(path)])
