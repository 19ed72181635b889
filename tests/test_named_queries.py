"""Every named query equals plain Python over the canonical rows, with its defaults and with other parameters."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import polars as pl
import pytest

from rollout_etl.errors import UsageError
from rollout_etl.explore import library
from rollout_etl.explore.session import Session
from rollout_etl.read.scan import Rollouts
from rollout_etl.read.schema import SCHEMA
from rollout_etl.stats.narrow import narrow
from rollout_etl.stats.profile import profile
from tests import scored, test_views
from tests.oracle.queries import ORACLES, Answer, Row

random_rollouts, real_copy = test_views.random_rollouts, test_views.real_copy


def is_moderate(line: bytes) -> bool:
    """Whether the reward of a line is no number whose square a double rounds away: what is made of such depends on the order of sums."""
    try:
        row = json.loads(line)
        return not abs(float(str(row["reward"]))) > 1e6
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return True


@pytest.fixture(scope="module", params=test_views.DATA)
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rollouts of moderate rewards, with some lines that are none."""
    found: Path = request.getfixturevalue(request.param)
    if not found.is_file():
        return found
    kept = tmp_path_factory.mktemp("moderate") / "rollouts.jsonl"
    kept.write_bytes(b"\n".join([*filter(is_moderate, found.read_bytes().split(b"\n")), b"no rollout", b"[1, 2]"]) + b"\n")
    return kept


@pytest.fixture(scope="module")
def session(path: Path) -> Session:
    return Session(path, max_bad_fraction=1.0)


@pytest.fixture(scope="module")
def rows(path: Path) -> list[Row]:
    return pl.concat(list(Rollouts(path).batches(list(SCHEMA)))).to_dicts()


def answered(session: Session, name: str, given: dict[str, str]) -> Answer:
    query = library.query(name)
    defaults = {parameter.name: parameter.value_of(parameter.default) for parameter in query.parameters}
    (result,) = session.run(query.sql, {**dict.fromkeys(defaults), **query.values_of(given)})
    found: Answer = result.fetchall()
    return found


def check_same(found: Answer, wanted: Answer) -> None:
    """Same rows in any order; floating point may round otherwise."""
    assert len(found) == len(wanted)
    for got, want in zip(by_key(found), by_key(wanted), strict=True):
        assert got == tuple(pytest.approx(value, rel=1e-6, abs=1e-9) if isinstance(value, float) else value for value in want)


def by_key(answer: Answer) -> Answer:
    return sorted(answer, key=lambda row: [(value is None, str(value)) for value in row if not isinstance(value, float)] + [(False, f"{row[2]:.6g}" if isinstance(row[2], float) else "")])


ASKED = [(name, given) for name, (_, tried) in ORACLES.items() for given in tried]


@pytest.mark.parametrize(("name", "given"), ASKED, ids=[f"{name} {' '.join(f'{k}={v}' for k, v in given.items())}".strip() for name, given in ASKED])
def test_named_query(session: Session, rows: list[Row], name: str, given: dict[str, str]) -> None:
    wanted = ORACLES[name][0]([dict(row) for row in rows], **library.query(name).values_of(given))
    found = answered(session, name, given)
    assert found or given or (name == "agents_compared" and not any(row["agent_name"] for row in rows))
    check_same(found, wanted)


@pytest.mark.parametrize("most", [10, 3])
def test_best_and_worst_pairs(session: Session, most: int) -> None:
    (result,) = session.run("FROM pairs")
    names = [column[0] for column in result.description]
    pairs = [dict(zip(names, row, strict=True)) for row in result.fetchall()]
    pairs.sort(key=lambda pair: (-pair["reward_gap"], pair["chosen_row"], pair["rejected_row"]))
    columns = ("reward_gap", "chosen_reward", "rejected_reward", "prompt_text", "chosen", "rejected", "task_name", "chosen_row", "rejected_row")
    assert answered(session, "best_and_worst_pairs", {"most": str(most)}) == [tuple(pair[name] for name in columns) for pair in pairs[:most]]


def test_statistics_say_the_same(tmp_path: Path) -> None:
    """Rewards that are nearly equal, and nearly a success, are so for queries and for `stats` alike."""
    rng = random.Random(7)
    nearly = [0.0, 0.3, 0.3000005, 0.30000000000000004, 0.49999999999, 0.5, 1.0, -2.0]
    file = tmp_path / "rollouts.jsonl"
    file.write_bytes(b"\n".join(scored.line(rng, task, attempt, rng.sample(nearly, rng.randint(1, 2))) for task in range(60) for attempt in range(3)))
    session = Session(file)
    found = profile(narrow(Rollouts(file)), success=0.5)
    groups = found["overall"]["groups"]
    good, bad, differ = (sum(row[place] for row in answered(session, "groups_without_signal", {})) for place in (5, 6, 7))
    assert (good + bad, good + bad + differ) == (groups["no_spread"], groups["several"])
    for k, share in found["overall"]["pass_at"].items():
        estimates = [row[-1] for row in answered(session, "pass_at_k", {"k": str(k)})]
        assert sum(estimates) / len(estimates) == pytest.approx(share)
    (result,) = session.run("SELECT avg(std), count(*) FILTER (n > 0), sum(n * mean) / sum(n) FROM groups")
    assert result.fetchall() == [(pytest.approx(groups["mean_std"]), groups["groups"], pytest.approx(found["overall"]["reward"]["mean"]))]


def test_every_query_has_an_oracle() -> None:
    assert {*ORACLES, "best_and_worst_pairs"} == set(library.query_names())
    assert len(library.query_names()) >= 12


@pytest.mark.parametrize("name", library.query_names())
def test_defaults_are_those_of_the_header(session: Session, name: str) -> None:
    query = library.query(name)
    assert {parameter.name for parameter in query.parameters} == set(re.findall(r"getvariable\('(\w+)'\)", query.sql))
    defaults = {parameter.name: parameter.default for parameter in query.parameters}
    check_same(answered(session, name, defaults), answered(session, name, {}))


def test_wrong_parameters() -> None:
    query = library.query("pass_at_k")
    with pytest.raises(UsageError, match="pass_at_k has no such parameter; it has k, threshold"):
        query.values_of({"m": "1"})
    with pytest.raises(UsageError, match="k is a whole number, as in 1"):
        query.values_of({"k": "1.5"})
    with pytest.raises(UsageError, match="no query 'pas_at_k'; the nearest is pass_at_k"):
        library.query("pas_at_k")
