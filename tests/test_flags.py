"""Red flags are raised where they should be and nowhere else, in a settled order, and stop a run that asks for it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from rollout_etl.stats.flags import CHECKS, raised
from rollout_etl.stats.narrow import Narrow
from rollout_etl.stats.profile import profile
from tests.command import run
from tests.scored import MIXED, line, made

DEMO = Path(__file__).parents[1] / "demo" / "rollouts.jsonl"
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
