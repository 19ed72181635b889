"""Runs on disk that are killed at any moment: the same command completes with the same bytes, and reads no finished range again."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rollout_etl.curate.options import Curation
from rollout_etl.engines.local import Local
from rollout_etl.errors import LockedError
from rollout_etl.publish.outputs import Sharding
from rollout_etl.publish.partitioned import PartitionedFile
from rollout_etl.recipes.options import DpoOptions, GrpoOptions
from rollout_etl.run.execute import Run, execute
from tests.test_curation_runs import rollout

KILLS = 50 if os.environ.get("EXHAUSTIVE") else 5
LINES = 900
SCRIPT = """
import json, sys
from pathlib import Path
from rollout_etl.bounded.passes import Pass
from rollout_etl.publish.outputs import Sharding
from rollout_etl.recipes.options import DpoOptions
from rollout_etl.run.execute import Run, execute

done, run = [], Pass.run

def counted(self, number, span):
    lines = run(self, number, span)
    done.append((self.kind, number, lines))
    return lines

Pass.run = counted
report = execute(Run(
    inputs=["in.jsonl"], output=Path("out"), options=DpoOptions(strategy="all", min_gap=0), sharding=Sharding(size=20_000), memory_limit=130_000, config=False,
))
print(json.dumps({"done": done, "remarks": report.remarks, "notes": report.notes}))
"""


@pytest.fixture(scope="module")
def lines() -> str:
    return "".join(json.dumps(rollout(task, attempt, agent="math agent")) + "\n" for attempt in range(6) for task in range(LINES // 6))


def start(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", SCRIPT], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finished(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    said, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors.decode()
    found: dict[str, Any] = json.loads(said)
    return found


def output(folder: Path) -> dict[str, bytes]:
    """Every file but the input. The record tells the same whether a run resumed or not."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "in.jsonl"}


def test_killed_at_any_moment(lines: str, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(lines)
    began = time.monotonic()
    whole = finished(start(tmp_path))
    seconds = time.monotonic() - began
    expected = output(tmp_path)
    assert len(expected) > 3 and whole["remarks"] == []
    tasks = Counter(kind for kind, _, _ in whole["done"])
    assert tasks["judged"] == tasks["fetched"] >= 3
    rng, killed, went_on = random.Random(0), 0, 0
    for _ in range(KILLS):
        for path in [path for path in tmp_path.iterdir() if path.name != "in.jsonl"]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        process = start(tmp_path)
        time.sleep(seconds * (0.3 + 0.7 * rng.random()))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
        files = [path for path in tmp_path.glob(".*.unfinished/*.parquet") if path.name.startswith(("judged", "fetched"))]
        left = {(path.name.split("-")[0], int(path.stem.split("-")[-1])): PartitionedFile(path).facts.get("read", 0) for path in files}
        again = finished(start(tmp_path))
        assert output(tmp_path) == expected
        # What was done is not done again, and no more: counted in tasks and in lines.
        done = {(kind, number) for kind, number, _ in again["done"]}
        assert done.isdisjoint(left) and len(done) + len(left) == 2 * tasks["judged"]
        assert sum(read for _, _, read in again["done"]) == LINES - sum(left.values())
        said = [remark for remark in again["remarks"] if "resumed" in remark]
        assert bool(said) == bool(left) and all(f"{sum(left.values())} lines were not read again" in remark for remark in said)
        went_on += bool(left)
    assert killed >= KILLS // 2 and went_on


def run_once(folder: Path, **others: Any) -> list[str]:
    """A run that is stopped after its first task, and one that is not: what the second says of the first."""
    asked: dict[str, Any] = {"options": GrpoOptions(), "curation": others.pop("curation", Curation())}
    run = Run(inputs=[str(folder / "in.jsonl")], output=folder / "out.jsonl", memory_limit=100_000, temp_dir=folder / "scratch", **asked)

    do = Local.run

    def stopped(engine: Local, task: Any, arguments: Any) -> Iterator[int]:
        yield next(do(engine, task, arguments))
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Local, "run", stopped)
        execute(run)
    changed = others.pop("changed", lambda: None)
    changed()
    report = execute(Run(**{**run.__dict__, **others}))
    assert list((folder / "scratch").iterdir()) == []
    return [remark for remark in report.remarks if "resumed" in remark or "started over" in remark]


def test_goes_on(lines: str, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(lines)
    assert "resumed" in run_once(tmp_path)[0]
    assert "resumed" in run_once(tmp_path, threads=1, max_bad_fraction=0.5)[0]


@pytest.mark.parametrize("others", [{"options": GrpoOptions(all_rollouts=True)}, {"options": DpoOptions()}, {"memory_limit": 90_000}, {"think": "strip"}])
def test_starts_over_with_other_options(others: dict[str, Any], lines: str, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(lines)
    assert "started over" in run_once(tmp_path, **others)[0]


def test_starts_over_with_another_input(lines: str, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text(lines)

    def changed() -> None:
        found = source.stat()
        source.write_text(lines[:1000] + lines[1000:].replace("answer 0", "answer 9"))
        os.utime(source, ns=(found.st_atime_ns, found.st_mtime_ns + 1))

    assert "started over" in run_once(tmp_path, changed=changed)[0]
    assert "answer 9" in (tmp_path / "out.jsonl").read_text()


def test_starts_over_with_other_prompts_to_exclude(lines: str, tmp_path: Path) -> None:
    """The option is the same, but not what it names."""
    (tmp_path / "in.jsonl").write_text(lines)
    (tmp_path / "benchmark.txt").write_text("question 1?\n")
    curation = Curation(exclude_prompts=str(tmp_path / "benchmark.txt"))
    assert "resumed" in run_once(tmp_path, curation=curation)[0]
    assert "started over" in run_once(tmp_path, curation=curation, changed=lambda: (tmp_path / "benchmark.txt").write_text("question 2?\n"))[0]
    written = (tmp_path / "out.jsonl").read_text()
    assert "question 1?" in written and "question 2?" not in written


def test_a_run_in_memory_leaves_nothing_of_an_interrupted_one(lines: str, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(lines)
    process = start(tmp_path)
    while not list(tmp_path.glob(".*.unfinished/judged-*.parquet")):
        time.sleep(0.01)
    asked = {"inputs": [str(tmp_path / "in.jsonl")], "output": tmp_path / "out", "options": DpoOptions(strategy="all", min_gap=0), "sharding": Sharding(size=20_000)}
    process.send_signal(signal.SIGSTOP)
    with pytest.raises(LockedError, match="another run for the same output"):
        execute(Run(**asked))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    execute(Run(**asked, dry_run=True))
    assert list(tmp_path.glob(".*.unfinished"))
    report = execute(Run(**asked))
    assert report.remarks == ["removed the intermediate results of an interrupted run, since this one fits into memory"]
    assert not list(tmp_path.glob(".*"))
