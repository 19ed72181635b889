"""The training rows of each recipe in plain Python: canonical rows in, lines out."""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import product
from typing import Any

from rollout_etl.recipes.options import AnyOptions, DpoOptions, GrpoOptions, SftOptions

Row = dict[str, Any]
SLACK = 1e-9


def _last_turn(row: Row) -> str:
    return re.split("[OUSDM]", row["completion_kinds"])[-1].replace("X", "")


def _ends_by_assistant(row: Row) -> bool:
    kinds = row["completion_kinds"]
    return kinds == "" or re.search("[RrACcE]", re.split("[OUSDM]", kinds)[-1]) is not None


RULES = {
    "failure_row": lambda r: r["is_failure"],
    "masked": lambda r: r["is_masked"],
    "verification_skipped": lambda r: r["is_unverified"],
    "nonfinite_reward": lambda r: r["is_nonfinite"],
    "missing_reward": lambda r: r["reward"] is None and not r["is_nonfinite"],
    "truncated": lambda r: r["is_truncated"],
    "media": lambda r: r["has_media"],
    "empty_prompt": lambda r: r["is_prompt_empty"],
    "unfinished": lambda r: not _ends_by_assistant(r),
    "empty_answer": lambda r: _ends_by_assistant(r) and not set(_last_turn(r)) & set("ACc"),
    "invalid_tool_call": lambda r: "c" in r["prompt_kinds"] + r["completion_kinds"],
    "unanswered_tool_call": lambda r: r["num_unanswered"] > 0,
    "orphan_tool_result": lambda r: r["num_orphans"] > 0,
    "flattened_completion": lambda r: r["num_turns"] > 1 or r["num_tool_calls"] > 0 or bool(set(r["completion_kinds"]) & set("OUSDM")),
    "tool_prompt": lambda r: bool(set(r["prompt_kinds"]) & set("CcO")),
    "inexact_number": lambda r: r["has_inexact_number"],
    "missing_ground_truth": lambda r: r["ground_truth"] is None,
}
SOUND = ["failure_row", "masked", "verification_skipped", "nonfinite_reward", "missing_reward"]
TRAINABLE = ["truncated", "media", "empty_prompt", "unfinished", "empty_answer", "invalid_tool_call", "unanswered_tool_call", "orphan_tool_result"]


def _names(options: AnyOptions) -> list[str]:
    if isinstance(options, SftOptions):
        return [*SOUND, *TRAINABLE, *(["flattened_completion"] if options.format == "simple" else [])]
    if isinstance(options, DpoOptions):
        return [*SOUND, *TRAINABLE, *(["flattened_completion", "tool_prompt"] if options.format == "binary" else ["inexact_number"])]
    if options.format == "gym":
        return ["failure_row"]
    return ["failure_row", "media", "empty_prompt", *([] if options.no_ground_truth else ["missing_ground_truth"])]


def dropped_by(row: Row, options: AnyOptions) -> str | None:
    """The first rule that drops a rollout."""
    wanted = set(_names(options))
    for name, drops in RULES.items():
        if name in wanted and drops(row):
            return name
    if isinstance(options, SftOptions) and row["reward"] < options.reward_threshold - SLACK:
        return "below_threshold"
    if isinstance(options, GrpoOptions) and options.format == "gym":
        if any(mark in row["shape"] for mark in ("empty_input", "no_input", "no_prompt", "messages", "response_only")):
            return "missing_input"
        if options.agent_name is None and row["agent_name"] is None:
            return "missing_agent"
    return None


def lines_of(rows: list[Row], options: AnyOptions) -> tuple[list[str], Counter[str]]:
    """Training lines in their order, and the rollouts dropped by rule. `rows` are in input order."""
    verdicts = [dropped_by(row, options) for row in rows]
    kept = [{**row, "row": number} for number, (row, rule) in enumerate(zip(rows, verdicts, strict=True)) if rule is None]
    make = _sft if isinstance(options, SftOptions) else _dpo if isinstance(options, DpoOptions) else _grpo
    return make(kept, options), Counter(rule for rule in verdicts if rule)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _line(**members: str) -> str:
    return "{" + ",".join(f'"{name}":{value}' for name, value in members.items()) + "}\n"


def _both(first: str, second: str) -> str:
    if first == "[]":
        return second
    return first if second == "[]" else first[:-1] + "," + second[1:]


def _sft(kept: list[Row], options: SftOptions) -> list[str]:
    if options.format == "simple":
        return [_line(input=_text(row["prompt_text"]), output=_text(row["response_text"])) for row in kept]
    return [
        _line(messages=_both(row["prompt"], row["completion"]), **({"tools": row["tools"]} if row["tools"] else {})) for row in kept
    ]


def _tie(row: Row) -> tuple[Any, ...]:
    return (row["attempt"] is None, row["attempt"] or 0, row["completion_key"], row["source"], row["line"])


def _groups(kept: list[Row]) -> list[list[Row]]:
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in kept:
        groups.setdefault((row["task_key"], row["prompt_key"]), []).append(row)
    return list(groups.values())


def _pairs(kept: list[Row], options: DpoOptions) -> list[tuple[Row, Row]]:
    pairs = []
    for group in [kept] if options.cross_prompt else _groups(kept):
        if options.strategy == "stratified":
            highs = [row for row in group if row["reward"] >= options.high_threshold - SLACK]
            lows = [row for row in group if row["reward"] <= options.low_threshold + SLACK]
            pairs += list(product(highs, lows))
        elif len(group) > 1:
            best = min(group, key=lambda row: (-row["reward"], _tie(row)))
            worst = min(group, key=lambda row: (row["reward"], _tie(row)))
            pairs.append((best, worst))
    apart = [(a, b) for a, b in pairs if a is not b and a["reward"] - b["reward"] >= options.min_gap - SLACK]
    return sorted(apart, key=lambda pair: (pair[0]["row"], pair[1]["row"]))


def without_ids(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages without the ids of calls and results."""
    said = [{key: value for key, value in message.items() if key != "tool_call_id"} for message in messages]
    for message in said:
        if message.get("tool_calls"):
            message["tool_calls"] = [{key: value for key, value in call.items() if key != "id"} for call in message["tool_calls"]]
    return said


def _dpo(kept: list[Row], options: DpoOptions) -> list[str]:
    said = "response_text" if options.format == "binary" else "completion"
    pairs = _pairs(kept, options)
    as_messages = options.prompt_as == "messages" or (options.prompt_as == "auto" and any(a["num_messages"] > 1 for a, _ in pairs))
    lines = []
    for chosen, rejected in pairs:
        sides = [side[said] if said == "response_text" else without_ids(json.loads(side[said])) for side in (chosen, rejected)]
        if sides[0] == sides[1]:
            continue
        if options.format == "binary":
            prompt = chosen["prompt"] if as_messages else _text(chosen["prompt_text"])
            members = {"prompt": prompt, "chosen": _text(chosen[said]), "rejected": _text(rejected[said])}
        else:
            sides = f'[{{"rank":0,"completion":{chosen[said]}}},{{"rank":1,"completion":{rejected[said]}}}]'
            members = {"context": _with_tools(chosen["prompt"], chosen["tools"]), "completions": sides}
        if options.with_rewards:
            members["reward_gap"] = repr(chosen["reward"] - rejected["reward"])
            members["chosen_reward"], members["rejected_reward"] = repr(chosen["reward"]), repr(rejected["reward"])
        lines.append(_line(**members))
    return lines


def _with_tools(prompt: str, tools: str | None) -> str:
    if tools is None:
        return prompt
    text = f"# Tools\n\nYou may call these functions. Each is given by its JSON schema:\n<tools>\n{tools}\n</tools>"
    head = '[{"role":"system","content":"'
    if prompt.startswith(head):
        return head + _text(text)[1:-1] + "\\n\\n" + prompt[len(head) :]
    return head + _text(text)[1:-1] + '"},' + prompt[1:]


def _grpo(kept: list[Row], options: GrpoOptions) -> list[str]:
    if not options.all_rollouts:
        best = [min(group, key=lambda row: (row["reward"] is None, -(row["reward"] or 0.0), _tie(row))) for group in _groups(kept)]
        kept = sorted(best, key=lambda row: row["row"])
    lines = []
    for row in kept:
        if options.format == "gym":
            missing = row["agent_name"] is None and options.agent_name is not None
            lines.append((f'{{"agent_ref":{{"name":{_text(options.agent_name)}}},' + row["gym_row"][1:] if missing else row["gym_row"]) + "\n")
        elif (row["response_text"] or "").strip(" \t\r\n"):
            truth = {} if options.no_ground_truth else {"ground_truth": _text(row["ground_truth_text"])}
            lines.append(_line(input=_text(row["prompt_text"]), output=_text(row["response_text"]), **truth))
    return lines
