"""Refreshing: what is published equals a rebuild from nothing, versions appear whole or not at all, and gates hold."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rollout_etl.publish.files import sha256_of
from tests.command import run
from tests.pipelines import PIPELINE, SHARDED, hold_equal_to_a_rebuild, laid_out, lines, published, refresh, refreshed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return laid_out(tmp_path, PIPELINE)


def test_ten_nights(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Late rollouts, a replaced file, a deleted one, a delivery twice, half an upload, a clock that goes backwards, and others."""
    (folder / "pipeline.toml").write_text(SHARDED)
    rollouts = folder / "rollouts"
    (rollouts / "night0.jsonl").rename(rollouts / "night-part0.jsonl")

    def grow() -> None:
        with (rollouts / "night-part0.jsonl").open("ab") as file:
            file.write(lines(0, 8).replace(b"answer", b"late answer"))

    def replace_silently() -> None:
        path = rollouts / "night-part1.jsonl"
        stat, text = path.stat(), path.read_bytes()
        path.write_bytes(text.replace(b"answer 0", b"ANSWER 0"))
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    def old_clock() -> None:
        (rollouts / "night-part5.jsonl").write_bytes(lines(5))
        os.utime(rollouts / "night-part5.jsonl", (0, 0))

    nights = [
        lambda: (rollouts / "night-part1.jsonl").write_bytes(lines(1)),
        grow,
        replace_silently,
        lambda: shutil.copy(rollouts / "night-part1.jsonl", rollouts / "night-part1_again.jsonl"),
        lambda: (rollouts / "night-part2.jsonl").write_bytes(lines(2)[:-40]),
        lambda: (rollouts / "night-part2.jsonl").write_bytes(lines(2)),
        old_clock,
        # Late rollouts in a file of their own that comes before the others.
        lambda: (rollouts / "night-part00.jsonl").write_bytes(lines(1, 12).replace(b'"reward": 0.0', b'"reward": 2.0')),
        lambda: (rollouts / "night-part0.jsonl").unlink(),
        lambda: (rollouts / "night-part1.jsonl").rename(rollouts / "night-part9.jsonl"),
    ]
    refreshed(folder)
    for number, night in enumerate(nights):
        night()
        report = refreshed(folder)
        assert report.published == (number != 3), number
        hold_equal_to_a_rebuild(folder, tmp_path_factory.mktemp("rebuilt"))
        assert any("has the same content" in note for note in report.change.notes) == (number >= 3)
    assert len(list((folder / "training" / "versions").iterdir())) == 3


def test_unchanged_shards_are_linked(folder: Path) -> None:
    (folder / "pipeline.toml").write_text(SHARDED)
    (folder / "rollouts" / "night0.jsonl").write_bytes(lines(0, 120))
    refreshed(folder)

    def places() -> dict[bytes, int]:
        current = (folder / "training" / "current").resolve()
        return {path.read_bytes(): path.stat().st_ino for path in current.rglob("part-*")}

    before = places()
    # One answer in the middle.
    text = lines(0, 120).splitlines(keepends=True)
    text[62] = text[62].replace(b"answer", b"better answer")
    (folder / "rollouts" / "night0.jsonl").write_bytes(b"".join(text))
    refreshed(folder)
    after = places()
    assert 1 <= len(after.keys() - before.keys()) <= 3
    assert all(after[data] == before[data] for data in after.keys() & before.keys())


def test_without_the_store(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where deltalake is not installed everything is read, and comes out the same."""
    (folder / "pipeline.toml").write_text(SHARDED)
    program = "import sys; sys.modules['deltalake'] = None; from rollout_etl.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", program, "refresh", "pipeline.toml"], cwd=folder, capture_output=True, text=True, timeout=120)
    assert (done.returncode, "pip install '.[refresh]'" in done.stderr) == (0, True)
    elsewhere = tmp_path_factory.mktemp("rebuilt")
    (elsewhere / "rollouts").symlink_to(folder / "rollouts")
    shutil.copy(folder / "pipeline.toml", elsewhere)
    refreshed(elsewhere)
    assert published(folder) == published(elsewhere)


@pytest.mark.parametrize("name", ["a b", "é", "a#b", "a?b", "100%", "{a,b}", "a*b", "a%20b", "[c]", "a\\b", "a^b|c"])
def test_folders_of_any_name(name: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path / name
    folder.mkdir()
    laid_out(folder, SHARDED)
    assert refreshed(folder).published
    (folder / "rollouts" / "night1.jsonl").write_bytes(lines(1))
    report = refreshed(folder)
    assert report.published
    # Where deltalake cannot follow, all is read, and nothing is made elsewhere.
    kept = (folder / "training" / ".refresh" / "rollouts" / "_delta_log").is_dir()
    assert kept != any("deltalake does not take" in note for note in report.change.notes)
    assert kept == (name not in ("a%20b", "[c]", "a\\b", "a^b|c"))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    elsewhere = laid_out(tmp_path_factory.mktemp("elsewhere"), SHARDED)
    (elsewhere / "rollouts" / "night1.jsonl").write_bytes(lines(1))
    refreshed(elsewhere)
    assert published(folder) == published(elsewhere)


def test_nothing_new_writes_nothing(folder: Path) -> None:
    assert refresh(folder)[0] == 0
    before = {path: path.lstat().st_mtime_ns for path in (folder / "training").rglob("*")}
    os.utime(folder / "rollouts" / "night0.jsonl")
    code, report = refresh(folder)
    assert (code, report["published"], report["version"]) == (0, False, 1)
    assert {path: path.lstat().st_mtime_ns for path in (folder / "training").rglob("*")} == before


def test_plan_writes_nothing_and_says_what_a_refresh_does(folder: Path) -> None:
    planned = json.loads(run("plan", "pipeline.toml", "--json", folder=folder).stdout)
    assert not (folder / "training").exists()
    code, report = refresh(folder)
    assert code == 0
    assert planned["rows"] == report["rows"] == {"sft.jsonl": 12, "pairs.parquet": 6}
    assert planned["change"]["new"] == report["change"]["new"]
    (folder / "rollouts" / "night1.jsonl").write_bytes(lines(1))
    said = run("plan", "pipeline.toml", folder=folder).stdout
    assert "sft.jsonl    24 rows, +12" in said
    assert "night1.jsonl" in said


def test_plan_knows_as_little_of_urls_as_a_refresh(folder: Path) -> None:
    url = (folder / "rollouts" / "night0.jsonl").as_uri()
    (folder / "pipeline.toml").write_text(PIPELINE.replace('inputs = ["rollouts"]', f'inputs = ["{url}"]'))
    assert refresh(folder)[0] == 0
    assert json.loads(run("plan", "pipeline.toml", "--json", folder=folder).stdout)["change"]["changed"] == [url]
    assert "would publish" in run("plan", "pipeline.toml", folder=folder).stdout
    assert refresh(folder)[1]["published"] is True


def test_rollback_stays_until_the_inputs_change(folder: Path) -> None:
    assert refresh(folder)[0] == 0
    first = published(folder)
    (folder / "rollouts" / "night1.jsonl").write_bytes(lines(1))
    assert refresh(folder)[0] == 0
    assert run("rollback", "pipeline.toml", "1", folder=folder).returncode == 0
    assert published(folder) == first
    rows = len((folder / "training" / "current" / "sft.jsonl").read_bytes().splitlines())
    done = refresh(folder)[1]
    assert (done["published"], done["version"], done["rows"]["sft.jsonl"]) == (False, 1, rows)
    assert published(folder) == first
    (folder / "rollouts" / "night2.jsonl").write_bytes(lines(2))
    assert refresh(folder)[1]["version"] == 3
    done = run("rollback", "pipeline.toml", "9", folder=folder)
    assert (done.returncode, done.stderr) == (2, "rollout-etl: there is no version 9; there are 1, 2, 3\n")


def test_gates_compare_with_the_version_in_use(folder: Path) -> None:
    (folder / "pipeline.toml").write_text(PIPELINE.replace("[[output]]", "[gates]\nmax-row-change = 0.5\n\n[[output]]", 1))
    for night in (1, 2, 3):
        (folder / "rollouts" / f"night{night}.jsonl").write_bytes(lines(night))
    assert refresh(folder)[0] == 0
    broken = [folder / "rollouts" / f"night{night}.jsonl" for night in (1, 2, 3)]
    mended = [path.read_bytes() for path in broken]
    for path in broken:
        path.write_bytes(b"")
    assert refresh(folder)[0] == 4
    assert run("refresh", "pipeline.toml", "--force", "max-row-change", folder=folder).returncode == 0
    assert run("rollback", "pipeline.toml", "1", folder=folder).returncode == 0
    (folder / "rollouts" / "night0.jsonl").write_bytes(lines(0) + b"\n")
    assert refresh(folder)[0] == 4
    for path, text in zip(broken, mended, strict=True):
        path.write_bytes(text)
    done = refresh(folder)
    assert (done[0], done[1]["published"]) == (0, True)


@pytest.mark.parametrize("text", ["{}", "[]", "{", '{"version": 1}'])
@pytest.mark.parametrize("command", ["refresh", "status", "plan"])
def test_a_damaged_record_is_named(command: str, text: str, folder: Path) -> None:
    assert refresh(folder)[0] == 0
    (folder / "training" / "versions" / "000001" / "version.json").write_text(text)
    done = run(command, "pipeline.toml", folder=folder)
    assert done.returncode == 3 and "cannot read " in done.stderr and "000001/version.json" in done.stderr


def test_a_refresh_that_succeeds_is_not_called_failed(folder: Path) -> None:
    assert refresh(folder)[0] == 0
    assert run("refresh", "pipeline.toml", "--force", "nope", folder=folder).returncode == 2
    assert "the last refresh failed" in run("status", "pipeline.toml", folder=folder).stdout
    assert refresh(folder)[1]["published"] is False
    assert "failed" not in run("status", "pipeline.toml", folder=folder).stdout


def test_unchanged_files_share_their_place(folder: Path) -> None:
    assert refresh(folder)[0] == 0
    (folder / "pipeline.toml").write_text(PIPELINE + '[[output]]\nfile = "kto.jsonl"\nrecipe = "kto"\ntarget = "custom"\nmap = ["prompt=input", "label=reward"]\nas = "text"\n')
    assert refresh(folder)[0] == 0
    first, second = (folder / "training" / "versions" / name / "sft.jsonl" for name in ("000001", "000002"))
    assert first.samefile(second)


@pytest.mark.parametrize(("pipeline", "name"), [(PIPELINE, "sft.jsonl"), (SHARDED, "shards/part-00001.parquet")])
def test_damage_stays_where_it_is(pipeline: str, name: str, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A file of the version before that changed on the disk, but not its size, is not carried on."""
    (folder / "pipeline.toml").write_text(pipeline)
    (folder / "rollouts" / "night0.jsonl").write_bytes(lines(0, 120))
    refreshed(folder)
    file = (folder / "training" / "current").resolve() / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    # No new rows: each file comes out as it was.
    (folder / "rollouts" / "night1.jsonl").write_bytes(lines(1, 4).replace(b'"reward": 1.0', b'"reward": 0.0'))
    assert any(f"{file} is missing or damaged" in note for note in refreshed(folder).change.notes)
    hold_equal_to_a_rebuild(folder, tmp_path_factory.mktemp("rebuilt"))


@pytest.mark.parametrize(
    ("pipeline", "name", "damage"),
    [(PIPELINE, "sft.jsonl", "changed"), (PIPELINE, "sft.jsonl.nemo-rl.yaml", "gone"), (SHARDED, "shards/part-00001.parquet", "cut")],
)
def test_damage_is_made_good_without_new_inputs(pipeline: str, name: str, damage: str, folder: Path) -> None:
    """Files of the current version that are missing, cut or changed are made anew, and what a refresh says of them is true."""
    (folder / "pipeline.toml").write_text(pipeline)
    (folder / "rollouts" / "night0.jsonl").write_bytes(lines(0, 120))
    refreshed(folder)
    whole = published(folder)
    file = (folder / "training" / "current").resolve() / name
    data, kept = file.read_bytes(), file.stat()
    file.unlink()
    if damage == "cut":
        file.write_bytes(data[: len(data) // 2])
    if damage == "changed":
        file.write_bytes(bytes([data[0] ^ 1]) + data[1:])
        os.utime(file, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    planned = run("plan", "pipeline.toml", folder=folder).stdout
    assert f"{name} is missing or damaged\n" in planned and planned.endswith("would publish a new version\n")
    done = refreshed(folder)
    assert (done.published, done.version) == (True, 2)
    assert [note for note in done.change.notes if note.endswith("is missing or damaged, and was made anew")]
    assert published(folder) == whole and (folder / "training" / "current" / name).is_file()
    assert refreshed(folder).nothing_new


def test_damage_after_a_rollback(folder: Path) -> None:
    """A version that was chosen by hand is not replaced by another one, and none is chosen that is damaged."""
    refreshed(folder)
    (folder / "rollouts" / "night1.jsonl").write_bytes(lines(1))
    refreshed(folder)
    assert run("rollback", "pipeline.toml", "1", folder=folder).returncode == 0
    first, second = (folder / "training" / "versions" / name / "sft.jsonl" for name in ("000001", "000002"))
    data = second.read_bytes()
    second.write_bytes(b"")
    assert refresh(folder)[1]["version"] == 1
    done = run("rollback", "pipeline.toml", "2", folder=folder)
    said = "training/versions/000002/sft.jsonl is missing or damaged: go back to another version"
    assert (done.returncode, done.stderr) == (3, f"rollout-etl: {said}\n")
    second.write_bytes(data)
    first.unlink()
    code, report = refresh(folder)
    assert (code, report["error"]) == (3, "training/versions/000001/sft.jsonl is missing or damaged: go back to another version with rollout-etl rollback")
    assert run("rollback", "pipeline.toml", "2", folder=folder).returncode == 0
    assert refresh(folder)[1]["version"] == 2


def test_damage_of_a_version_that_was_forced(folder: Path) -> None:
    (folder / "pipeline.toml").write_text(PIPELINE.replace("[[output]]", "[gates]\nmin-rows = 10\n\n[[output]]", 1))
    assert refresh(folder)[0] == 4
    assert refresh(folder, "--force", "min-rows")[0] == 0
    (folder / "training" / "current" / "pairs.parquet").unlink()
    code, report = refresh(folder)
    assert (code, report["version"]) == (0, 2)
    assert [gate["gate"] for gate in report["gates"] if gate["forced"]] == ["min-rows"]


def test_whole_files_are_not_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refreshed(folder)
    (folder / "rollouts" / "night1.jsonl").write_bytes(lines(1))
    for number in range(2):
        (folder / "rollouts" / f"night{number}.jsonl").touch()
        refreshed(folder)
    monkeypatch.setattr("rollout_etl.refresh.fingerprints.sha256_of", lambda path: pytest.fail(f"{path} was read") if "training" in str(path) else sha256_of(path))
    assert refreshed(folder).nothing_new
    assert refresh(folder)[1]["published"] is False


def test_splits(folder: Path) -> None:
    """Both parts are published, with the run file that names them, and no prompt changes its side as data grows."""
    (folder / "pipeline.toml").write_text(PIPELINE.replace("reward-threshold = 0.5", "reward-threshold = 0.5\nval = 0.6"))
    sides: dict[str, set[str]] = {"sft.jsonl": set(), "sft.val.jsonl": set()}
    for number in range(3):
        (folder / "rollouts" / f"night{number}.jsonl").write_bytes(lines(number, 40))
        assert refresh(folder)[0] == 0
        current = published(folder)
        for name, questions in sides.items():
            now = {json.loads(line)["messages"][0]["content"] for line in current[name].splitlines()}
            assert questions <= now
            questions |= now
    assert len(sides["sft.jsonl"]) + len(sides["sft.val.jsonl"]) == 30
    assert not sides["sft.jsonl"] & sides["sft.val.jsonl"]
    version = (folder / "training" / "current").resolve()
    assert str(version / "sft.val.jsonl") in (version / "sft.jsonl.nemo-rl.yaml").read_text()
    assert "  - split: val\n    path: sft.val.jsonl\n" in (version / "README.md").read_text()


@pytest.mark.parametrize("damage", ["gone", "dangling"])
def test_a_pointer_that_names_nothing_is_mended(folder: Path, damage: str) -> None:
    assert refreshed(folder).published
    current = folder / "training" / "current"
    current.unlink()
    if damage == "dangling":
        current.symlink_to("versions/000009")
    done = refreshed(folder)
    assert (done.published, done.version, current.resolve().name) == (True, 1, "000001")
    current.unlink()
    done = run("rollback", "pipeline.toml", "1", folder=folder)
    assert (done.returncode, done.stderr) == (0, "current is 1\n")
    shutil.rmtree(folder / "training" / "versions")
    done = run("rollback", "pipeline.toml", "1", folder=folder)
    assert (done.returncode, done.stderr) == (2, "rollout-etl: training has no version yet\n")
    assert refreshed(folder).version == 2
