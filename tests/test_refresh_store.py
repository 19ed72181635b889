"""The store of a refresh: whatever becomes of the files, it knows of them what reading them tells, and only what is new is read."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from rollout_etl.errors import UnreadableError
from rollout_etl.read.canonical import Lookup
from rollout_etl.read.scan import Rollouts
from rollout_etl.read.schema import SCHEMA
from rollout_etl.refresh import stored_rollouts
from rollout_etl.refresh.fingerprints import Fingerprints
from rollout_etl.refresh.store import COLUMNS
from rollout_etl.refresh.stored_rollouts import Kept
from tests.pipelines import lines
from tests.strategies import damaged_lines, rollout_groups

REAL = Path(__file__).resolve().parents[1].parent / "shared" / "rollouts"
NARROW = [name for name in (*SCHEMA, "line_key") if name in (*COLUMNS, "row", "source", "line")]
SAID = ["row", "source", "line", "prompt", "completion", "tools", "reward"]
PIECES = st.lists(st.one_of(rollout_groups(max_size=2).map(b"".join), damaged_lines(), st.sampled_from([b"\n", b" \r\n", b'{"reward": 1', b"[1]\n"])), max_size=3)


def read(rollouts: Rollouts, columns: Sequence[str], rows: np.ndarray | None = None) -> pl.DataFrame:
    return pl.concat([pl.DataFrame(), *rollouts.batches(columns, rows)], how="diagonal")


def hold_equal(folder: Path, state: Path, lookup: Lookup | None = None) -> None:
    """The store says what the lines say, and gives back any of the lines."""
    fingerprints = Fingerprints(state / "fingerprints.json")
    kept = Kept(state / "store", fingerprints)
    stored, plain = kept.rollouts([folder], lookup=lookup), Rollouts([folder], lookup=lookup)
    expected = read(plain, NARROW)
    assert stored.holds(NARROW)
    assert_frame_equal(read(stored, NARROW), expected)
    assert stored.account is not None
    assert plain.account is not None
    assert [line.to_json() for line in stored.account.quarantined] == [line.to_json() for line in plain.account.quarantined]
    for name in ("read", "rollouts", "found", "repaired"):
        assert getattr(stored.account, name) == getattr(plain.account, name), name
    rows = expected["row"].to_numpy()[::3] if len(expected) else np.empty(0, dtype=np.int64)
    assert_frame_equal(read(stored, SAID, rows), read(plain, SAID, rows))
    assert_frame_equal(read(stored, ["row", "reward"], rows), read(plain, ["row", "reward"], rows))
    kept.tidy()
    fingerprints.save()


@settings(max_examples=40 if os.environ.get("EXHAUSTIVE") else 3, deadline=None)
@given(st.data())
def test_files_that_come_grow_and_go(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder, state = Path(place, "rollouts"), Path(place, "state")
        folder.mkdir()
        state.mkdir()
        (folder / "always.jsonl").write_bytes(b'{"reward": 1}\n')
        for _ in range(3):
            path = folder / data.draw(st.sampled_from(["a.jsonl", "b-part1.jsonl", "b-part2.jsonl", "z.jsonl.gz"]))
            text = b"".join(data.draw(PIECES))
            match data.draw(st.sampled_from(["append", "replace", "remove", "move"])):
                case "append" if path.suffix == ".jsonl":
                    with path.open("ab") as file:
                        file.write(text)
                case "remove":
                    path.unlink(missing_ok=True)
                case "move" if path.exists():
                    path.rename(folder / f"c{path.name}")
                case _:
                    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
            hold_equal(folder, state, Lookup(group_by=("metadata.id",)))


def test_only_new_lines_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, seen = tmp_path / "rollouts", list[list[tuple[str, int, int]]]()
    folder.mkdir()

    class Watched(stored_rollouts.SegmentReader):
        def __init__(self, segments, *others) -> None:  # type: ignore[no-untyped-def]
            seen.append([(Path(item.path).name, of.begin, of.end) for item, of in segments])
            super().__init__(segments, *others)

    monkeypatch.setattr(stored_rollouts, "SegmentReader", Watched)
    line = b'{"responses_create_params": {"input": "q"}, "reward": 1}\n'

    def refreshed() -> list[tuple[str, int, int]]:
        seen.clear()
        hold_equal(folder, tmp_path)
        return [segment for read_at_once in seen for segment in read_at_once]

    (folder / "a.jsonl").write_bytes(line * 3)
    (folder / "b.jsonl").write_bytes(line * 2 + line[:20])
    n = len(line)
    assert refreshed() == [("a.jsonl", 0, 3 * n), ("b.jsonl", 0, 2 * n), ("b.jsonl", 2 * n, 2 * n + 20)]
    assert refreshed() == []
    with (folder / "a.jsonl").open("ab") as file:
        file.write(line)
    (folder / "b.jsonl").write_bytes(line * 3)
    assert refreshed() == [("a.jsonl", 3 * n, 4 * n), ("b.jsonl", 2 * n, 3 * n)]
    # What was said is in the past: another first byte makes another file.
    (folder / "a.jsonl").write_bytes(b" " + line * 4)
    assert refreshed() == [("a.jsonl", 0, 4 * n + 1)]
    (folder / "b.jsonl").unlink()
    assert refreshed() == []
    kept = Kept(tmp_path / "store", Fingerprints(tmp_path / "fingerprints.json"))
    assert {of.end for of in kept._segments} == {4 * n + 1}


def test_tasks_beside_a_file_are_part_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "rollouts"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(b'{"responses_create_params": {"input": "q"}, "reward": 1, "_ng_task_index": 0}\n')
    for truth in ("1", "2"):
        (folder / "a_materialized_inputs.jsonl").write_text(f'{{"responses_create_params": {{"input": "q"}}, "expected_answer": "{truth}", "_ng_task_index": 0}}\n')
        hold_equal(folder, tmp_path)


def test_a_file_that_changes_while_it_is_read_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"reward": 1}\n')
    fingerprints = Fingerprints(tmp_path / "fingerprints.json")
    monkeypatch.setattr(fingerprints, "changed", lambda: [str(path)])
    kept = Kept(tmp_path / "store", fingerprints)
    with pytest.raises(UnreadableError, match="changed while it was being read"):
        kept.rollouts([path])
    assert Kept(tmp_path / "store", fingerprints)._segments == []


def test_a_damaged_store_is_said_so(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"reward": 1}\n')
    Kept(tmp_path / "store", Fingerprints(tmp_path / "f.json")).rollouts([path])
    for file in (tmp_path / "store").glob("*.parquet"):
        file.unlink()
    with pytest.raises(UnreadableError, match="remove the folder"):
        Kept(tmp_path / "store", Fingerprints(tmp_path / "f.json"))


def test_files_that_nobody_uses_go(tmp_path: Path) -> None:
    """Those of replaced inputs, and those that a killed refresh wrote before its commit, after a week."""
    from deltalake import DeltaTable

    path, folder = tmp_path / "a.jsonl", tmp_path / "store"

    def refresh() -> Kept:
        kept = Kept(folder, Fingerprints(tmp_path / "f.json"))
        kept.rollouts([path])
        return kept

    for seed in range(3):
        path.write_bytes(lines(seed))
        refresh().tidy()
    used = {Path(file).name for file in DeltaTable(folder).file_uris()}
    orphan = folder / "part-00001-00000000-0000-0000-0000-000000000000-c000.snappy.parquet"
    shutil.copy(next(folder.glob("*.parquet")), orphan)
    # All that is there was written and removed ten days ago.
    for file in folder.glob("*.parquet"):
        os.utime(file, (time.time() - 864_000,) * 2)
    for log in (folder / "_delta_log").glob("*.json"):
        log.write_text(re.sub(r'("(?:deletionTimestamp|modificationTime|timestamp)":)(\d+)', lambda found: f"{found[1]}{int(found[2]) - 864_000_000}", log.read_text()))
    path.write_bytes(lines(0) + lines(3))
    kept = refresh()
    assert orphan.exists() and len(list(folder.glob("*.parquet"))) > len(used) + 1
    kept.tidy()
    used |= {Path(file).name for file in DeltaTable(folder).file_uris()}
    assert {file.name for file in folder.glob("*.parquet")} == used


@pytest.mark.skipif(not REAL.is_dir(), reason="../shared/rollouts is absent")
def test_real_rollouts(tmp_path: Path) -> None:
    folder = tmp_path / "rollouts"
    found = sorted(REAL.rglob("*.jsonl"))
    half = found[::2]
    for number, path in enumerate(half):
        target = folder / str(number) / path.name
        target.parent.mkdir(parents=True)
        target.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (tmp_path / "state").mkdir()
    hold_equal(folder, tmp_path / "state")
    for number, path in enumerate(half):
        shutil.copy(path, folder / str(number) / path.name)
    hold_equal(folder, tmp_path / "state")
