"""What a query may not do, statement by statement, and that `--unsafe` lifts it."""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb
import pytest

from rollout_etl.errors import UsageError
from rollout_etl.explore.ingest import ingest
from rollout_etl.explore.safety import Limits
from rollout_etl.explore.session import Session, connect
from tests.command import ROOT, run, tree

REFUSED = {
    "read a file": "SELECT * FROM read_text('secret.txt')",
    "read a file by its name": "SELECT * FROM 'secret.csv'",
    "read a file by an absolute name": "SELECT * FROM '/etc/passwd'",
    "read CSV": "FROM read_csv('secret.csv')",
    "read JSON": "FROM read_json('secret.csv')",
    "read Parquet": "FROM read_parquet('secret.parquet')",
    "read bytes": "FROM read_blob('secret.txt')",
    "read inside an expression": "SELECT (SELECT content FROM read_text('secret.txt'))",
    "read inside query()": "FROM query('FROM read_text(''secret.txt'')')",
    "list files": "FROM glob('*')",
    "sniff": "FROM sniff_csv('secret.csv')",
    "read the network": "FROM read_csv('https://example.org/x.csv')",
    "read a bucket": "FROM 's3://bucket/x.parquet'",
    "write a file": "COPY rollouts TO 'out.csv'",
    "write a file with a comment first": "/* x */ -- y\nCOPY rollouts TO 'out.csv'",
    "write from EXPLAIN ANALYZE": "EXPLAIN ANALYZE COPY rollouts TO 'out.csv'",
    "write from EXPLAIN with options": "EXPLAIN (ANALYZE, FORMAT json) COPY rollouts TO 'out.csv'",
    "write over the input": "COPY (SELECT 1) TO 'rollouts.jsonl' (FORMAT csv)",
    "write over what is ingested": "COPY (SELECT 1 AS a) TO 'ingested/part-00000.parquet' (USE_TMP_FILE false)",
    "copy from a file": "COPY rollouts FROM 'secret.csv'",
    "attach": "ATTACH 'other.duckdb'",
    "detach": "DETACH memory",
    "use": "USE memory",
    "export": "EXPORT DATABASE 'exported'",
    "import": "IMPORT DATABASE 'exported'",
    "install": "INSTALL httpfs",
    "load": "LOAD httpfs",
    "set": "SET threads = 1",
    "set external access": "SET enable_external_access = true",
    "reset": "RESET threads",
    "unlock": "SET lock_configuration = false",
    "set a variable": "SET VARIABLE k = 1",
    "pragma": "PRAGMA enable_profiling",
    "call": "CALL pragma_version()",
    "secret": "CREATE SECRET s (TYPE s3)",
    "persistent secret": "CREATE PERSISTENT SECRET s (TYPE s3)",
    "temporary secret": "CREATE TEMPORARY SECRET s (TYPE s3)",
    "create": "CREATE TABLE t (a INTEGER)",
    "create a view": "CREATE OR REPLACE VIEW rollouts AS SELECT 1",
    "create a schema": "CREATE SCHEMA temp_view",
    "insert": "INSERT INTO quarantined VALUES ('a', 1, 'b', 'c')",
    "insert from WITH": "WITH x AS (SELECT 1) INSERT INTO quarantined SELECT 'a', 1, 'b', 'c' FROM x",
    "update": "UPDATE quarantined SET line = 1",
    "delete": "DELETE FROM quarantined",
    "truncate": "TRUNCATE quarantined",
    "merge": "MERGE INTO quarantined USING (SELECT 1 AS line) AS new ON quarantined.line = new.line WHEN MATCHED THEN DELETE",
    "drop": "DROP VIEW rollouts",
    "alter": "ALTER VIEW rollouts RENAME TO mine",
    "comment": "COMMENT ON VIEW rollouts IS 'x'",
    "vacuum": "VACUUM",
    "checkpoint": "CHECKPOINT",
    "transaction": "BEGIN",
    "prepare": "PREPARE p AS SELECT 1",
    "second statement": "SELECT 1; COPY rollouts TO 'out.csv'",
    "Python's variables": "SELECT * FROM REFUSED",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("safe")
    shutil.copy(ROOT / "demo" / "rollouts.jsonl", folder)
    (folder / "secret.txt").write_text("secret\n")
    (folder / "secret.csv").write_text("a,b\n1,2\n")
    duckdb.connect().execute(f"COPY (SELECT 1 AS a) TO '{folder}/secret.parquet'")
    ingest(folder / "rollouts.jsonl", folder / "ingested", max_bad_fraction=1.0)
    return folder


@pytest.mark.parametrize("source", ["rollouts.jsonl", "ingested"])
@pytest.mark.parametrize("name", REFUSED)
def test_refused(folder: Path, source: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    before = tree(folder)
    session = sessions.setdefault(source, None) or Session(source, max_bad_fraction=1.0)
    sessions[source] = session
    with pytest.raises(UsageError) as caught:
        for result in session.run(REFUSED[name]):
            result.fetchall()
    said = str(caught.value)
    assert "\n" not in said
    assert "refused" in said or name == "Python's variables", said
    assert tree(folder) == before
    assert [result.fetchall() for result in session.run("SELECT count(*) FROM rollouts")] == [[(48,)]]


sessions: dict[str, Session | None] = {}


@pytest.mark.parametrize("name", ["read a file", "write a file", "install", "set"])
def test_refused_by_the_command(folder: Path, name: str) -> None:
    before = tree(folder)
    done = run("sql", "rollouts.jsonl", REFUSED[name], "--max-bad-fraction", "1", folder=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("rollout-etl: ")
    assert "refused" in done.stderr
    assert done.stderr.count("\n") == 1
    assert tree(folder) == before


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1 AS a",
        "FROM rollouts",
        "(SELECT 1 AS a)",
        "WITH x AS (SELECT 1 AS a) FROM x",
        "VALUES (1)",
        "DESCRIBE rollouts",
        "SHOW TABLES",
        "SUMMARIZE metrics",
        "EXPLAIN SELECT 1",
        "EXPLAIN ANALYZE SELECT count(*) FROM rollouts",
        "PIVOT metrics ON name USING avg(value) GROUP BY row",
        "CREATE TEMP VIEW good AS FROM rollouts WHERE reward > 0.5; SELECT count(*) FROM good",
        "CREATE TEMP TABLE few AS FROM rollouts LIMIT 3; FROM few",
        "CREATE TEMP MACRO twice(x) AS 2 * x; SELECT twice(21)",
    ],
)
def test_reading_is_not_refused(folder: Path, sql: str) -> None:
    session = Session(folder / "rollouts.jsonl", max_bad_fraction=1.0)
    found = [result.fetchall() for result in session.run(sql)]
    assert found and all(found)
    session.close()


def test_unsafe(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    relaxed = ("--max-bad-fraction", "1", "--unsafe")
    done = run("sql", "rollouts.jsonl", "COPY (SELECT count(*) AS n FROM rollouts) TO 'out.csv'", *relaxed, folder=tmp_path)
    assert done.returncode == 0
    assert "--unsafe" in done.stderr
    assert (tmp_path / "out.csv").read_text() == "n\n48\n"
    assert run("sql", "rollouts.jsonl", "FROM 'secret.csv'", *relaxed, "--format", "csv", folder=tmp_path).stdout == "a,b\n1,2\n"


def test_connections_are_locked(folder: Path) -> None:
    connection = connect(folder / "ingested")
    assert connection.execute("SELECT count(*) FROM rollouts").fetchall() == [(48,)]
    for sql in (REFUSED["read a file"], REFUSED["write a file"], REFUSED["attach"], REFUSED["set external access"]):
        with pytest.raises(duckdb.Error):
            connection.execute(sql)


def test_limits(folder: Path) -> None:
    session = Session(folder / "rollouts.jsonl", limits=Limits(memory="300MB", threads=1), max_bad_fraction=1.0)
    (result,) = session.run("SELECT current_setting('memory_limit'), current_setting('threads')")
    assert result.fetchall() == [("286.1 MiB", 1)]
    session.close()
    with pytest.raises(UsageError, match="--memory lots is not a size"):
        Session(folder / "rollouts.jsonl", limits=Limits(memory="lots"), max_bad_fraction=1.0)


def test_parameters_are_bound(folder: Path) -> None:
    hostile = "x'; COPY rollouts TO 'out.csv'; --"
    session = Session(folder / "rollouts.jsonl", max_bad_fraction=1.0)
    (result,) = session.run("SELECT $name, getvariable('name')", {"name": hostile})
    assert result.fetchall() == [(hostile, hostile)]
    with pytest.raises(UsageError, match=r"no value for \$k: give it with --set k=VALUE"):
        list(session.run("SELECT $k"))
    session.close()
