"""Changes against earlier rollouts equal a plain Python oracle, and are shown on the terminal and in JSON."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from rollout_etl.read.scan import Rollouts
from rollout_etl.stats.comparison import LARGEST, MEASURES
from rollout_etl.stats.narrow import narrow
from rollout_etl.stats.profile import profile
from tests.command import run
from tests.oracle import comparison as oracle
from tests.scored import MIXED, line, made
from tests.test_stats import DEMO, REAL, close, needs_real, rows_of


def found_in(path: Path) -> Any:
    rollouts = Rollouts(str(path))
    rollouts._task_inputs._sidecars = {}
    return narrow(rollouts)


def check(now: Path, before: Path) -> dict[str, Any]:
    data, earlier = found_in(now), found_in(before)
    found = profile(data, earlier=[earlier])
    past, compared = profile(earlier), found["comparison"]
    for name, look in MEASURES.items():
        old, new = look(past["overall"]), look(found["overall"])
        assert compared["overall"][name] == {"before": old, "now": new, "change": None if None in (old, new) else new - old}
    wanted = oracle.drift(rows_of(now), rows_of(before))
    moved = wanted.pop("moved")
    assert {name: compared["prompts"][name] for name in wanted} == close(wanted)
    shown = [*compared["prompts"]["fell"], *compared["prompts"]["rose"]]
    for row in shown:
        assert (row["before"], row["now"], row["attempts"]["before"], row["attempts"]["now"]) == pytest.approx(moved[row["prompt"]])
    assert len(shown) == min(wanted["worse"], LARGEST) + min(wanted["better"], LARGEST)
    changes = sorted((new - old for old, new, *_ in moved.values()), key=abs, reverse=True)
    if shown:
        assert max(abs(row["change"]) for row in shown) == pytest.approx(abs(changes[0]))
    for part in ("tasks", "agents"):
        names, before_names = ({scope["name"] for scope in one[part]} for one in (found, past))
        assert {row["name"] for row in compared[part]["both"]} == names & before_names
        assert set(compared[part]["only_now"]) == names - before_names
        assert set(compared[part]["only_before"]) == before_names - names
    return found


@pytest.mark.parametrize("seed", range(6))
def test_random_rollouts(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    paths = [tmp_path / f"rl_iter_{number}.jsonl" for number in (1, 2)]
    for path in paths:
        tasks = rng.sample(range(30), rng.choice((0, 1, 5, 25)))
        # Prompts without the random line breaks of `line`, so that most stand in both files.
        rows = [json.loads(line(rng, task, attempt, [0.0, 0.5, 1.0, None])) for task in tasks for attempt in range(rng.randrange(1, 9))]
        for row in rows:
            row["responses_create_params"]["input"][0]["content"] = row["responses_create_params"]["input"][0]["content"].split("é")[0]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    check(paths[1], paths[0])


@needs_real
def test_real_rollouts() -> None:
    check(REAL / "gym", REAL / "older")


@pytest.mark.parametrize(("now", "before", "raised"), [(0.3, 0.0, True), (0.01, 0.0, False), (0.0, 0.3, False)], ids=["fell", "noise", "rose"])
def test_falling_rewards(now: float, before: float, raised: bool) -> None:
    data, earlier = (made([max(reward - less, 0.0) for reward in MIXED], 4) for less in (now, before))
    assert ("falling_rewards" in {flag["name"] for flag in profile(data, earlier=[earlier])["flags"]}) == raised


def test_command(tmp_path: Path) -> None:
    lines = DEMO.read_bytes().splitlines(keepends=True)
    for name, part in (("one", lines[:20]), ("two", lines[:30]), ("three", lines)):
        (tmp_path / f"{name}.jsonl").write_bytes(b"".join(part))
    arguments = ["stats", "three.jsonl", "--compare", "one.jsonl", "--compare", "two.jsonl", "--max-bad-fraction", "0.1"]
    found = json.loads(run(*arguments, "--json", folder=tmp_path).stdout)
    assert [point["inputs"] for point in found["trend"]] == [["one.jsonl"], ["two.jsonl"], ["three.jsonl"]]
    assert found["comparison"]["inputs"] == ["two.jsonl"]
    text = run(*arguments, folder=tmp_path).stdout
    assert max(map(len, text.splitlines())) <= 80
    assert "Compared with two.jsonl" in text and "\nTrend\n" in text
    alone = json.loads(run("stats", "three.jsonl", "--max-bad-fraction", "0.1", "--json", folder=tmp_path).stdout)
    assert (alone["comparison"], alone["trend"]) == (None, None)
    missing = run("stats", "three.jsonl", "--compare", "nope.jsonl", folder=tmp_path)
    assert (missing.returncode, missing.stderr) == (2, "rollout-etl: no such file or folder: nope.jsonl\n")


def test_no_prompt_in_common(tmp_path: Path) -> None:
    for name in ("then", "now"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"messages": [{"role": "user", "content": name}], "response": {"output": []}, "reward": 1}))
    said = run("stats", "now.jsonl", "--compare", "then.jsonl", folder=tmp_path)
    assert said.returncode == 0
    assert "no prompt is in both (1 new, 1 gone)" in said.stdout
