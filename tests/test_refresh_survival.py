"""Refreshes that are killed, run out of disk, or are watched: `current` is a whole version at every moment."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest

from rollout_etl.errors import WriteError
from rollout_etl.publish.files import StagedFile
from rollout_etl.refresh.versions import Versions
from rollout_etl.validate.validate import validate
from tests.command import COMMAND
from tests.pipelines import SHARDED, laid_out, lines, published, refresh, refreshed

EXHAUSTIVE = bool(os.environ.get("EXHAUSTIVE"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return laid_out(tmp_path, SHARDED)


def hold_whole(folder: Path) -> int:
    """The current version is all there and validates; its number."""
    current = (folder / "training" / "current").resolve()
    record = json.loads((current / "version.json").read_text())
    for name, entry in record["outputs"].items():
        files = [current / file for file in entry["files"] if (current / file).suffix in (".jsonl", ".parquet")]
        assert sum(path.stat().st_size for path in files) == entry["bytes"]
        rows = sum(len(pl.read_parquet(path)) if path.suffix == ".parquet" else path.read_bytes().count(b"\n") for path in files)
        assert rows == entry["rows"]
        assert validate(current / name, entry["target"], entry["recipe"]).problems == []
    return int(record["version"])


def test_killed_at_any_moment(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    refreshed(folder)
    rng = random.Random(0)
    for number in range(1, 101 if EXHAUSTIVE else 13):
        # Every third night brings nothing, so that a refresh that was killed is taken up again.
        if number % 3:
            (folder / "rollouts" / f"night{number % 7}.jsonl").write_bytes(lines(number, 12))
        process = subprocess.Popen([COMMAND, "refresh", "pipeline.toml", "-q"], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0.2, 2.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
        hold_whole(folder)
    refreshed(folder)
    elsewhere = tmp_path_factory.mktemp("undisturbed")
    (elsewhere / "rollouts").symlink_to(folder / "rollouts")
    (elsewhere / "pipeline.toml").write_text(SHARDED)
    refreshed(elsewhere)
    assert published(folder) == published(elsewhere)
    assert all((version / "version.json").is_file() for version in (folder / "training" / "versions").iterdir())


def test_two_at_once(folder: Path) -> None:
    """One does the work; the other exits with 5, or comes late and finds nothing to do."""
    started = [subprocess.Popen([COMMAND, "refresh", "pipeline.toml", "--json"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for _ in range(2)]
    reports = [json.loads(process.communicate(timeout=120)[0]) for process in started]
    codes = sorted(process.returncode for process in started)
    assert codes in ([0, 5], [0, 0])
    assert sum(report["published"] for report in reports) == 1
    assert hold_whole(folder) == 1


def full_disk(monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    """Let the disk be full from a stage on."""

    def refuse(*arguments: Any, **named: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if stage == "store":
        import deltalake

        monkeypatch.setattr(deltalake, "write_deltalake", refuse)
    elif stage == "rows":
        monkeypatch.setattr(StagedFile, "_write_now", refuse)
    elif stage == "sync":
        monkeypatch.setattr(os, "fsync", refuse)
    elif stage == "version":
        monkeypatch.setattr(Path, "mkdir", refuse)
    elif stage == "record":
        written = Versions.publish

        def publish(versions: Versions, number: int, record: dict[str, Any]) -> None:
            with monkeypatch.context() as patch:
                patch.setattr(StagedFile, "_write_now", refuse)
                written(versions, number, record)

        monkeypatch.setattr(Versions, "publish", publish)
    else:
        monkeypatch.setattr(Path, "symlink_to", refuse)


def test_full_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it shows, the old version stays current, and the next refresh with space succeeds."""
    refreshed(folder)
    before = published(folder)
    (folder / "rollouts" / "night1.jsonl").write_bytes(lines(1))
    for stage in ("store", "version", "rows", "sync", "record", "pointer"):
        with monkeypatch.context() as patch, pytest.raises(WriteError, match="no space left on the disk"):
            full_disk(patch, stage)
            refreshed(folder)
        assert published(folder) == before, stage
    assert hold_whole(folder) == 1
    # The last one died when its version was whole: that is taken up.
    assert refreshed(folder).published
    assert hold_whole(folder) == Versions(folder / "training").current != 1
    (folder / "rollouts" / "night2.jsonl").write_bytes(lines(2))
    assert refreshed(folder).published
    hold_whole(folder)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB, where the system lets us have one."""
    place = tmp_path / "small"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("a file system cannot be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_is_full_at_any_point(folder: Path, small_disk: Path) -> None:
    (folder / "pipeline.toml").write_text(SHARDED.replace('publish = "training"', f'publish = "{small_disk}"'))
    (folder / "training").symlink_to(small_disk)
    assert refresh(folder)[0] == 0
    before, ballast = published(folder), small_disk / "ballast"
    (folder / "rollouts" / "night1.jsonl").write_bytes(lines(1))
    free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
    seen = set()
    for left in (0, 4, 16, 40, 64, 96) if EXHAUSTIVE else (0, 40):
        ballast.write_bytes(b"\0" * max(0, free - left * 1024))
        code, report = refresh(folder)
        seen.add(code)
        if code:
            assert (code, "no space left" in report.get("error", "no space left")) == (3, True), report
            assert published(folder) == before
        hold_whole(folder)
        ballast.unlink()
    assert seen - {0}
    assert refresh(folder)[0] == 0
    assert hold_whole(folder) == Versions(small_disk).current != 1


def test_readers_see_whole_versions(folder: Path) -> None:
    """A reader of `current` in a loop, by pandas, Polars and `datasets` where it is installed, sees one version or another, never a mix."""
    try:
        import datasets
    except ImportError:
        datasets = None
    nights = 50 if EXHAUSTIVE else 4
    pipeline = folder / "pipeline.toml"
    # A reader that is slower than several refreshes needs its version for longer.
    pipeline.write_text(f"keep-versions = {nights + 2}\n" + re.sub(r"(?m)^keep-versions.*\n", "", pipeline.read_text()))
    refreshed(folder)
    seen: set[tuple[int, ...]] = set()
    failures: list[BaseException] = []
    stop = threading.Event()

    def read() -> None:
        try:
            while not stop.is_set():
                current = (folder / "training" / "current").resolve()
                rows = json.loads((current / "version.json").read_text())["outputs"]
                shards = sorted((current / "shards").iterdir())
                found = [
                    len(pd.read_json(current / "sft.jsonl", lines=True)), sum(len(pl.read_parquet(path)) for path in shards),
                ]
                if datasets is not None:
                    loaded = datasets.load_dataset("parquet", data_files=[str(path) for path in shards], cache_dir=str(folder / "cache"))
                    assert len(loaded["train"]) == found[1]
                assert found == [rows[name]["rows"] for name in ("sft.jsonl", "shards")]
                seen.add(tuple(found))
        except BaseException as error:
            failures.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(1, nights + 1):
        (folder / "rollouts" / f"night{number}.jsonl").write_bytes(lines(number, 8))
        refreshed(folder)
    stop.set()
    reader.join()
    assert not failures, failures
    assert seen <= {(12 + 4 * n, 12 + 4 * n) for n in range(nights + 1)}
    assert len(seen) > 1
