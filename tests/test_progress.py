"""How far a run is, said on a terminal, in plain lines, as JSON and in a profile; and to Python through `logging`."""

from __future__ import annotations

import json
import logging
import subprocess
from pathlib import Path
from typing import Any

import pexpect
import pytest

from rollout_etl.cli.talk import TALK, Listener
from rollout_etl.errors import UsageError, WriteError
from rollout_etl.progress import LOG, Stage
from rollout_etl.publish.files import StagedFile
from rollout_etl.recipes.options import DpoOptions
from rollout_etl.run.execute import Run, execute
from tests.command import COMMAND, ROOT

DEMO = str(ROOT / "demo" / "rollouts.jsonl")
DPO = ["dpo", DEMO, "-o", "out.jsonl", "--max-bad-fraction", "0.05"]


def said(folder: Path, *arguments: str) -> tuple[int, str, str]:
    done = subprocess.run([COMMAND, *arguments], cwd=folder, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout, done.stderr


def test_plain_lines_tell_each_stage(tmp_path: Path) -> None:
    code, out, err = said(tmp_path, *DPO, "--progress", "plain", "--quiet")
    read, fetch, publish = err.splitlines()
    assert (code, out) == (0, "")
    size = Path(DEMO).stat().st_size / 1000
    assert read.startswith(f"48 rollouts read, {size:.3g} kB of {size:.3g} kB, ") and fetch.startswith("16 rollouts fetched, ")
    assert publish.startswith("publish: ")


@pytest.mark.parametrize("arguments", [[], ["--progress", "none"], ["--quiet"]])
def test_nothing_moves_where_there_is_no_terminal(tmp_path: Path, arguments: list[str]) -> None:
    code, _, err = said(tmp_path, *DPO, *arguments)
    assert code == 0 and "\r" not in err and "rollouts read," not in err


def test_a_terminal_shows_one_moving_line_and_wipes_it(tmp_path: Path) -> None:
    shown = pexpect.run(f"{COMMAND} {' '.join(DPO)}", cwd=str(tmp_path), encoding="utf-8", timeout=60)
    assert "\r\x1b[K" in shown
    assert "rollouts read" not in shown.split("\r\x1b[K")[-1]


def test_json_lines_are_all_there_is_on_standard_error(tmp_path: Path) -> None:
    code, out, err = said(tmp_path, *DPO, "--log-format", "json", "--json")
    events: list[dict[str, Any]] = [json.loads(line) for line in err.splitlines()]
    assert code == 0 and [(event["event"], event.get("stage")) for event in events] == [
        ("begin", "read"), ("end", "read"), ("begin", "fetch"), ("end", "fetch"), ("begin", "publish"), ("end", "publish"), ("report", None),
    ]
    report = {name: value for name, value in events[-1].items() if name not in ("time", "event")}
    assert report == json.loads(out)
    assert all(event["time"].endswith("+00:00") for event in events)


@pytest.mark.parametrize(
    ("arguments", "last"),
    [
        (["sql", DEMO, "SELECT row FROM rollouts", "--limit", "1", "--unsafe"], "note"),
        (["ingest", DEMO, "-o", "ingested"], "ingested"),
        (["merge", f"a={DEMO}", "-o", "merged.jsonl"], "merged"),
        (["stats", DEMO, "--group-by", "nope"], "note"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_notes_and_summaries_are_json_lines_too(tmp_path: Path, arguments: list[str], last: str) -> None:
    code, _, err = said(tmp_path, *arguments, "--max-bad-fraction", "0.05", "--log-format", "json")
    assert (code, json.loads(err.splitlines()[-1])["event"]) == (0, last)
    assert all(json.loads(line) for line in err.splitlines())


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["sft", "gone.jsonl", "-o", "out.jsonl"], 2, "no such file or folder: gone.jsonl"),
        (["sft", DEMO, "-o", "out.jsonl"], 3, "1 of 49 lines are not rollouts"),
        (["sft", DEMO, "-o", "out.jsonl", "--max-bad-fraction", "0.05", "--reward-threshold", "9"], 1, "nothing to write; out.jsonl was not created"),
        (["stats", "gone.jsonl"], 2, "no such file or folder: gone.jsonl"),
        (["ingest", "gone.jsonl", "-o", "out"], 2, "no such file or folder: gone.jsonl"),
    ],
)
def test_an_error_is_one_json_line(tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    found, _, err = said(tmp_path, *arguments, "--log-format", "json")
    last = json.loads(err.splitlines()[-1])
    assert (found, last["event"], last["exit_code"]) == (code, "error", code) and last["message"].startswith(message)


def test_the_profile_says_where_time_and_memory_went(tmp_path: Path) -> None:
    assert said(tmp_path, *DPO, "--profile", "profile.json")[0] == 0
    profile = json.loads((tmp_path / "profile.json").read_text())
    assert [stage["stage"] for stage in profile["stages"]] == ["read", "fetch", "publish"]
    assert 0 < sum(stage["seconds"] for stage in profile["stages"]) <= profile["seconds"]
    assert all(stage["waited_seconds"] <= stage["seconds"] + 0.01 for stage in profile["stages"])
    assert 50e6 < profile["stages"][0]["peak_memory"] <= profile["peak_memory"] < 4e9


def test_what_went_wrong_before_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile that cannot be brought to its place does not hide it."""

    def refuse(file: StagedFile) -> None:
        raise WriteError(f"cannot write {file.path}")

    monkeypatch.setattr(StagedFile, "publish", refuse)
    monkeypatch.setattr(TALK, "profile", tmp_path / "p.json")
    with pytest.raises(UsageError, match="before"), Listener():
        raise UsageError("before")
    with pytest.raises(WriteError, match=r"p\.json"), Listener():
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sft", "in.jsonl", "-o", "out.jsonl", "--profile", "in.jsonl"], "in.jsonl already exists and is not a profile; give the profile another name"),
        (["stats", "in.jsonl", "--profile", "in.jsonl"], "in.jsonl already exists and is not a profile; give the profile another name"),
        (["sft", "in.jsonl", "-o", "out.jsonl", "--profile", "out.jsonl"], "out.jsonl is already used by another option; give the profile another name"),
        (["sft", "in.jsonl", "-o", "out.jsonl", "--profile", "."], ". already exists and is not a profile; give the profile another name"),
    ],
)
def test_a_profile_takes_the_place_of_a_profile_only(tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "in.jsonl").write_bytes(Path(DEMO).read_bytes())
    code, _, err = said(tmp_path, *arguments)
    assert (code, err) == (2, f"rollout-etl: {message}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"] and (tmp_path / "in.jsonl").read_bytes() == Path(DEMO).read_bytes()


def test_a_profile_is_written_anew_and_makes_its_folder(tmp_path: Path) -> None:
    for _ in range(2):
        assert said(tmp_path, *DPO, "--quiet", "--profile", "deep/profile.json")[::2] == (0, "")
    assert json.loads((tmp_path / "deep" / "profile.json").read_text())["stages"]


def test_python_hears_of_stages_through_logging(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger=LOG.name):
        execute(Run(inputs=[DEMO], output=tmp_path / "out.jsonl", options=DpoOptions(), max_bad_fraction=0.05))
    told = [(record.event, record.stage.name, record.stage.rows) for record in caplog.records]  # type: ignore[attr-defined]
    assert [event for event in told if event[0] == "end"] == [("end", "read", 48), ("end", "fetch", 16), ("end", "publish", 0)]


def test_time_left_is_known_where_the_size_is() -> None:
    stage = Stage("read", 100)
    assert stage.seconds_left is None
    stage.advance(bytes=50)
    assert stage.seconds_left == pytest.approx(stage.seconds, abs=0.01)
    assert Stage("read").seconds_left is None
