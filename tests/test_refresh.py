"""Refreshing: what is published equals a rebuild from nothing, versions appear whole or not at all, and gates hold."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import types
from pathlib import Path
from typing import Any

import pytest

from rollout_etl.cli.updating import _run_of
from rollout_etl.refresh import refresh as refreshing
from rollout_etl.refresh.gates import GATES
from rollout_etl.refresh.pipeline import NOTIFY, TOP, load
from rollout_etl.refresh.refresh import Refreshed
from tests.command import run

COMMAND = str(Path(sys.executable).with_name("rollout-etl"))
PIPELINE = """
inputs = ["rollouts"]
publish = "training"
keep-versions = 3

[options]
max-bad-fraction = 0.2

[[output]]
file = "sft.jsonl"
recipe = "sft"
reward-threshold = 0.5

[[output]]
file = "pairs.parquet"
recipe = "dpo"
target = "trl"
"""


def lines(seed: int, count: int = 24) -> bytes:
    """Four attempts at each of some prompts."""
    rng = random.Random(seed)
    made = []
    for number in range(count):
        answer = [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": f"answer {rng.random()}"}]}]
        rollout = {"responses_create_params": {"input": f"question {seed}-{number // 4}"}, "response": {"output": answer}, "reward": float(number % 4 > 1)}
        made.append(json.dumps({**rollout, "_ng_task_index": seed * 100 + number // 4, "_ng_rollout_index": number % 4}).encode() + b"\n")
    return b"".join(made)


def laid_out(folder: Path, pipeline: str) -> Path:
    """`folder` with a pipeline and one night of rollouts."""
    (folder / "rollouts").mkdir()
    (folder / "pipeline.toml").write_text(pipeline)
    (folder / "rollouts" / "night0.jsonl").write_bytes(lines(0))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return laid_out(tmp_path, PIPELINE)


def refresh(folder: Path, *options: str) -> tuple[int, dict[str, Any]]:
    """Exit code and report."""
    done = run("refresh", "pipeline.toml", "--json", *options, folder=folder)
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout) if done.stdout else {}


def published(folder: Path) -> dict[str, bytes]:
    """Training files of the current version."""
    current = (folder / "training" / "current").resolve()
    return {str(path.relative_to(current)): path.read_bytes() for path in current.rglob("*") if path.is_file() and path.suffix in (".jsonl", ".parquet")}


def refreshed(folder: Path) -> Refreshed:
    """A refresh in this process."""
    pipeline = load(folder / "pipeline.toml")
    return refreshing.refresh(pipeline, _run_of(pipeline))


def counted(folder: Path) -> dict[str, Any]:
    """What the current version says of its outputs, without files that name their own place."""
    outputs = json.loads((folder / "training" / "current" / "version.json").read_text())["outputs"]
    return {name: {what: found for what, found in entry.items() if what != "files"} for name, entry in outputs.items()}


def hold_equal_to_a_rebuild(folder: Path, elsewhere: Path) -> None:
    """The current version is what a refresh from nothing makes, and says the same."""
    shutil.copytree(folder / "rollouts", elsewhere / "rollouts")
    shutil.copy(folder / "pipeline.toml", elsewhere)
    refreshed(elsewhere)
    assert published(folder) == published(elsewhere)
    assert counted(folder) == counted(elsewhere)


SHARDED = PIPELINE.split("\n[[output]]\nfile = \"pairs")[0] + """
[[output]]
file = "shards"
recipe = "sft"
target = "trl"
reward-threshold = 0.5
shard-rows = 5
extra = ["pass_rate", "line"]

[[output]]
file = "few.jsonl"
recipe = "dpo"
shard-rows = 3
shuffle = 1
val = 0.3
"""


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
        assert any("holds the same" in note for note in report.change.notes) == (number >= 3)
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
    assert (done.returncode, "pip install 'rollout-etl[refresh]'" in done.stderr) == (0, True)
    elsewhere = tmp_path_factory.mktemp("rebuilt")
    (elsewhere / "rollouts").symlink_to(folder / "rollouts")
    shutil.copy(folder / "pipeline.toml", elsewhere)
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


def test_gates(folder: Path) -> None:
    assert refresh(folder)[0] == 0
    (folder / "pipeline.toml").write_text(PIPELINE + "[gates]\nmin-rows = 13\nmax-reward-drift = 0.1\nmax-mean-reward = 0.6\n")
    before = published(folder)
    code, report = refresh(folder)
    assert code == 4
    assert report["error"] == "not published: min-rows of sft.jsonl: 12, bound 13, by 1; min-rows of pairs.parquet: 6, bound 13, by 7"
    assert published(folder) == before
    assert "the last refresh failed" in run("status", "pipeline.toml", folder=folder).stdout
    code, report = refresh(folder, "--force", "min-rows")
    assert (code, report["version"]) == (0, 2)
    record = json.loads((folder / "training" / "current" / "version.json").read_text())
    assert [gate["gate"] for gate in record["gates"] if gate["forced"]] == ["min-rows", "min-rows"]
    assert record["statistics"]["mean_reward"] == 0.5
    assert "forced: min-rows" in run("status", "pipeline.toml", folder=folder).stdout
    # Drift is held against the version before.
    text = lines(7).replace(b'"reward": 0.0', b'"reward": 1.0')
    (folder / "rollouts" / "night7.jsonl").write_bytes(text)
    code, report = refresh(folder, "--force", "min-rows")
    assert code == 4
    assert "max-reward-drift of sft.jsonl: 0.25, bound 0.1, by 0.15; max-mean-reward of sft.jsonl: 0.75" in report["error"]


def test_gates_on_what_rollouts_hold(folder: Path) -> None:
    """Bad lines, copies, length and leaks: each says which number missed which bound by how much."""
    gates = "[gates]\nmax-bad-fraction = 0.01\nmax-duplicates = 0.02\nmax-length-bias = 0.1\nmax-leakage = 0\n"
    split = PIPELINE.replace('recipe = "sft"', 'recipe = "sft"\nval = 0.5') + gates
    (folder / "pipeline.toml").write_text(split)
    copies = lines(2, 4)
    long = [line.replace(b'"answer', b'"a much longer answer' + b" and so on" * 50) for line in lines(1, 40).splitlines(keepends=True) if b'"reward": 1.0' in line]
    (folder / "rollouts" / "night0.jsonl").write_bytes(lines(0, 80))
    (folder / "rollouts" / "night1.jsonl").write_bytes(b"".join([copies, copies, *long, b"[1]\n[2]\n"]))

    def failed() -> dict[str, str]:
        code, report = refresh(folder)
        assert code == 4
        assert report["error"].startswith("not published: ")
        said = [part.split(" of sft.jsonl: ") for part in report["error"].removeprefix("not published: ").split("; ")]
        return {part[0]: part[1] for part in said if len(part) == 2}

    found = failed()
    assert list(found) == ["max-bad-fraction", "max-duplicates", "max-length-bias", "max-leakage"]
    assert found["max-bad-fraction"] == "0.0181818, bound 0.01, by 0.00818182"
    assert found["max-duplicates"] == "0.037037, bound 0.02, by 0.017037"
    assert re.fullmatch(r"0\.\d+, bound 0\.1, by 0\.\d+", found["max-length-bias"])
    assert re.fullmatch(r"0\.\d+, bound 0, by 0\.\d+", found["max-leakage"])
    # Outputs that are split alike do not leak.
    (folder / "pipeline.toml").write_text(split.replace('recipe = "dpo"', 'recipe = "dpo"\nval = 0.5\nshard-rows = 2'))
    assert list(failed()) == ["max-bad-fraction", "max-duplicates", "max-length-bias"]


def test_no_examples_is_a_gate(folder: Path) -> None:
    (folder / "pipeline.toml").write_text(PIPELINE.replace("reward-threshold = 0.5", "reward-threshold = 2"))
    code, report = refresh(folder)
    assert (code, report["error"]) == (4, "not published: min-rows of sft.jsonl: 0, bound 1, by 1")
    assert not (folder / "training" / "current").exists()


def test_inputs_with_names(folder: Path) -> None:
    text = PIPELINE.replace('inputs = ["rollouts"]', 'inputs = ["math=rollouts/night0.jsonl"]').replace("reward-threshold = 0.5", "reward-threshold = 0.5\nwhere = \"task_name = 'math'\"")
    (folder / "pipeline.toml").write_text(text)
    assert refreshed(folder).rows == {"sft.jsonl": 12, "pairs.parquet": 6}
    (folder / "pipeline.toml").write_text(text.replace('"math=', '"code='))
    assert refresh(folder)[1]["error"].startswith("not published: min-rows of sft.jsonl: 0")


def test_files_that_options_name_are_part_of_a_version(folder: Path) -> None:
    (folder / "pipeline.toml").write_text(PIPELINE.replace("max-bad-fraction = 0.2", 'max-bad-fraction = 0.2\nexclude-prompts = "benchmark.txt"'))
    for excluded, rows in (("nothing\n", 12), ("question 0-1\n", 10)):
        (folder / "benchmark.txt").write_text(excluded)
        done = refreshed(folder)
        assert (done.published, done.rows["sft.jsonl"]) == (True, rows)
    assert not refreshed(folder).published


def test_rollback_stays_until_the_inputs_change(folder: Path) -> None:
    assert refresh(folder)[0] == 0
    first = published(folder)
    (folder / "rollouts" / "night1.jsonl").write_bytes(lines(1))
    assert refresh(folder)[0] == 0
    assert run("rollback", "pipeline.toml", "1", folder=folder).returncode == 0
    assert published(folder) == first
    assert refresh(folder)[1]["published"] is False
    assert published(folder) == first
    (folder / "rollouts" / "night2.jsonl").write_bytes(lines(2))
    assert refresh(folder)[1]["version"] == 3
    done = run("rollback", "pipeline.toml", "9", folder=folder)
    assert (done.returncode, done.stderr) == (2, "rollout-etl: there is no version 9; there are 1, 2, 3\n")


def test_unchanged_files_share_their_place(folder: Path) -> None:
    assert refresh(folder)[0] == 0
    (folder / "pipeline.toml").write_text(PIPELINE + '[[output]]\nfile = "kto.jsonl"\nrecipe = "kto"\ntarget = "custom"\nmap = ["prompt=input", "label=reward"]\nas = "text"\n')
    assert refresh(folder)[0] == 0
    first, second = (folder / "training" / "versions" / name / "sft.jsonl" for name in ("000001", "000002"))
    assert first.samefile(second)


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


def test_one_at_a_time(folder: Path) -> None:
    (folder / "training" / ".refresh").mkdir(parents=True)
    holder = subprocess.Popen(
        [sys.executable, "-c", "import fcntl, sys; f = open('training/.refresh/lock', 'a+'); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()"],
        cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    done = run("refresh", "pipeline.toml", folder=folder)
    assert (done.returncode, done.stderr.count("\n")) == (5, 1)
    assert "another refresh is at work" in done.stderr
    # A process that dies lets go.
    threading.Timer(1.0, holder.kill).start()
    assert run("refresh", "pipeline.toml", "--wait", "30", folder=folder).returncode == 0
    holder.communicate()


def test_notify(folder: Path) -> None:
    (folder / "pipeline.toml").write_text(
        PIPELINE + '[notify]\non-success = "cat > ${OUT}/success.json"\non-failure = "cat > ${OUT}/failure.json"\nprometheus = "refresh.prom"\n'
    )
    os.environ["OUT"] = str(folder)
    try:
        assert refresh(folder)[0] == 0
        assert json.loads((folder / "success.json").read_text())["rows"] == {"sft.jsonl": 12, "pairs.parquet": 6}
        assert 'rollout_etl_rows{output="sft.jsonl"} 12\n' in (folder / "refresh.prom").read_text()
        shutil.rmtree(folder / "rollouts")
        assert refresh(folder)[0] == 2
        assert json.loads((folder / "failure.json").read_text())["exit_code"] == 2
        assert "rollout_etl_refresh_success 0\n" in (folder / "refresh.prom").read_text()
        assert str(folder) not in (folder / "training" / "current" / "version.json").read_text().replace(str(folder / "rollouts"), "")
    finally:
        del os.environ["OUT"]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('publish = "training"', "", "publish is missing"),
        ("keep-versions = 3", "keep-version = 3", "has no key 'keep-version'; the nearest is keep-versions"),
        ("reward-threshold = 0.5", "reward-treshold = 0.5", "[output sft.jsonl] has no key 'reward-treshold'; the nearest is reward-threshold"),
        ("reward-threshold = 0.5", 'reward-threshold = "high"', "output sft.jsonl: Invalid value for '--reward-threshold'"),
        ('recipe = "dpo"', 'recipe = "dpr"', "no recipe 'dpr'; recipes are sft, dpo, grpo, kto, rm, ppo"),
        ('file = "pairs.parquet"', 'file = "../pairs.parquet"', "must be a plain name"),
        ('file = "pairs.parquet"', 'file = "sft.jsonl"', "two outputs are called sft.jsonl"),
        ('inputs = ["rollouts"]', 'inputs = ["${NO_SUCH_THING}/x"]', "the environment has no NO_SUCH_THING"),
        ('inputs = ["rollouts"]', "inputs = [", "is no TOML"),
        ('inputs = ["rollouts"]', 'inputs = ["nothing-here"]', "no such file or folder"),
    ],
)
def test_wrong_pipelines(folder: Path, before: str, after: str, said: str) -> None:
    (folder / "pipeline.toml").write_text(PIPELINE.replace(before, after))
    done = run("refresh", "pipeline.toml", folder=folder)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert said in done.stderr


def test_init_writes_what_plan_takes(folder: Path) -> None:
    (folder / "pipeline.toml").unlink()
    assert run("init", "rollouts", folder=folder).returncode == 0
    report = json.loads(run("plan", "pipeline.toml", "--json", folder=folder).stdout)
    assert report["rows"] == {"sft.jsonl": 12, "dpo.jsonl": 6}
    assert run("init", "rollouts", folder=folder).returncode == 2


def test_the_schema_knows_the_words(folder: Path) -> None:
    schema = json.loads(run("init", "--schema", folder=folder).stdout)
    assert set(schema["properties"]) == {"inputs", "publish", "keep-versions", "pinned", "options", "output", "gates", "notify"}
    by_recipe = {case["then"]["properties"]["recipe"]["const"]: case["then"]["properties"] for case in schema["properties"]["output"]["items"]["allOf"]}
    assert by_recipe["sft"]["reward-threshold"]["type"] == "number"
    assert by_recipe["dpo"]["strategy"]["enum"][0] == "same_prompt"
    assert "min-gap" not in by_recipe["sft"]
    assert by_recipe["kto"]["keep"] == {"type": "array", "items": {"type": "string"}, "description": "Do not apply this rule."}


def _shown(start: str) -> str:
    """The block of docs/refresh.md that begins so."""
    page = (Path(__file__).parent.parent / "docs" / "refresh.md").read_text(encoding="utf-8")
    return next(block for block in page.split("```text\n")[1:] if block.startswith(start)).split("```")[0]


def test_cron_line(folder: Path) -> None:
    command = _shown("15 3 * * *").split(maxsplit=5)[5].replace("/srv/rollouts", str(folder)).replace("/opt/rollout-etl/bin/rollout-etl", COMMAND)
    # What cron gives a job.
    environment = {"HOME": str(folder), "LOGNAME": "someone", "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh"}
    subprocess.run(["/bin/sh", "-c", command], check=True, cwd="/", env=environment, timeout=120)
    assert json.loads((folder / "refresh.log").read_text().splitlines()[-1])["version"] == 1


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_unit(folder: Path) -> None:
    unit = folder / "refresh.service"
    unit.write_text(_shown("[Unit]").replace("/srv/rollouts", str(folder)).replace("/opt/rollout-etl/bin/rollout-etl", COMMAND))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=60)
    assert "refresh.service" not in done.stderr, done.stderr


def test_airflow_dag(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The DAG imports, against a stand-in of the names it uses, and its command does the work."""
    tasks: list[dict[str, Any]] = []
    schedules: list[dict[str, Any]] = []
    names = ("airflow", "airflow.sdk", "airflow.providers", "airflow.providers.standard", "airflow.providers.standard.operators", "airflow.providers.standard.operators.bash")
    for name in names:
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["airflow.sdk"].dag = lambda **options: schedules.append(options) or (lambda made: made)  # type: ignore[attr-defined, func-returns-value]
    sys.modules[names[-1]].BashOperator = lambda **options: tasks.append(options)  # type: ignore[attr-defined, func-returns-value]
    exec(compile(_shown("from datetime"), "dag.py", "exec"), {})
    assert (schedules[0]["schedule"], schedules[0]["max_active_runs"], tasks[0]["skip_on_exit_code"]) == ("15 3 * * *", 1, 5)
    command = tasks[0]["bash_command"].replace("/opt/rollout-etl/bin/rollout-etl", COMMAND)
    done = subprocess.run(["/bin/sh", "-c", command], cwd=tasks[0]["cwd"].replace("/srv/rollouts", str(folder)), capture_output=True, check=True, timeout=120)
    assert json.loads(done.stdout)["version"] == 1


def test_page(tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent / "docs" / "refresh.md").read_text(encoding="utf-8")
    (tmp_path / "pipeline.toml").write_text(page.split("```toml\n")[1].split("```")[0])
    assert [output.file for output in load(tmp_path / "pipeline.toml").outputs] == ["sft.jsonl"]
    table = page.split("\n## Gates\n")[1].split("\n## ")[0]
    assert re.findall(r"`([a-z-]+)`", "".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| `"))) == list(GATES)
    assert all(f"`{word}`" in page or f"`[{word}]`" in page or f"`[[{word}]]`" in page for word in [*TOP, *NOTIFY])
