"""Statistics equal a plain Python oracle; Gym's own figures come out where both exist; flags are raised where they should be."""

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
from rollout_etl.run import Run, execute
from rollout_etl.stats.distribution import histogram, moments
from rollout_etl.stats.flags import CHECKS, raised
from rollout_etl.stats.narrow import SCHEMA, Narrow, narrow
from rollout_etl.stats.profile import profile
from rollout_etl.stats.summary import statistics
from tests.oracle import statistics as oracle
from tests.oracle.reading import canonical
from tests.test_cli import run

REAL = Path(__file__).resolve().parents[1].parent / "shared" / "rollouts"
DEMO = Path(__file__).parents[1] / "demo" / "rollouts.jsonl"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="no real rollouts beside the checkout")


def rows_of(path: Path) -> list[dict[str, Any]]:
    rows = []
    for item in find_inputs(str(path))[0]:
        for number, line in enumerate(Path(item.path).read_bytes().split(b"\n"), start=1):
            row = canonical(line, source=item.path, line_number=number, namespace=item.namespace) if line.strip() else None
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


def line(rng: random.Random, task: int, attempt: int, rewards: list[Any]) -> bytes:
    row: dict[str, Any] = {
        "responses_create_params": {"input": [{"role": "user", "content": f"question {task} " + "é\n" * rng.randrange(5)}]},
        "response": {
            "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": rng.choice(("a", "b \\ \"c\"", "déjà\nvu", "x" * 40))}]}],
            "usage": {"input_tokens": rng.randrange(50), "output_tokens": rng.randrange(50), "total_tokens": 0},
        },
        "_ng_task_index": task, "_ng_rollout_index": attempt,
    }
    if rng.random() < 0.3:
        row["response"]["output"].insert(0, {"type": "function_call", "name": rng.choice(("search", "sé\"arch")), "arguments": "{\"q\": 1}", "call_id": "1"})
        row["response"]["output"].insert(1, {"type": "function_call_output", "output": "found", "call_id": "1"})
    if rng.random() < 0.7:
        row["accuracy"] = rng.choice((0, 1, 0.25, True, 1e-7))
    if rng.random() < 0.2:
        row |= rng.choice(({"mask_sample": True}, {"verification_skipped": True}, {"wéird \"name\"": -3.5}))
    row["task_name"] = rng.choice(("math", "code", None)) if task % 2 else "chat"
    row["agent_ref"] = {"name": f"agent {task % 3}"}
    reward = rng.choice(rewards)
    if reward != "missing":
        row["reward"] = reward
    return json.dumps(row).encode()


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


def made(rewards: list[float], size: int, **more: Any) -> Narrow:
    """Sound rollouts with these rewards, in groups of `size`."""
    count = len(rewards)
    data = {
        "group": [i // size for i in range(count)], "response": list(range(count)), "statics": [0] * count, "reward": rewards, "attempt": [i % size for i in range(count)],
        **dict.fromkeys(("num_turns", "prompt_chars", "completion_chars"), [10] * count), **dict.fromkeys(("num_tool_calls", "num_unanswered"), [0] * count),
        **{name: [name in ("is_sound", "is_trainable", "is_prompt", "has_truth")] * count for name, dtype in SCHEMA.items() if dtype == pl.Boolean},
    }
    data |= {name: value if isinstance(value, list) else [value] * count for name, value in more.items()}
    return Narrow(rollouts=pl.DataFrame(data, schema={name: dtype for name, dtype in SCHEMA.items() if name in data}).select(
        pl.col(name) if name in data else pl.lit(None, dtype).alias(name) for name, dtype in SCHEMA.items()))


def printed(threads: int) -> str:
    """Statistics of many rollouts of several tasks, as a process of so many threads has them."""
    code = (
        "import json, random; from tests.test_stats import made; from rollout_etl.stats.profile import profile; rng = random.Random(1); "
        "print(json.dumps(profile(made([rng.random() for _ in range(40_000)], 8, task_name=[f't{i // 8 % 5}' for i in range(40_000)], "
        "completion_chars=[rng.randrange(900) for _ in range(40_000)]))))"
    )
    environment = {**os.environ, "POLARS_MAX_THREADS": str(threads)}
    return subprocess.run([sys.executable, "-c", code], cwd=DEMO.parents[1], env=environment, capture_output=True, text=True, check=True).stdout


def test_figures_are_the_same_to_the_last_digit_whatever_the_threads() -> None:
    assert printed(1) == printed(2)


MIXED = [0.0, 1.0, 0.5, 0.9, 0.1, 0.6, 0.3, 1.0] * 50
GRADED = [0.2, 0.8, 0.5, 0.95] * 100
FLAGGED = {
    "no_rewards": made([0.0] * 8, 4, is_sound=False),
    "all_zero": made([0.0] * 8, 4),
    "all_one": made([1.0] * 8, 4),
    "identical_rewards": made([0.5] * 8, 4),
    "low_mean": made([0.1, 0.4, 0.2, 0.1], 4),
    "mostly_failing": made([0.0] * 9 + [1.0], 5),
    "sft_few": made([0.2, 0.96] * 20, 4),
    "sft_weak": made(MIXED, 4),
    "dpo_spread": made([0.9] * 9 + [0.1], 5),
    "dpo_no_pairs": made([0.4, 0.5] * 20, 2),
    "dpo_small_gaps": made([0.45, 0.6] * 20, 2),
    "dpo_tiny_gaps": made([0.50, 0.55] * 20, 2),
    "dpo_binary_gaps": made([0.0, 1.0] * 20, 2),
    "ppo_clustered": made([0.45, 0.5] * 20, 2),
    "ppo_low_std": made([0.4, 0.65] * 20, 2),
    "ppo_all_good": made([0.92, 0.99] * 20, 2),
    "ppo_all_bad": made([0.1, 0.29] * 20, 2),
    "success_rate": made([0.1] * 9 + [0.9], 5),
    "no_spread": made([0.0] * 12 + [0.0, 1.0, 0.0, 1.0], 4),
    "lone_rollouts": made(MIXED, 1),
    "grpo_no_truth": made(MIXED, 4, has_truth=False),
    "kto_one_label": made([0.6, 0.9], 2),
    "range": made([0.0, 2.0], 2),
    "extreme_range": made([0.0, -100.0], 2),
    "missing_rewards": made([None, 1.0, 0.0, 1.0], 2, is_sound=[False, True, True, True]),  # type: ignore[list-item]
    "nonfinite_rewards": made(MIXED, 4, is_nonfinite=True),
    "failed": made(MIXED, 4, is_failure=True),
    "truncated": made(MIXED, 4, is_truncated=True),
    "empty_answers": made(MIXED, 4, is_empty=True),
    "error_texts": made(MIXED, 4, says_error=True),
    "unanswered_calls": made(MIXED, 4, num_unanswered=1),
    "length_bias": made(MIXED, 4, completion_chars=[round(100 * reward) for reward in MIXED]),
    "length_gap": made(MIXED, 4, completion_chars=[round(100 * reward) for reward in MIXED]),
    "copies": made(MIXED, 4, response=7),
    "mixed_groups": made(MIXED, 4, statics=[i % 2 for i in range(len(MIXED))]),
}


@pytest.mark.parametrize("name", FLAGGED)
def test_flags(name: str) -> None:
    flags = {flag["name"] for flag in profile(FLAGGED[name])["flags"]}
    assert name in flags


def test_every_flag_has_a_case_and_good_data_has_none() -> None:
    # Falling rewards need earlier ones: see test_comparison.py.
    assert set(FLAGGED) | {"falling_rewards"} == {check.name for check in CHECKS}
    fine = made(MIXED, 4, completion_chars=[10 + i * 7919 % 13 for i in range(len(MIXED))])
    assert {flag["name"] for flag in profile(fine)["flags"]} <= {"sft_weak"}
    assert profile(fine, algorithm="grpo")["flags"] == []


@pytest.mark.parametrize(
    ("data", "algorithm"),
    [
        (made([0.95, 1.0] * 100, 4), "sft"),
        (made([0.0, 1.0] * 100, 4), "grpo"),
        (made(GRADED, 4), "dpo"),
        (made([0.0, 1.0] * 100, 4, has_truth=False), "dpo"),
        (made([0.0, 1.0], 1), "grpo"),
        (made([0.0, 1.0] * 9, 1, has_truth=False), "sft"),
        (made([0.5] * 8, 4), None),
        (made([0.0, 0.5], 1, has_truth=False), None),
    ],
    ids=["demonstrations", "verifiable", "graded", "no truth", "lone", "only good ones", "constant", "nothing"],
)
def test_recommendation(data: Narrow, algorithm: str | None) -> None:
    advice = profile(data)["recommendation"]
    assert advice["algorithm"] == algorithm
    assert advice["reasons"]


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


@pytest.mark.parametrize(
    ("arguments", "code"),
    [([], 0), (["--fail-on", "error"], 0), (["--fail-on", "warning"], 4), (["--for", "kto", "--fail-on", "error"], 0), (["--max-bad-fraction", "0.001"], 3), (["--for", "nope"], 2)],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_gate(arguments: list[str], code: int) -> None:
    relaxed = [] if "--max-bad-fraction" in arguments else ["--max-bad-fraction", "0.05"]
    assert run("stats", str(DEMO), *arguments, *relaxed, "--quiet").returncode == code


def test_gate_on_errors(tmp_path: Path) -> None:
    path = tmp_path / "rollouts.jsonl"
    path.write_bytes(b"\n".join(line(random.Random(1), 0, attempt, [0.0]) for attempt in range(4)))
    done = run("stats", str(path), "--fail-on", "error")
    assert done.returncode == 4
    assert "all_zero" in done.stdout


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


def test_flags_are_documented() -> None:
    page = (DEMO.parents[1] / "docs" / "stats.md").read_text()
    for check in CHECKS:
        matters = ", ".join(check.algorithms) if len(check.algorithms) < 5 else "all"
        wanted = check.threshold.replace("|", "&#124;")
        assert f"| `{check.name}` | {check.severity} | {matters} | {wanted} | {check.source} |" in page


def test_checks_are_raised_in_order() -> None:
    facts = {"overall": profile(made([0.0] * 8, 4))["overall"], "candidates": profile(made([0.0] * 8, 4))["candidates"], "mixed_groups": 1, "copies": 0, "comparison": None}
    severities = [flag.severity for flag in raised(facts)]
    assert severities == sorted(severities)
