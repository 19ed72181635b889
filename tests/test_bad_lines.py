"""Lines that are no rollouts are quarantined wherever they stand: a pass may be far along when it meets the first."""

from __future__ import annotations

from pathlib import Path

import pytest

from rollout_etl.read.scan import Rollouts


@pytest.mark.parametrize("bad", [b"no rollout", b'{"reward": "\xff"}'])
@pytest.mark.parametrize("before", [0, 50, 30_000])
def test_late_bad_lines(tmp_path: Path, before: int, bad: bytes) -> None:
    path = tmp_path / "rollouts.jsonl"
    line = b'{"responses_create_params": {"input": "What is 2 + 2?"}, "reward": 1.0, "filling": "' + b"x" * 500 + b'"}\n'
    path.write_bytes(line * before + bad + b"\n" + line)
    rollouts = Rollouts(path)
    assert sum(len(frame) for frame in rollouts.batches(["row", "reward"])) == before + 1
    assert rollouts.account is not None
    assert [(found.line, found.text.rstrip()) for found in rollouts.account.quarantined] == [(before + 1, bad)]
