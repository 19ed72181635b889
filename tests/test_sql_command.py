"""`rollout-etl sql` as a user meets it: where the question comes from, how the answer is written, what is said; and the files of `sql/`
in a DuckDB of one's own."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

import rollout_etl
from rollout_etl.explore import library, output
from rollout_etl.explore.ingest import ingest
from tests.command import COMMAND, ROOT, run, tree

INPUT = ("rollouts.jsonl", "--max-bad-fraction", "0.05")
QUESTION = "SELECT agent_name, count(*) AS n, avg(reward) AS mean FROM rollouts GROUP BY ALL ORDER BY ALL"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rollouts.jsonl").write_bytes((ROOT / "demo" / "rollouts.jsonl").read_bytes())
    return tmp_path


def wanted() -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = rollout_etl.connect(ROOT / "demo" / "rollouts.jsonl", max_bad_fraction=1.0).execute(QUESTION).fetchall()
    return rows


def test_where_the_question_comes_from(folder: Path) -> None:
    (folder / "question.sql").write_text(f"-- how they fare\n{QUESTION};\n")
    said = run("sql", INPUT[0], QUESTION, *INPUT[1:], folder=folder).stdout
    assert run("sql", *INPUT, "-f", "question.sql", folder=folder).stdout == said
    piped = subprocess.run([COMMAND, "sql", *INPUT], input=QUESTION, cwd=folder, capture_output=True, text=True, timeout=120)
    assert (piped.returncode, piped.stdout) == (0, said)
    assert said.splitlines()[0].split() == ["agent_name", "n", "mean"]
    assert len(said.splitlines()) == 2 + len(wanted())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((QUESTION,), "no input given"),
        (INPUT, "no query"),
        (("rollouts.jsonl", QUESTION, "--query", "pass_at_k"), "more than one query"),
        ((*INPUT, "-f", "nope.sql"), "cannot read nope.sql"),
        (("nope.jsonl", QUESTION), "no such file or folder: nope.jsonl"),
        (("rollouts.jsonl", "SELECT 1 +", *INPUT[1:]), "syntax error"),
        (("rollouts.jsonl", "SELECT nope FROM rollouts", *INPUT[1:]), '"nope" not found'),
        (("rollouts.jsonl", "SELECT $k", *INPUT[1:]), "no value for $k"),
        ((*INPUT, "--query", "pass_at_k", "--set", "k=x"), "k is a whole number"),
        (("rollouts.jsonl", "SELECT 1; SELECT 2", "--format", "csv", *INPUT[1:]), "several results"),
        (("rollouts.jsonl", "--query", "pass_at_k", "--set", "k=0", *INPUT[1:]), "--set k=0: k is a count, so it must be 1 or more"),
        (("rollouts.jsonl", "--query", "reward_distribution", "--set", "width=0", *INPUT[1:]), "width must be more than 0"),
        (("rollouts.jsonl", "SELECT 1; SELECT 2", "-o", "out.csv", *INPUT[1:]), "several results, but out.csv holds one"),
        (("rollouts.jsonl", "CREATE TEMP TABLE one AS SELECT 1", "-o", "out.csv", *INPUT[1:]), "no result to write to out.csv"),
        (("rollouts.jsonl", QUESTION, "--format", "parquet", *INPUT[1:]), "name it with -o FILE"),
        (("rollouts.jsonl", QUESTION, "-o", "rollouts.jsonl", *INPUT[1:]), "rollouts.jsonl is an input"),
        (("rollouts.jsonl", QUESTION, "-o", "out.xlsx", *INPUT[1:]), "name the format with --format"),
        *((("rollouts.jsonl", text, *where, *INPUT[1:]), said)
          for text, said in (
              ("SELECT agent_name::INT FROM rollouts", "Could not convert string"),
              ("SELECT (CASE WHEN i > 9000 THEN 'x' ELSE '1' END)::INT AS v FROM range(100000) t(i)", "Could not convert string"),
          )
          for where in (("-o", "out.parquet"), ("-o", "out.csv"), ("--limit", "0"))),
        (("rollouts.jsonl", "SELECT 1 AS a, interval 1 day AS v", "-o", "out.parquet", *INPUT[1:]), "Parquet has no type for the column v"),
        (("rollouts.jsonl", "SELECT union_value(k := 1) AS u", "-o", "out.parquet", *INPUT[1:]), "Parquet has no type for the column u"),
        (("rollouts.jsonl", "/* c */ SELECT nope", *INPUT[1:]), "nope"),
        (("rollouts.jsonl", "SELECT $1", *INPUT[1:]), "no value for $1: name the parameter, as in $name"),
        (("rollouts.jsonl", QUESTION), "1 of 49 lines are not rollouts"),
        (("rollouts.jsonl", "--queries"), "--queries only lists the named queries"),
        (("--queries", "--query", "pass_at_k"), "--queries only lists the named queries"),
        (("rollouts.jsonl", QUESTION, "--limit", "3", "--format", "csv", *INPUT[1:]), "--limit is for table and markdown, and csv holds all rows"),
        (("rollouts.jsonl", QUESTION, "--limit", "3", "-o", "out.parquet", *INPUT[1:]), "--limit is for table and markdown, and parquet holds all rows"),
        (("rollouts.jsonl", "SELECT $kind", "--set", "kind=1", "--set", "kid=1", *INPUT[1:]), "--set kid: the query has no $kid; did you mean kind?"),
        (("rollouts.jsonl", QUESTION, "--set", "k=1", *INPUT[1:]), "--set k: the query has no $k"),
    ],
)
def test_errors(folder: Path, arguments: tuple[str, ...], said: str) -> None:
    before = tree(folder)
    done = run("sql", *arguments, folder=folder)
    assert done.returncode == (3 if "lines" in said else 2)
    assert done.stderr.startswith("rollout-etl: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert tree(folder) == before


def test_formats(folder: Path) -> None:
    def answer(kind: str) -> str:
        return run("sql", INPUT[0], QUESTION, *INPUT[1:], "--format", kind, folder=folder).stdout

    rows = wanted()
    assert list(csv.reader(io.StringIO(answer("csv")))) == [["agent_name", "n", "mean"], *([str(value) for value in row] for row in rows)]
    assert [tuple(json.loads(line).values()) for line in answer("jsonl").splitlines()] == rows
    assert answer("markdown").splitlines()[:3] == ["| agent_name | n | mean |", "|---|---:|---:|", "| math_simple_agent | 28 | 0.5 |"]
    done = run("sql", INPUT[0], QUESTION, *INPUT[1:], "-o", "out.parquet", folder=folder)
    assert (done.returncode, done.stdout) == (0, "")
    assert [tuple(row.values()) for row in pq.read_table(folder / "out.parquet").to_pylist()] == rows
    run("sql", INPUT[0], QUESTION, *INPUT[1:], "-o", "out.csv", "-q", folder=folder)
    assert (folder / "out.csv").read_text() == answer("csv")


def test_json_stays_json(folder: Path) -> None:
    said = run("sql", INPUT[0], "SELECT prompt, 'NaN'::DOUBLE AS nan FROM rollouts LIMIT 1", *INPUT[1:], "--format", "jsonl", folder=folder).stdout
    assert json.loads(said)["prompt"][0]["role"] == "user"
    assert json.loads(said)["nan"] is None


def test_columns_that_have_one_name(folder: Path) -> None:
    """As DuckDB's COPY names them; a table shows what was asked for."""
    question, names = "SELECT 1 a, 2 A, 3 a, 4 a_1, 5 b, 6 a_1", ["a", "A_1", "a_2", "a_1_1", "b", "a_1_2"]
    for name in ("out.csv", "out.jsonl", "out.parquet"):
        assert run("sql", INPUT[0], question, *INPUT[1:], "-o", name, folder=folder).returncode == 0
    assert (folder / "out.csv").read_text().splitlines()[0].split(",") == names
    assert list(json.loads((folder / "out.jsonl").read_text())) == names
    assert pq.read_table(folder / "out.parquet").to_pylist() == [dict(zip(names, range(1, 7), strict=True))]
    assert run("sql", INPUT[0], question, *INPUT[1:], folder=folder).stdout.splitlines()[0].split() == ["a", "A", "a", "a_1", "b", "a_1"]


def test_points_in_time_with_a_zone(folder: Path) -> None:
    question = "SELECT '2020-01-02 03:04:05+00'::TIMESTAMPTZ AS t, [t] AS l, $k AS k -- once"
    shown = {kind: run("sql", INPUT[0], question, *INPUT[1:], "--set", "k=1", "--format", kind, folder=folder).stdout for kind in ("table", "csv", "jsonl")}
    assert json.loads(shown["jsonl"]) == {"t": "2020-01-02 03:04:05+00", "l": ["2020-01-02 03:04:05+00"], "k": 1}
    assert shown["csv"] == 't,l,k\n2020-01-02 03:04:05+00,"[""2020-01-02 03:04:05+00""]",1\n'
    assert shown["table"].splitlines()[2].split("  ") == ["2020-01-02 03:04:05+00", '["2020-01-02 03:04:05+00"]', "1"]


def test_points_in_time_do_not_run_a_query_twice(folder: Path) -> None:
    question = "CREATE TEMP SEQUENCE s; SELECT nextval('s') AS n, now() IS NULL AS never, now() AS t"
    assert run("sql", INPUT[0], question, *INPUT[1:], "--unsafe", folder=folder).stdout.splitlines()[2].split()[:2] == ["1", "false"]


def test_a_parameter_may_be_read_as_a_variable(folder: Path) -> None:
    done = run("sql", INPUT[0], "SELECT getvariable('k') + 1 AS n", *INPUT[1:], "--set", "k=1", "--format", "csv", folder=folder)
    assert done.stdout == "n\n2\n"


def test_wide_characters_take_two_columns() -> None:
    def table(*values: str, width: int | None = None) -> list[str]:
        stream = io.StringIO()
        output.show(duckdb.connect().execute(f"SELECT unnest({list(values)!r}) AS x, 1 AS n"), stream, output.Shown(width=width))
        return stream.getvalue().splitlines()

    assert table("漢字", "ab", "e\u0301") == ["x     n", "----  -", "漢字  1", "ab    1", "e\u0301     1"]
    assert table("漢" * 50)[2] == "漢" * 39 + "…   1"
    assert table("漢字漢字漢字", width=11)[2] == "漢字漢…   1"
    assert table("abcdefghijkl", width=11)[2] == "abcdefg…  1"


def test_what_is_cut_is_said(folder: Path) -> None:
    done = run("sql", INPUT[0], "SELECT row FROM rollouts", *INPUT[1:], "--limit", "5", "-q", folder=folder)
    assert len(done.stdout.splitlines()) == 7
    assert "only the first 5 rows are shown" in done.stderr
    whole = run("sql", INPUT[0], "SELECT row FROM rollouts", *INPUT[1:], "--limit", "0", folder=folder)
    assert (len(whole.stdout.splitlines()), whole.stderr) == (50, "")
    wide = run("sql", INPUT[0], "SELECT repeat('x', 200) AS x", *INPUT[1:], folder=folder)
    assert "…" in wide.stdout
    assert "cells that end with … are cut" in wide.stderr


def test_control_sequences_do_not_reach_the_screen(folder: Path) -> None:
    said = run("sql", INPUT[0], "SELECT chr(27) || '[2J' || chr(155) || chr(10) || 'x' || chr(8238) || chr(8294) AS x", *INPUT[1:], folder=folder).stdout
    assert said == f"x\n{'-' * 9}\n?[2J?↵x??\n"


def test_list_of_queries() -> None:
    said = run("sql", "--queries").stdout
    for name in library.query_names():
        assert name in said
    assert "--set k=1: attempts drawn" in said


def test_set(folder: Path) -> None:
    done = run("sql", INPUT[0], "SELECT $k + 1 AS a, $name AS b", *INPUT[1:], "--set", "k=2", "--set", "name=x=y", "--format", "csv", folder=folder)
    assert done.stdout == "a,b\n3,x=y\n"


def test_a_duckdb_of_ones_own(folder: Path) -> None:
    """Bare DuckDB, in a process that knows nothing of this program: views are sourced as docs/sql.md says, then a query of ours and one's own."""
    ingest(folder / "rollouts.jsonl", folder / "in", max_bad_fraction=0.05)
    (folder / "mine.sql").write_text("SELECT role, count(*) FROM messages GROUP BY role ORDER BY role")
    code = f"""
import duckdb, json, pathlib
sql = pathlib.Path({str(library.folder())!r})
con = duckdb.connect()
con.execute("CREATE VIEW canonical AS FROM 'in/part-*.parquet'")
con.execute("CREATE VIEW quarantined AS FROM 'in/quarantine.parquet'")
for name in {library.VIEWS!r}:
    con.execute((sql / "views" / f"{{name}}.sql").read_text())
con.execute("SET VARIABLE k = 2")
ask = lambda text: con.execute(text).fetchall()
print(json.dumps([ask(pathlib.Path("mine.sql").read_text()), ask((sql / "queries" / "pass_at_k.sql").read_text()), ask("SELECT count(*) FROM pairs")]))
"""
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=folder, capture_output=True, text=True, check=True, timeout=120)
    connection = rollout_etl.connect(folder / "in", unsafe=True)
    connection.execute("SET VARIABLE k = 2")
    asked = ("SELECT role, count(*) FROM messages GROUP BY role ORDER BY role", library.query("pass_at_k").sql, "SELECT count(*) FROM pairs")
    assert json.loads(done.stdout) == [[list(row) for row in connection.execute(sql).fetchall()] for sql in asked]


def test_results_go_on(folder: Path) -> None:
    connection = rollout_etl.connect(folder / "rollouts.jsonl", max_bad_fraction=0.05)
    relation = connection.sql("SELECT row, reward, prompt FROM rollouts ORDER BY row")
    rows = relation.fetchall()
    assert relation.pl().rows() == rows
    assert [tuple(row.values()) for row in relation.to_arrow_table().to_pylist()] == rows
    assert list(relation.df()["row"]) == [row[0] for row in rows]


def test_the_database_opens_anywhere(folder: Path) -> None:
    ingest(folder / "rollouts.jsonl", database=folder / "rollouts.duckdb", max_bad_fraction=0.05)
    with duckdb.connect(str(folder / "rollouts.duckdb"), read_only=True) as connection:
        assert connection.execute(QUESTION).fetchall() == wanted()
        assert connection.execute("SELECT reason FROM quarantine").fetchall()[0][0].startswith("not JSON")


def test_nothing_temporary_is_left(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that fails ends as one that answers: without Python's clean-up."""
    scratch = folder / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    for arguments, code in (((*INPUT, QUESTION), 0), (("rollouts.jsonl", QUESTION), 3), ((*INPUT, "SELECT nope FROM rollouts"), 2)):
        assert run("sql", *arguments, folder=folder).returncode == code
        assert not list(scratch.iterdir())
