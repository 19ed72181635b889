"""What is ingested stands in for the files it was made of: same rows, same training files, same counts; and what is in the way is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow.parquet as pq
import pytest

from rollout_etl.errors import UnreadableError, UsageError
from rollout_etl.explore.canonical_table import needed_columns
from rollout_etl.explore.ingest import ingest
from rollout_etl.explore.safety import statements
from rollout_etl.explore.session import Session, connect
from rollout_etl.read.scan import Rollouts
from rollout_etl.read.schema import SCHEMA
from tests import test_oracle
from tests.command import ROOT, run, tree


def frame_of(path: Path) -> tuple[pl.DataFrame, object]:
    rollouts = Rollouts(path)
    return pl.concat(list(rollouts.batches(list(SCHEMA)))), rollouts.account


@pytest.mark.skipif(not test_oracle.REAL.is_dir(), reason="no real rollouts beside the checkout")
def test_ground_truth_of_task_inputs_is_kept(tmp_path: Path) -> None:
    shutil.copytree(test_oracle.REAL / "gym", tmp_path / "gym")
    wanted = frame_of(tmp_path / "gym")[0]
    assert wanted["ground_truth_origin"].str.starts_with("task_inputs.").any()
    ingest(tmp_path / "gym", tmp_path / "ingested", max_bad_fraction=1.0)
    shutil.rmtree(tmp_path / "gym")
    assert frame_of(tmp_path / "ingested")[0].equals(wanted)


def test_several_folders_and_files(tmp_path: Path) -> None:
    text = (ROOT / "demo" / "rollouts.jsonl").read_bytes().splitlines(keepends=True)
    for number in range(3):
        (tmp_path / f"{number}.jsonl").write_bytes(b"".join(text[number * 10 : number * 10 + 10]))
        ingest(tmp_path / f"{number}.jsonl", tmp_path / f"in{number}")
    files = [tmp_path / f"{number}.jsonl" for number in range(3)]
    wanted = connect(files).sql("FROM rollouts ORDER BY row").fetchall()
    assert connect([tmp_path / f"in{number}" for number in range(3)]).sql("FROM rollouts ORDER BY row").fetchall() == wanted
    assert connect([tmp_path / "in0", files[1], tmp_path / "in2"]).sql("FROM rollouts ORDER BY row").fetchall() == wanted


def test_keys_and_ground_truth_are_settled_when_ingesting(tmp_path: Path) -> None:
    rows = [{"responses_create_params": {"input": "same"}, "reward": n / 4, "level": n // 2, "info": {"right": n}} for n in range(4)]
    (tmp_path / "rollouts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    question = "SELECT count(DISTINCT task_key) AS groups, string_agg(ground_truth_text, '' ORDER BY row) AS truths FROM rollouts"
    options = ("--group-by", "level", "--ground-truth-field", "info.right")
    asked = run("sql", "rollouts.jsonl", question, "--format", "csv", *options, folder=tmp_path)
    assert asked.stdout.splitlines()[1] == "2,0123"
    assert run("ingest", "rollouts.jsonl", "-o", "in", *options, folder=tmp_path).returncode == 0
    assert run("sql", "in", question, "--format", "csv", folder=tmp_path).stdout == asked.stdout
    refused = run("sql", "in", question, "--group-by", "level", folder=tmp_path)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1) and "to ingest" in refused.stderr
    assert json.loads(run("stats", "in", "--json", folder=tmp_path).stdout)["overall"]["all_groups"] == 2
    refused = run("stats", "in", "--group-by", "reward", folder=tmp_path)
    assert (refused.returncode, "which cannot be changed: leave --group-by reward out" in refused.stderr) == (2, True)
    refused = run("stats", "in", "rollouts.jsonl", folder=tmp_path)
    assert (refused.returncode, "but other inputs were not" in refused.stderr) == (2, True)


def test_recipes_use_what_was_settled(tmp_path: Path) -> None:
    def answer(text: str) -> dict[str, object]:
        return {"output": [{"type": "message", "role": "assistant", "content": text}]}

    rows = [{"responses_create_params": {"input": "q"}, "response": answer(f"a{n}"), "reward": n % 2, "level": n // 2, "_ng_task_index": 0} for n in range(4)]
    (tmp_path / "rollouts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "tasks.jsonl").write_text(json.dumps({"responses_create_params": {"input": "q"}, "expected_answer": "7"}) + "\n")
    assert run("ingest", "rollouts.jsonl", "-o", "in", "--group-by", "level", "--task-inputs", "tasks.jsonl", folder=tmp_path).returncode == 0
    (tmp_path / "tasks.jsonl").unlink()
    assert run("dpo", "in", "-o", "pairs.jsonl", folder=tmp_path).returncode == 0
    assert len((tmp_path / "pairs.jsonl").read_text().splitlines()) == 2
    assert run("grpo", "in", "-o", "prompts.jsonl", folder=tmp_path).returncode == 0
    assert [json.loads(row)["ground_truth"] for row in (tmp_path / "prompts.jsonl").read_text().splitlines()] == ["7", "7"]


def test_filters_skip(tmp_path: Path) -> None:
    rows = [{"responses_create_params": {"input": f"question {n}"}, "reward": n % 7 / 7, "task_name": f"task {n % 8}"} for n in range(16_384)]
    (tmp_path / "rollouts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ingest(tmp_path / "rollouts.jsonl", tmp_path / "in")
    metadata = pq.read_metadata(tmp_path / "in" / "part-00000.parquet")
    names = metadata.schema.to_arrow_schema().names
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    tasks, rewards = ([group.column(names.index(name)).statistics for group in groups] for name in ("task_name", "reward"))
    assert len(groups) == 8
    assert sum(found.min <= "task 3" <= found.max for found in tasks) == 1
    assert all(found.has_min_max for found in rewards)
    assert connect(tmp_path / "in").sql("SELECT count(*) FROM rollouts WHERE task_name = 'task 3' AND reward > 0.8").fetchall() == [(293,)]


@pytest.mark.parametrize(
    ("question", "columns"),
    [
        ("SELECT task_name, avg(reward), count(*) FROM rollouts GROUP BY task_name", {"task_name", "reward"}),
        ("SELECT text FROM messages WHERE role = 'user'", {"prompt", "completion"}),
        ("SELECT count(*) FROM rollouts WHERE reward > 0.5", {"reward"}),
        ("SELECT name, count(*) FROM tool_calls GROUP BY name", {"prompt", "completion"}),
        ("SELECT prompt_text FROM rollouts WHERE agent_name = $agent", {"prompt_text", "agent_name"}),
        ("SELECT mean, count(*) FROM groups GROUP BY ALL", {"task_key", "prompt_key", "reward", "is_failure", "is_masked", "is_unverified", "is_nonfinite"}),
    ],
)
def test_questions_read_their_columns_only(tmp_path: Path, question: str, columns: set[str]) -> None:
    found = needed_columns(statements(duckdb, question), {"agent": "weather_agent"})
    assert found is not None
    if "groups" not in question:
        assert set(found) - {"row"} == columns - {"row"}
    else:
        assert columns <= set(found)
    assert "extra" not in found
    demo = ROOT / "demo" / "rollouts.jsonl"
    narrow, whole = (Session(demo, only_for=only, values={"agent": "weather_agent"}, max_bad_fraction=1.0) for only in (question, None))
    read = "SELECT column_name FROM duckdb_columns() WHERE table_name = 'canonical_read'"
    assert {name for (name,) in narrow.connection.execute(read).fetchall()} == set(found)
    answers = [sorted(map(repr, next(session.run(question, {"agent": "weather_agent"})).fetchall())) for session in (narrow, whole)]
    assert answers[0] == answers[1] != []
    # Over Parquet the scan itself is as narrow.
    ingest(demo, tmp_path / "in", max_bad_fraction=1.0)
    asked = question.replace("$agent", "'weather_agent'")
    plan = connect(tmp_path / "in").execute(f"EXPLAIN (FORMAT json) {asked}").fetchall()[0][1]
    assert scanned(json.loads(plan)) <= set(found)


def scanned(plan: Any) -> set[str]:
    """Columns that the scans of a plan read."""
    if isinstance(plan, list):
        return set().union(*map(scanned, plan))
    projections = plan["extra_info"].get("Projections", []) if "PARQUET" in plan["name"] else []
    return ({*([projections] if isinstance(projections, str) else projections)} - {""}) | scanned(plan["children"])


def test_columns_that_were_not_read_are_no_nulls() -> None:
    session = Session(ROOT / "demo" / "rollouts.jsonl", only_for="SELECT reward FROM rollouts", max_bad_fraction=1.0)
    with pytest.raises(duckdb.Error, match="column agent_name was not read"):
        session.connection.execute("SELECT max(agent_name) FROM rollouts")
    # The session itself reads the rest.
    (result,) = session.run("SELECT count(agent_name) FROM rollouts")
    assert result.fetchall() == [(48,)]


def test_files_are_read_only_and_can_be_replaced(tmp_path: Path) -> None:
    for _ in range(2):
        ingest(ROOT / "demo" / "rollouts.jsonl", tmp_path / "in", max_bad_fraction=1.0)
        assert {path.stat().st_mode & 0o777 for path in (tmp_path / "in").glob("*.parquet")} == {0o444}


def test_what_is_in_the_way(tmp_path: Path) -> None:
    demo = tmp_path / "rollouts.jsonl"
    shutil.copy(ROOT / "demo" / "rollouts.jsonl", demo)
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    ingest(demo, tmp_path / "in", max_bad_fraction=1.0)
    before = tree(tmp_path)
    for folder, database, said in [
        (full, None, "holds something else"),
        (tmp_path, None, "is or holds an input"),
        (demo, None, "is or holds an input"),
        (None, demo, "is or holds an input"),
        (None, tmp_path / "x.txt", "must be a file that ends with .duckdb"),
        (None, None, "no output given"),
    ]:
        with pytest.raises(UsageError, match=said):
            ingest(demo, folder, database, max_bad_fraction=1.0)
    with pytest.raises(UsageError, match="is or holds an input"):
        ingest(tmp_path / "in", tmp_path / "in")
    with pytest.raises(UsageError, match="is part of an ingested folder: name the folder"):
        Rollouts(tmp_path / "in" / "part-00000.parquet")
    with pytest.raises(UnreadableError, match="1 of 49 lines are not rollouts"):
        ingest(demo, tmp_path / "in", max_bad_fraction=0.0)
    with pytest.raises(UnreadableError, match="1 of 49 lines are not rollouts"):
        ingest(demo, database=tmp_path / "x.duckdb", max_bad_fraction=0.0)
    assert tree(tmp_path) == before
    ingest(demo, tmp_path / "in", max_bad_fraction=1.0)
    assert tree(tmp_path) == before
    (tmp_path / "in" / "part-00000.parquet").unlink()
    with pytest.raises(UnreadableError, match=r"part-00000\.parquet is missing; ingest again"):
        Rollouts(tmp_path / "in")


def test_commands(tmp_path: Path) -> None:
    shutil.copy(ROOT / "demo" / "rollouts.jsonl", tmp_path)
    done = run("ingest", "rollouts.jsonl", "-o", "in", "--database", "in.duckdb", "--max-bad-fraction", "0.05", "--json", folder=tmp_path)
    assert done.returncode == 0
    assert json.loads(done.stdout) == {"read": 49, "rollouts": 48, "quarantined": 1, "outputs": ["in", "in.duckdb"], "notes": []}
    question = "SELECT agent_name, count(*) AS n FROM rollouts GROUP BY ALL ORDER BY ALL"
    with duckdb.connect(str(tmp_path / "in.duckdb"), read_only=True) as connection:
        wanted = connection.execute(question).fetchall()
    assert [tuple(json.loads(line).values()) for line in run("sql", "in", question, "--format", "jsonl", folder=tmp_path).stdout.splitlines()] == wanted
    assert run("sft", "in", "-o", "from_in.jsonl", "--max-bad-fraction", "0.05", folder=tmp_path).returncode == 0
    assert run("sft", "rollouts.jsonl", "-o", "from_file.jsonl", "--max-bad-fraction", "0.05", folder=tmp_path).returncode == 0
    assert (tmp_path / "from_in.jsonl").read_bytes() == (tmp_path / "from_file.jsonl").read_bytes()
    assert "would be inside an ingested folder" in run("sft", "in", "-o", "in/out.jsonl", "--max-bad-fraction", "0.05", folder=tmp_path).stderr
    # A search for rollouts does not find them twice.
    (tmp_path / "from_in.jsonl").unlink(), (tmp_path / "from_file.jsonl").unlink()
    found = run("sql", ".", "SELECT count(*) AS n FROM rollouts", "--format", "csv", "--max-bad-fraction", "0.5", folder=tmp_path)
    assert (found.stdout, "file(s) that rollout-etl wrote" in found.stderr) == ("n\n48\n", True)
