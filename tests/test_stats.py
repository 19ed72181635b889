"""Statistics equal a plain Python oracle; Gym's own figures come out where both exist."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from rollout_etl.read.inputs import find_inputs
from rollout_etl.read.scan import Rollouts
from rollout_etl.recipes.options import DpoOptions, GrpoOptions, KtoOptions, SftOptions
from rollout_etl.run.execute import Run, execute
from rollout_etl.stats.distribution import histogram, moments
from rollout_etl.stats.narrow import Narrow, narrow
from rollout_etl.stats.profile import profile
from rollout_etl.stats.summary import statistics
from tests.command import run
from tests.oracle import statistics as oracle
from tests.oracle.reading import canonical
from tests.scored import line, made

REAL = Path(__file__).resolve().parents[1].parent / "shared" / "rollouts"
DEMO = Path(__file__).parents[1] / "demo" / "rollouts.jsonl"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="no real rollouts beside the checkout")


def rows_of(path: Path) -> list[dict[str, Any]]:
    rows = []
    for item in find_inputs(str(path))[0]:
        for number, text in enumerate(Path(item.path).read_bytes().split(b"\n"), start=1):
            row = canonical(text, source=item.path, line_number=number, namespace=item.namespace) if text.strip() else None
            rows += [] if row is None else [row]
    return rows


def close(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: close(part) for name, part in value.items()}
    return pytest.approx(value, rel=1e-9, abs=1e-12) if isinstance(value, float) else value


def check_scope(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    for name in ("rollouts", "all_groups", "sound", "trainable", "missing"):
        assert found[name] == wanted[name], name
    assert (found["reward"] is None) == (wanted["reward"] is None)
    if wanted["reward"] is not None:
        assert [part["count"] for part in found["reward"]["histogram"]] == wanted["reward"].pop("bins")
        assert {name: found["reward"][name] for name in wanted["reward"]} == close(wanted["reward"])
    assert found["metrics"] == close(wanted["metrics"])
    if wanted["groups"] is None:
        assert found["groups"] is None
    else:
        assert {name: found["groups"][name] for name in wanted["groups"]} == close(wanted["groups"])
    for name in ("pass_at", "mean_at"):
        assert found[name] == close({k: value for k, value in wanted[name].items() if k in found[name]})
        assert len(found[name]) >= min(16, len(wanted[name]))
    for name, size in wanted["sizes"].items():
        assert found["sizes"][name] == close(size), name
    assert {row["tool"]: (row["calls"], row["rollouts"]) for row in found["tools"]} == wanted["tools"]
    assert found["length"]["correlation"] == close(wanted["correlation"])
    assert (found["length"]["pairs"] or {}).get("chosen_longer") == close(wanted["chosen_longer"])


def check(path: Path, success: float = 0.8) -> None:
    rows = rows_of(path)
    rollouts = Rollouts(str(path))
    rollouts._task_inputs._sidecars = {}
    found = profile(narrow(rollouts), success=success)
    wanted = oracle.scope(rows, success)
    assert found["candidates"]["dpo"]["pairs"] == wanted["pairs"]
    check_scope(found["overall"], wanted)
    for part, key in (("tasks", "task_name"), ("agents", "agent_name")):
        by_name = oracle.scopes(rows, lambda row, key=key: row[key], success)
        assert {scope["name"] for scope in found[part]} == set(by_name)
        for scope in found[part]:
            check_scope(scope, by_name[scope["name"]])


@needs_real
def test_real_rollouts() -> None:
    check(REAL)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "rewards",
    [[0.0, 1.0], [0, 0.2, 0.4, 0.5999999999999999, 0.6, 0.8, 1, 0.9999999999999998], [-3.5, 0.1, 19.4, None], [None], ["missing", float("nan"), "0.9"], [0.5]],
    ids=["binary", "continuous", "wide", "null", "nothing", "constant"],
)
def test_random_rollouts(tmp_path: Path, rewards: list[Any], seed: int) -> None:
    rng = random.Random(seed)
    path = tmp_path / "rollouts.jsonl"
    count = rng.choice((1, 2, 7, 60))
    path.write_bytes(b"\n".join(line(rng, task, attempt, rewards) for task in range(count) for attempt in range(rng.randrange(1, 20))))
    check(path, success=rng.choice((0.5, 0.8, 1.0)))


@pytest.mark.parametrize("lines", [b"", b"\n\n"], ids=["empty", "blank"])
def test_no_rollouts(tmp_path: Path, lines: bytes) -> None:
    path = tmp_path / "rollouts.jsonl"
    path.write_bytes(lines)
    found = profile(narrow(Rollouts(str(path))))
    assert (found["overall"]["rollouts"], found["overall"]["reward"], found["tasks"]) == (0, None, [])
    assert [flag["name"] for flag in found["flags"] if flag["severity"] == "error"] == ["no_rewards", "dpo_no_pairs", "kto_one_label"]
    assert found["recommendation"]["algorithm"] is None
    shown = run("stats", str(path))
    assert shown.returncode == 0 and shown.stdout.startswith("0 rollouts")


def test_ten_million_equal_rewards() -> None:
    values = pl.DataFrame({"value": pl.repeat(0.1, 10_000_000, eager=True)})
    row = values.select(moments(pl.col("value"))).row(0, named=True)
    assert row == {"count": 10_000_000, "mean": 0.1, "std": 0.0, "min": 0.1, "p25": 0.1, "median": 0.1, "p75": 0.1, "max": 0.1}
    assert [part["count"] for part in histogram(values["value"])] == [10_000_000, 0, 0, 0, 0]


def printed(threads: int) -> str:
    """Statistics of many rollouts of several tasks, as a process of so many threads has them."""
    code = (
        "import json, random; from tests.scored import made; from rollout_etl.stats.profile import profile; rng = random.Random(1); "
        "print(json.dumps(profile(made([rng.random() for _ in range(40_000)], 8, task_name=[f't{i // 8 % 5}' for i in range(40_000)], "
        "completion_chars=[rng.randrange(900) for _ in range(40_000)]))))"
    )
    environment = {**os.environ, "POLARS_MAX_THREADS": str(threads)}
    return subprocess.run([sys.executable, "-c", code], cwd=DEMO.parents[1], env=environment, capture_output=True, text=True, check=True).stdout


def test_figures_are_the_same_to_the_last_digit_whatever_the_threads() -> None:
    assert printed(1) == printed(2)


def test_candidates_are_what_the_recipes_make(tmp_path: Path) -> None:
    found = profile(narrow(Rollouts(str(DEMO))))["candidates"]

    def written(options: Any, **more: Any) -> Any:
        return execute(Run(inputs=[str(DEMO)], output=tmp_path / "out.jsonl", options=options, max_bad_fraction=1, config=False, **more))

    assert written(SftOptions()).written == found["sft"]["examples"]
    for gap, count in found["dpo"]["pairs"].items():
        assert written(DpoOptions(min_gap=float(gap), format="preference")).written == count
    assert written(GrpoOptions(format="response")).written == found["grpo"]["with_ground_truth"]
    labels = written(KtoOptions(), target="trl").statistics
    assert (labels["label_true"], labels["label_false"]) == (found["kto"]["true"], found["kto"]["false"])


@pytest.mark.parametrize("values", [(1e200, 2.0), (1e308, -1e308), (1e160, 0.0, 1.0)])
@pytest.mark.parametrize("name", ["reward", "ppl"])
def test_huge_numbers_are_shown(name: str, values: tuple[float, ...], tmp_path: Path) -> None:
    """A diverged perplexity is an ordinary thing to find, and what it shows must be JSON."""
    output = [{"type": "message", "role": "assistant", "content": "a"}]
    rows = [{"responses_create_params": {"input": "q"}, "response": {"output": output}, "reward": 1.0, "_ng_task_index": 0, name: value} for value in values]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run("stats", "in.jsonl", "--compare", "in.jsonl", "--json", folder=tmp_path)
    overall = json.loads(done.stdout, parse_constant=pytest.fail)["overall"]
    found = overall["reward"] if name == "reward" else overall["metrics"]["ppl"]
    assert found["mean"] == pytest.approx(sum(value / len(values) for value in values)) and min(values) <= found["median"] <= max(values)
    for shown in ([], ["--compare", "in.jsonl"]):
        assert run("stats", "in.jsonl", *shown, folder=tmp_path).returncode == 0


def test_identical_sides_are_no_pair() -> None:
    found = profile(made([0.0, 1.0, 0.2, 0.9], 2, response=[7, 7, 1, 2]))
    assert found["candidates"]["dpo"]["pairs"] == {"0.1": 1, "0.2": 1, "0.3": 1}
    assert found["overall"]["length"]["pairs"]["pairs"] == 1


SIDECARS = sorted(REAL.glob("gym/*/*_a*_metrics.json")) + sorted(REAL.glob("gym/*/*_reward_profiling.jsonl")) if REAL.is_dir() else []
OURS = {"input_tokens": "prompt_tokens", "output_tokens": "completion_tokens", "total_tokens": "total_tokens"}


def of_gym(path: Path) -> list[tuple[str, Any, dict[str, Any]]]:
    """Entries of a sidecar: `agent` and its name, or `task` and its index, and the figures."""
    entries = [json.loads(text) for text in path.read_text().splitlines()] if path.suffix == ".jsonl" else json.loads(path.read_text())
    if path.suffix == ".jsonl":
        return [("task", entry.get("_ng_task_index", place), entry) for place, entry in enumerate(entries)]
    found = []
    for entry in entries:
        found.append(("agent", entry["agent_ref"]["name"], entry.get("agent_metrics", entry)))
        for place, group in enumerate(entry.get("group_level_metrics", [])):
            found.append(("task", group.get("_ng_task_index", place), group))
    return found


@pytest.mark.parametrize("sidecar", SIDECARS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_figures_of_gym(sidecar: Path) -> None:
    stem = sidecar.name.split("_rollouts")[0] + "_rollouts.jsonl"
    data = narrow(Rollouts(str(sidecar.parent / stem)))
    index = pl.concat(Rollouts(str(sidecar.parent / stem)).batches(("task_index",)))["task_index"]
    compared = 0
    for kind, name, figures in of_gym(sidecar):
        # Rollouts that name no agent are all of the one that the sidecar names.
        here = data.rollouts["agent_name"].cast(pl.String).fill_null(name) == name if kind == "agent" else index == str(name)
        rows = pl.Series(range(len(index)), dtype=pl.UInt32).filter(here)
        kept = Narrow(rollouts=data.rollouts.filter(here), metrics=data.metrics.filter(pl.col("row").is_in(rows.implode())).with_columns(row=pl.lit(0, pl.UInt32)))
        ours = statistics(kept)["overall"]
        for key, value in figures.items():
            figure, _, field = key.partition("/")
            if figure not in ("mean", "max", "min", "median", "std") or field not in ("reward", *OURS, *ours["metrics"]):
                continue
            where = ours["reward"] if field == "reward" else ours["sizes"][OURS[field]] if field in OURS else ours["metrics"][field]
            # pandas has no deviation of one value; Gym writes 0 for it.
            mine = where[figure] or 0.0 if figure == "std" else where[figure]
            assert mine == pytest.approx(value, rel=1e-9, abs=1e-12), (name, key)
            compared += 1
        left = {key.split("/", 1)[1] for key in figures if key.split("/")[0] == "mean"} - {"reward", *OURS, *ours["metrics"]}
        assert not left, (name, left)
    assert compared


def test_json_and_text(tmp_path: Path) -> None:
    found = json.loads(run("stats", str(DEMO), "--max-bad-fraction", "0.05", "--json").stdout)
    assert found["overall"]["rollouts"] == 48
    text = run("stats", str(DEMO), "--max-bad-fraction", "0.05").stdout
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text


def test_hostile_names(tmp_path: Path) -> None:
    path = tmp_path / "rollouts.jsonl"
    rows = [{"reward": 1, "task_name": name, "agent_ref": {"name": name}, name: 1.5, "messages": [{"role": "user", "content": "x"}]} for name in ("\x1b[2Jgone", "[red]x[/red]", "b\u009bc")]
    path.write_text("\n".join(map(json.dumps, rows)))
    text = run("stats", str(path)).stdout
    assert not {"\x1b", "\u009b"} & set(text)
    assert "[red]x[/red]" in text
