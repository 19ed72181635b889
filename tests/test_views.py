"""Every view equals the Polars pipeline or plain Python, on random and on real rollouts, read at once, ingested, or in a DuckDB file."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import duckdb
import polars as pl
import pytest

from rollout_etl.curate.rules import RULES, SOUND, verdict
from rollout_etl.explore import library
from rollout_etl.explore.ingest import ingest
from rollout_etl.explore.session import connect
from rollout_etl.read.scan import Rollouts
from rollout_etl.read.schema import SCHEMA
from rollout_etl.recipes import dpo, grpo, sft
from rollout_etl.recipes.options import RECIPES, DpoOptions, GrpoOptions, SftOptions
from rollout_etl.run.execute import Run, execute
from tests import test_oracle

random_rollouts = test_oracle.random_rollouts
real_copy = test_oracle.real_copy
Row = dict[str, Any]
DATA = ["random_rollouts", pytest.param("real_copy", marks=pytest.mark.skipif(not test_oracle.REAL.is_dir(), reason="no real rollouts beside the checkout"))]


@pytest.fixture(scope="module", params=DATA)
def path(request: pytest.FixtureRequest) -> Path:
    """Rollouts with some lines that are none."""
    folder: Path = request.getfixturevalue(request.param)
    if folder.is_file():
        with folder.open("ab") as file:
            file.write(b'no rollout\n\n[1, 2]\n{"text": "\xff"}\n')
    return folder


@pytest.fixture(scope="module", params=["read", "ingested", "database"])
def connection(request: pytest.FixtureRequest, path: Path, tmp_path_factory: pytest.TempPathFactory) -> duckdb.DuckDBPyConnection:
    folder = tmp_path_factory.mktemp("kept")
    if request.param == "read":
        return connect(path, max_bad_fraction=1.0)
    if request.param == "ingested":
        ingest(path, folder / "ingested", max_bad_fraction=1.0)
        return connect(folder / "ingested", max_bad_fraction=1.0)
    ingest(path, database=folder / "rollouts.duckdb", max_bad_fraction=1.0)
    return duckdb.connect(str(folder / "rollouts.duckdb"), read_only=True)


@pytest.fixture(scope="module")
def scanned(path: Path) -> Rollouts:
    rollouts = Rollouts(path)
    frames = list(rollouts.batches(list(SCHEMA)))
    rollouts.__dict__["frame"] = pl.concat(frames)
    return rollouts


@pytest.fixture(scope="module")
def rows(scanned: Rollouts) -> list[Row]:
    found: list[Row] = scanned.__dict__["frame"].to_dicts()
    return found


def asked(connection: duckdb.DuckDBPyConnection, sql: str) -> list[Row]:
    cursor = connection.cursor().execute(sql)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def test_the_list_of_views_is_that_of_the_folder() -> None:
    assert sorted(library.VIEWS) == sorted(path.stem for path in (library.folder() / "views").glob("*.sql"))


@pytest.mark.parametrize("name", library.VIEWS)
def test_headers(name: str) -> None:
    assert re.match(rf"-- {name}: one row for each .*\n(--.*\n)*CREATE OR REPLACE VIEW {name} AS\n", library.view(name))


def test_rollouts(connection: duckdb.DuckDBPyConnection, rows: list[Row]) -> None:
    assert asked(connection, "FROM rollouts ORDER BY row") == rows


def test_payloads_are_json(connection: duckdb.DuckDBPyConnection) -> None:
    kinds = dict(connection.cursor().execute("SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = 'rollouts'").fetchall())
    assert {name for name, kind in kinds.items() if kind == "JSON"} == {"prompt", "completion", "tools", "ground_truth", "statics", "metrics", "extra", "gym_row", "tool_names", "token_calls"}


def test_verdicts(connection: duckdb.DuckDBPyConnection, scanned: Rollouts) -> None:
    chosen = {
        "unsound": [RULES[name] for name in SOUND],
        "sft": sft.rules(SftOptions()),
        "dpo": dpo.rules(DpoOptions()),
        "grpo": grpo.rules(GrpoOptions()),
    }
    frame: pl.DataFrame = scanned.__dict__["frame"]
    wanted = frame.select("row", *(verdict(rules).alias(name) for name, rules in chosen.items()))
    assert asked(connection, f"SELECT {', '.join(wanted.columns)} FROM verdicts ORDER BY row") == wanted.to_dicts()


@pytest.mark.parametrize("recipe", ["sft", "dpo", "grpo"])
def test_drops_are_those_of_the_run_report(connection: duckdb.DuckDBPyConnection, path: Path, recipe: str, tmp_path: Path) -> None:
    report = execute(Run(inputs=[str(path)], output=tmp_path / "out.jsonl", options=RECIPES[recipe](), config=False, max_bad_fraction=1.0))
    found = asked(connection, f"SELECT rule, count(*) AS n FROM drops WHERE recipe = '{recipe}' GROUP BY rule")
    assert {row["rule"]: row["n"] for row in found} == dict(report.dropped)


def test_pairs_are_those_that_dpo_writes(connection: duckdb.DuckDBPyConnection, path: Path, tmp_path: Path) -> None:
    options = DpoOptions(prompt_as="messages", with_rewards=True)
    report = execute(Run(inputs=[str(path)], output=tmp_path / "out.jsonl", options=options, config=False, max_bad_fraction=1.0))
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").split("\n") if line]
    names = "replace(prompt, '{\"role\":\"developer\"', '{\"role\":\"system\"') AS prompt, chosen, rejected, reward_gap, chosen_reward, rejected_reward"
    found = asked(connection, f"SELECT {names} FROM pairs ORDER BY chosen_row, rejected_row")
    assert [{**row, "prompt": json.loads(row["prompt"])} for row in found] == written
    assert len(found) == report.written > 0


def test_groups(connection: duckdb.DuckDBPyConnection, rows: list[Row]) -> None:
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["task_key"], row["prompt_key"]), []).append(row)
    found = {(row["task_key"], row["prompt_key"]): row for row in asked(connection, "FROM groups")}
    assert set(found) == set(groups)
    for key, members in groups.items():
        rewards = [m["reward"] for m in members if m["reward"] is not None and not (m["is_failure"] or m["is_masked"] or m["is_unverified"])]
        got = found[key]
        assert (got["num_rollouts"], got["n"]) == (len(members), len(rewards))
        assert (got["best"], got["worst"]) == ((max(rewards), min(rewards)) if rewards else (None, None))
        assert got["mean"] == (pytest.approx(fmean(rewards)) if rewards else None)
        assert got["std"] == (pytest.approx(stdev(rewards)) if len(rewards) > 1 else None)
        assert got["pass_at_1"] == (pytest.approx(fmean(reward >= 0.5 - 1e-9 for reward in rewards)) if rewards else None)
        assert got["mean_turns"] == pytest.approx(fmean(m["num_turns"] for m in members))
        for name in ("prompt_tokens", "completion_tokens"):
            counted = [m[name] for m in members if m[name] is not None]
            assert got[name] == (sum(counted) if counted else None)
        for name in ("task_name", "agent_name", "source", "prompt_text"):
            assert got[name] == min((m[name] for m in members if m[name] is not None), key=lambda text: text.encode(), default=None)


def text_of(content: Any) -> str | None:
    if isinstance(content, list):
        texts = [part.get("text") if isinstance(part.get("text"), str) else part.get("refusal") for part in content if isinstance(part, dict)]
        return "".join(text for text in texts if isinstance(text, str))
    return content if isinstance(content, str) else None


def messages_of(row: Row) -> list[tuple[str, Row]]:
    return [(part, message) for part in ("prompt", "completion") for message in json.loads(row[part])]


def test_messages(connection: duckdb.DuckDBPyConnection, rows: list[Row]) -> None:
    wanted = [
        {
            "row": row["row"], "source": row["source"], "line": row["line"], "task_key": row["task_key"], "prompt_key": row["prompt_key"],
            "position": position, "part": part, "role": message["role"], "text": text_of(message["content"]),
            "reasoning": message.get("reasoning_content"), "num_tool_calls": len(message.get("tool_calls", [])),
            "tool_call_id": message.get("tool_call_id"), "message": message,
        }
        for row in rows
        for position, (part, message) in enumerate(messages_of(row))
    ]  # fmt: skip
    found = asked(connection, "FROM messages ORDER BY row, position")
    for got, want in zip(found, wanted, strict=True):
        assert {**got, "message": json.loads(got["message"])} == want


def test_tool_calls(connection: duckdb.DuckDBPyConnection, rows: list[Row]) -> None:
    wanted = []
    for row in rows:
        spoken = list(enumerate(messages_of(row)))
        seen: Counter[tuple[str, str]] = Counter()
        for position, (part, message) in spoken:
            for call, called in enumerate(message.get("tool_calls", [])):
                name, arguments = called["function"]["name"], called["function"]["arguments"]
                answers = [m["content"] for _, (p, m) in spoken if p == part and m["role"] == "tool" and m["tool_call_id"] == called["id"]]
                nth = seen[part, called["id"]]
                seen[part, called["id"]] += 1
                wanted.append(
                    {
                        "row": row["row"], "source": row["source"], "line": row["line"], "position": position, "part": part, "call": call,
                        "id": called["id"], "name": name if isinstance(name, str) else None, "arguments": arguments,
                        "is_valid": isinstance(arguments, dict) and isinstance(name, str), "answered": nth < len(answers),
                        "result": answers[nth] if nth < len(answers) else None,
                    }
                )  # fmt: skip
    found = asked(connection, "FROM tool_calls ORDER BY row, position, call")
    assert wanted
    for got, want in zip(found, wanted, strict=True):
        shown = json.loads(got["result"]) if isinstance(want["result"], list) else got["result"]
        assert {**got, "arguments": json.loads(got["arguments"]), "result": shown} == want


def test_metrics(connection: duckdb.DuckDBPyConnection, rows: list[Row]) -> None:
    wanted = sorted((row["row"], name, float(value)) for row in rows for name, value in json.loads(row["metrics"]).items())
    found = asked(connection, "SELECT row, name, value FROM metrics")
    assert sorted((row["row"], row["name"], row["value"]) for row in found) == wanted
    assert wanted


def test_quarantine(connection: duckdb.DuckDBPyConnection, scanned: Rollouts) -> None:
    assert scanned.account is not None
    wanted = [json.loads(line.to_json()) for line in scanned.account.quarantined]
    order = "ORDER BY source, line"
    assert asked(connection, f"FROM quarantine {order}") == sorted(wanted, key=lambda bad: (bad["source"], bad["line"]))
    assert wanted
