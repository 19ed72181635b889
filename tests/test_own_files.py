"""Files that this program writes: they are no inputs of the next run, and nothing else is replaced by them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from rollout_etl.own_files import begins_as, is_own_folder
from rollout_etl.read.inputs import find_inputs
from rollout_etl.read.quarantine import BadLine
from tests.command import DEMO, run

LOOSE = ("--max-bad-fraction", "0.05")


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder that holds the folder `in`, where the demo lies."""
    (tmp_path / "in").mkdir()
    shutil.copy(DEMO, tmp_path / "in")
    return tmp_path


def test_whatever_a_run_leaves_among_its_inputs_the_next_run_reads_the_same(here: Path) -> None:
    command = ["sft", "in", "-o", "in/sft.jsonl", "--target", "trl", "--split", "train=0.8,val=0.2", *LOOSE, "--quarantine", "in/bad.jsonl", "--profile", "in/profile.json"]
    assert run("stats", "in", *LOOSE, "--html", "in/report.html", "--profile", "in/stats.json", folder=here).returncode == 0
    assert run(*command, folder=here).returncode == 0
    assert run("grpo", "in", "-o", "in/shards/", "--shards", "2", *LOOSE, folder=here).returncode == 0
    assert run("ingest", "in", "-o", "in/kept", *LOOSE, folder=here).returncode == 0
    assert run("sql", "in/rollouts.jsonl", *LOOSE, "SELECT source, line, reason, text FROM quarantined", "-o", "in/asked.jsonl", folder=here).returncode == 0
    # What runs leave that die.
    for name in (".sft.jsonl.0123456789ab.unfinished/run.json", ".shards.17.partial/part-00000.jsonl", ".shards.17.replaced/part-00000.jsonl"):
        (here / "in" / name).parent.mkdir()
        (here / "in" / name).write_text("{}\n")
    before = (here / "in" / "sft.jsonl").read_bytes()
    done = run(*command, folder=here)
    assert done.returncode == 0
    assert (here / "in" / "sft.jsonl").read_bytes() == before
    inputs, notes = find_inputs([here / "in"])
    assert [Path(item.path).name for item in inputs] == ["rollouts.jsonl"]
    assert notes == ["left out 14 file(s) that rollout-etl wrote: asked.jsonl, bad.jsonl, profile.json, ... (name a file to read it nevertheless)"]


def test_a_refresh_may_publish_among_its_inputs(here: Path) -> None:
    (here / "in" / "pipeline.toml").write_text(
        'inputs = ["."]\npublish = "training"\n[options]\nmax-bad-fraction = 0.05\n[[output]]\nfile = "sft.jsonl"\nrecipe = "sft"\n'
    )
    said = [run("refresh", "in/pipeline.toml", folder=here) for _ in range(2)]
    assert [done.returncode for done in said] == [0, 0]
    assert "version 1" in said[0].stderr and "nothing new; current is version 1" in said[1].stderr
    assert [Path(item.path).name for item in find_inputs([here / "in"])[0]] == ["rollouts.jsonl"]


def test_what_is_taken_for_rollouts_is_spoken_of_when_it_is_written(here: Path) -> None:
    said = "lies in in, which was searched for rollouts: the next search will find it there"
    assert f"in/all.jsonl {said}" in run("merge", "a=in", "-o", "in/all.jsonl", *LOOSE, folder=here).stderr
    assert f"in/rows.parquet {said}" in run("sql", "in", *LOOSE, "FROM rollouts", "-o", "in/rows.parquet", folder=here).stderr
    assert said not in run("sql", "in/rollouts.jsonl", *LOOSE, "FROM rollouts", "-o", "in/more.csv", folder=here).stderr


@pytest.mark.parametrize("target", ["nemo-rl", "trl", "openrlhf", "verl"])
def test_config_replaces_run_files_and_nothing_else(target: str, here: Path) -> None:
    kind = "jsonl" if target == "nemo-rl" else "parquet"
    run("sft", "in", "-o", f"train.{kind}", *LOOSE, "--target", target, "--split", "train=0.8,val=0.2", "--quiet", folder=here)
    command = ["config", "sft", "--target", target, "--train", f"train.{kind}", "--val", f"train.val.{kind}", "-o", "mine.yaml"]
    (here / "mine.yaml").write_text("model: my own\n")
    done = run(*command, folder=here)
    assert (done.returncode, done.stderr) == (2, "rollout-etl: mine.yaml already exists and is not a run file; give the run file another name\n")
    assert (here / "mine.yaml").read_text() == "model: my own\n"
    (here / "mine.yaml").unlink()
    for model in ("one", "another"):
        assert run(*command, "--model", model, folder=here).returncode == 0
        assert model in (here / "mine.yaml").read_text()


def test_beginnings(tmp_path: Path) -> None:
    file = tmp_path / "file"
    for source in ("a.jsonl", 'quote " and \\ backslash', "\n", "ä" * 4000):
        file.write_text(BadLine(source, 3, "not JSON: x", b"text").to_json() + "\n")
        assert begins_as(file, "quarantine") and not begins_as(file, "profile", "run file")
    for text in ("", "{", '{"source": "web", "line": "3", "reward": 1}', json.dumps({"seconds": 3})):
        file.write_text(text)
        assert not begins_as(file, "quarantine", "profile", "run file")
    assert not any(map(is_own_folder, ("partial", "a.partial", ".a.partial", ".git", "a.12.partial")))


@pytest.mark.parametrize(
    ("inputs", "publish"), [("in/*", "in/training"), (".", "."), ("**/*.json*", "."), ("**/*.json*", "in/training"), ("in/**", "in/training")]
)
def test_a_refresh_never_reads_its_own_state(here: Path, inputs: str, publish: str) -> None:
    (here / "p.toml").write_text(
        f'inputs = ["{inputs}"]\npublish = "{publish}"\n[options]\nmax-bad-fraction = 0.05\n'
        '[[output]]\nfile = "sft.jsonl"\nrecipe = "sft"\n[[output]]\nfile = "shards"\nrecipe = "sft"\ntarget = "trl"\nshards = 2\n'
    )
    said = [run("refresh", "p.toml", folder=here) for _ in range(2)]
    assert [done.returncode for done in said] == [0, 0], said
    assert "nothing new; current is version 1" in said[1].stderr
    record = json.loads((here / publish / "current" / "version.json").read_text())
    assert [Path(source["path"]).name for source in record["inputs"]] == ["rollouts.jsonl"]


def test_pipes_among_rollouts_are_left_out(here: Path) -> None:
    os.mkfifo(here / "in" / "pipe.jsonl")
    for path in ("in", "in/*.jsonl"):
        done = run("sft", path, "-o", "sft.jsonl", *LOOSE, folder=here)
        assert done.returncode == 0
        assert "left out 1 pipe(s) or device(s): pipe.jsonl" in done.stderr
