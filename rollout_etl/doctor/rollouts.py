"""Symptoms whose cause is in the rollouts. Two passes over narrow columns: one for statistics, one for how tools were offered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl

from rollout_etl.curate.rules import TOLERANCE
from rollout_etl.doctor.finding import Finding
from rollout_etl.plain_text import counted
from rollout_etl.read.scan import Rollouts
from rollout_etl.run.advice import FEW_SFT_EXAMPLES
from rollout_etl.stats.narrow import Narrow, narrow
from rollout_etl.stats.profile import profile

_LOWER = (0.9, 0.85, 0.8)
"""Further thresholds that the docs name for SFT, besides 0.95, strictest first (prepare-for-training; troubleshooting)."""
# A property without a schema: Arrow gives every tool the parameters of all other tools, as nulls.
_NAME, _SCHEMA = r'"(?:[^"\\]|\\.)*":', r"\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\}"
_NULL_PROPERTY = rf'"properties":\{{(?:{_NAME}{_SCHEMA},)*{_NAME}null'


def examine(path: str, rollouts: Rollouts) -> tuple[int, list[Finding]]:
    """The number of rollouts, and what may go wrong with them. Raises `UnreadableError`."""
    data = narrow(rollouts)
    found = profile(data)
    symptoms = [*_lines(rollouts), *_pairs(found), *_zeros(found), *_few(data, found), *_tools(rollouts)]
    return len(data.rollouts), [Finding(path, *symptom) for symptom in symptoms]


_Symptom = tuple[str, str, str]


def _lines(rollouts: Rollouts) -> Iterator[_Symptom]:
    account = rollouts.account
    if account is not None and account.quarantined:
        first = account.quarantined[0]
        cause = f"{len(account.quarantined):,} of {account.read:,} lines are not rollouts; the first is {first.source}:{first.line} ({first.reason})"
        yield "JSONDecodeError", cause, "rollout-etl leaves such lines out: --quarantine FILE keeps them, --max-bad-fraction allows more of them"


def _pairs(found: dict[str, Any]) -> Iterator[_Symptom]:
    dpo, overall = found["candidates"]["dpo"], found["overall"]
    if dpo["pairs"]["0.2"]:
        return
    reward = overall["reward"]
    if not overall["trainable"]:
        cause, remedy = f"none of {overall['rollouts']:,} rollouts is sound and complete", "`rollout-etl dpo` counts the rules that drop them"
    elif not dpo["groups_of_several"]:
        cause = f"no two of {overall['trainable']:,} usable rollouts share a task and a prompt"
        remedy = "collect with num_repeats of 2 or more; if other fields identify a task, name them with --group-by FIELD"
    elif reward["max"] - reward["min"] <= TOLERANCE:
        cause, remedy = f"all rewards are {reward['min']:g}", "collect at a temperature of 0.7 or more, on tasks of varied difficulty, and look at the verifier"
    elif dpo["mean_gap"] is None:
        cause = f"in each of the {dpo['groups_of_several']:,} groups with several attempts, all rewards are equal"
        remedy = "collect more attempts at a higher temperature, on tasks that are solved only sometimes"
    else:
        cause = f"the rewards of a group differ by {dpo['mean_gap']:.3f} on average, and never by 0.2"
        lower = dpo["pairs"]["0.1"]
        remedy = (
            f"lower the gap: rollout-etl dpo --min-gap 0.1 gives {counted(lower, 'pair')}; or use a finer verifier" if lower
            else "collect more attempts at a higher temperature, or use a finer verifier: even a gap of 0.1 gives no pair"
        )
    yield "No pairs created", cause, remedy


def _zeros(found: dict[str, Any]) -> Iterator[_Symptom]:
    reward, grpo = found["overall"]["reward"], found["candidates"]["grpo"]
    if reward is not None and max(abs(reward["min"]), abs(reward["max"])) <= TOLERANCE:
        flag = next((flag for flag in found["flags"] if flag["name"] == "all_zero"), None)
        yield "rewards all 0.0", f"the verifier gave 0 to all {reward['count']:,} rollouts", flag["remedy"] if flag else "see `rollout-etl show --best`"
    without = grpo["prompts"] - grpo["with_ground_truth"]
    if without:
        cause = f"{without:,} of {grpo['prompts']:,} prompts have no ground truth; training verifies answers itself, and would give every answer 0"
        yield "GRPO rewards all 0.0", cause, "name its field with --ground-truth-field, or the file of task inputs with --task-inputs"


def _few(data: Narrow, found: dict[str, Any]) -> Iterator[_Symptom]:
    sft = found["candidates"]["sft"]
    if sft["examples"] >= FEW_SFT_EXAMPLES:
        return
    usable = data.rollouts.filter("is_trainable")["reward"]
    lower = {threshold: int((usable >= threshold - TOLERANCE).sum()) for threshold in _LOWER}
    enough = next((threshold for threshold, count in lower.items() if count >= FEW_SFT_EXAMPLES), None)
    remedy = (
        f"lower it: --reward-threshold {enough:g} gives {lower[enough]:,}" if enough is not None
        else f"collect more rollouts, and check how strict the verifier is: even {_LOWER[-1]:g} gives {lower[_LOWER[-1]]:,}"
    )
    yield f"Fewer than {FEW_SFT_EXAMPLES} examples", f"{sft['examples']:,} usable rollouts reach a reward of {sft['threshold']:g}", remedy


def _tools(rollouts: Rollouts) -> Iterator[_Symptom]:
    calls = pl.col("num_tool_calls") > 0
    looks = {
        "calls": calls, "unoffered": calls & pl.col("tools").is_null(), "damaged": pl.col("tools").str.contains(_NULL_PROPERTY),
        "invalid": pl.col("completion_kinds").str.contains("c", literal=True),
    }
    frames = rollouts.batches(("num_tool_calls", "tools", "completion_kinds"))
    counted = [frame.select(look.sum().alias(name) for name, look in looks.items()) for frame in frames]
    total = pl.concat(counted).sum().row(0, named=True) if counted else dict.fromkeys(looks, 0)
    if total["unoffered"]:
        cause = f"{total['unoffered']:,} of {total['calls']:,} rollouts that call tools do not say which tools were offered"
        yield "Tool calls missing", cause, "collect with responses_create_params.tools, which chat templates need to render calls"
    if total["damaged"]:
        cause = f"{total['damaged']:,} rollouts offer tools with parameters that are null: the file was written by a program that uses one type for all schemas"
        yield "Tool schema corruption", cause, "use the original lines of the run; for the training file, set data.train.use_preserving_dataset: true"
    if total["invalid"]:
        cause = f"{total['invalid']:,} rollouts have calls whose arguments are not a JSON object"
        yield "Tool schema corruption", cause, "rollout-etl drops them (rule invalid_tool_call); if many were cut off, raise max_output_tokens"
