"""Refreshes that nobody watches: one at a time, with notices, by the cron line, the systemd unit and the Airflow DAG of the docs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import types
from pathlib import Path
from typing import Any

import pytest

from tests.command import COMMAND, run
from tests.pipelines import PIPELINE, laid_out, refresh


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return laid_out(tmp_path, PIPELINE)


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
    assert "another refresh is using" in done.stderr
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
    assert done.returncode == 0 and "refresh.service" not in done.stderr, done.stderr


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


def test_notices_that_fail_are_warnings(folder: Path) -> None:
    notify = '[notify]\non-success = "${NO_SUCH_HOOK}"\non-failure = "${NO_SUCH_HOOK}"\nprometheus = "/proc/none/x.prom"\n'
    (folder / "pipeline.toml").write_text(PIPELINE + notify)
    done = run("refresh", "pipeline.toml", "--json", folder=folder)
    assert (done.returncode, json.loads(done.stdout)["published"]) == (0, True)
    assert "NO_SUCH_HOOK" in done.stderr and "metrics could not be written: " in done.stderr
    shutil.rmtree(folder / "rollouts")
    done = run("refresh", "pipeline.toml", "--json", folder=folder)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, "rollout-etl: no such file or folder: rollouts")


def test_what_cannot_be_kept_is_no_failure(folder: Path) -> None:
    (folder / "training" / ".refresh" / "fingerprints.json").mkdir(parents=True)
    (folder / "training" / ".refresh" / "last.json").mkdir()
    code, report = refresh(folder)
    assert (code, report["published"], len(report["change"]["notes"])) == (0, True, 1)


def test_internal_errors_are_told(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from rollout_etl.cli import updating
    from rollout_etl.refresh import refresh as refreshing

    def broken(*arguments: object, **named: object) -> None:
        raise TypeError("nobody foresaw this")

    (folder / "pipeline.toml").write_text(PIPELINE + '[notify]\non-failure = "cat > failure.json"\n')
    assert refresh(folder)[0] == 0
    monkeypatch.setattr(refreshing, "refresh", broken)
    monkeypatch.setattr(updating, "guarded", lambda run: run())
    with pytest.raises(TypeError):
        updating.refresh(folder / "pipeline.toml", json=True)
    report = json.loads(capsys.readouterr().out)
    assert (report["exit_code"], "nobody foresaw this" in report["error"]) == (70, True)
    assert json.loads((folder / "failure.json").read_text()) == report
    assert "nobody foresaw this" in run("status", "pipeline.toml", folder=folder).stdout


def test_labels_of_metrics() -> None:
    from rollout_etl.refresh.notify import metrics

    assert 'rollout_etl_rows{output="é\\"\\\\.jsonl"} 3\n' in metrics({"rows": {'é"\\.jsonl': 3}}, failed=False)
