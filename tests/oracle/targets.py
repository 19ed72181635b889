"""The rows of each trainer in plain Python: canonical rows in, the values of a row by column out.

A value is what the column holds: text, number, truth value, a list of JSON texts, a list of messages of role and content, or a
dict. `line_of` is the JSON line of the same values.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rollout_etl.recipes.options import DpoOptions, GrpoOptions, KtoOptions, PpoOptions
from rollout_etl.targets.target import Job

from .jsontext import dumps, parse
from .recipes import RULES, SLACK, SOUND, TRAINABLE, Row, _groups, _pairs, _text, _tie, without_ids

TEXT_TAIL = (
    "\n</tools>\n\nFor each function call, return a JSON object with its name and arguments within <tool_call></tool_call> XML tags:\n"
    '<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
)


@dataclass(frozen=True)
class Json:
    """A JSON list, by the text of its elements."""

    elements: list[str]


@dataclass(frozen=True)
class Chat:
    """Messages of role and content."""

    messages: list[dict[str, str]]


def elements(text: str) -> Json:
    return Json([dumps(value) for value in parse(text)])


def line_of(row: dict[str, Any]) -> str:
    def spelt(value: Any) -> str:
        if isinstance(value, Json):
            return "[" + ",".join(value.elements) + "]"
        if isinstance(value, Chat):
            return dumps(parse(json.dumps(value.messages)))
        return _text(value)

    return "{" + ",".join(f'"{name}":{spelt(value)}' for name, value in row.items()) + "}\n"


MORE_RULES = {
    **RULES,
    "tool_completion": lambda r: bool(set(r["completion_kinds"]) & set("CcO")),
    "tool_schemas": lambda r: r["tools"] is not None,
    "earlier_reasoning": lambda r: r["has_earlier_reasoning"],
    "reasoning": lambda r: "R" in r["prompt_kinds"] + r["completion_kinds"],
    "reasoning_prompt": lambda r: "R" in r["prompt_kinds"],
    "invalid_prompt_call": lambda r: "c" in r["prompt_kinds"],
    "inexact_prompt_number": lambda r: r["has_inexact_number"] and "C" in r["prompt_kinds"],
    "answered_prompt": lambda r: r["prompt_kinds"].rstrip("ErX")[-1:] in set("RACc") and r["prompt_kinds"].rstrip("ErX") != "",
    "late_answer": lambda r: r["completion_kinds"].lstrip("ErX")[:1] in set("OUSDM") and r["completion_kinds"].lstrip("ErX") != "",
}


def cannot_hold(job: Job, target: str) -> set[str]:
    """Rules that the rows of a target bring."""
    prompts = job.per == "prompt"
    if target == "verl" and job.recipe == "sft":
        return {"tool_prompt", "tool_completion", "tool_schemas", "reasoning"} if job.form == "messages" else {"earlier_reasoning"}
    if target == "verl" and job.recipe != "rm":
        return {"tool_prompt", "reasoning_prompt", "answered_prompt"}
    if job.form == "text" or (target, job.recipe) == ("verl", "rm"):
        return {"tool_prompt"} if prompts else {"flattened_completion", "tool_prompt"}
    if target == "custom":
        return set()
    names = {"answered_prompt"} | (set() if prompts else {"late_answer"})
    if target == "openrlhf":
        names |= {"earlier_reasoning"}
    if target == "trl":
        names |= ({"invalid_prompt_call"} if prompts else set()) | ({"inexact_prompt_number" if prompts else "inexact_number"} if job.container == ".jsonl" else set())
    return names


def dropped_by(row: Row, job: Job, target: str) -> str | None:
    """The first rule that drops a rollout."""
    options = job.options
    if job.per == "prompt":
        assert isinstance(options, GrpoOptions)
        wanted = {"failure_row", "media", "empty_prompt"} | (set() if options.no_ground_truth else {"missing_ground_truth"})
    else:
        wanted = {*SOUND, *TRAINABLE}
    wanted |= cannot_hold(job, target)
    # The order of the rules is that of the table in docs/recipes.md.
    for name in [name for name in ORDER if name in wanted]:
        if MORE_RULES[name](row):
            return name
    if job.recipe == "sft" and row["reward"] < options.reward_threshold - SLACK:  # type: ignore[union-attr]
        return "below_threshold"
    low = options.low_threshold if isinstance(options, KtoOptions) else None
    if low is not None and low + SLACK < row["reward"] < options.reward_threshold - SLACK:  # type: ignore[union-attr]
        return "between_thresholds"
    return None


ORDER = [
    "failure_row", "masked", "verification_skipped", "nonfinite_reward", "missing_reward", "truncated", "media", "empty_prompt", "unfinished",
    "empty_answer", "invalid_tool_call", "unanswered_tool_call", "orphan_tool_result", "flattened_prompt", "flattened_completion", "tool_prompt",
    "tool_completion", "tool_schemas", "reasoning", "reasoning_prompt", "invalid_prompt_call", "answered_prompt", "late_answer", "earlier_reasoning", "inexact_number",
    "inexact_prompt_number", "missing_ground_truth",
]


def rows_of(rows: list[Row], job: Job, target: str) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Rows in their order, and the rollouts dropped by rule. `rows` are in input order."""
    verdicts = [dropped_by(row, job, target) for row in rows]
    kept = [{**row, "row": number} for number, (row, rule) in enumerate(zip(rows, verdicts, strict=True)) if rule is None]
    make = {"trl": _trl, "verl": _verl, "openrlhf": _openrlhf}[target]
    return list(make(_examples(kept, job), job)), Counter(rule for rule in verdicts if rule)


def _examples(kept: list[Row], job: Job) -> list[tuple[Row, Row]]:
    """Both rollouts of a row; they are one, but for pairs."""
    if isinstance(job.options, DpoOptions):
        return _pairs(kept, job.options)
    if job.per == "prompt":
        best = [min(group, key=lambda row: (row["reward"] is None, -(row["reward"] or 0.0), _tie(row))) for group in _groups(kept)]
        kept = sorted(best, key=lambda row: row["row"])
    return [(row, row) for row in kept]


def _both(first: str, second: str) -> str:
    return dumps(parse(first) + parse(second))


def _trl(examples: list[tuple[Row, Row]], job: Job) -> Iterator[dict[str, Any]]:
    text, lines = job.form == "text", job.container == ".jsonl"
    options = job.options
    for row, other in examples:
        made: dict[str, Any] = {"prompt": row["prompt_text"] if text else elements(row["prompt"])}
        if job.per == "pair":
            sides = [(r["response_text"] if text else without_ids(json.loads(r["completion"]))) for r in (row, other)]
            if sides[0] == sides[1]:
                continue
            made |= {name: r["response_text"] if text else elements(r["completion"]) for name, r in (("chosen", row), ("rejected", other))}
        elif job.per == "rollout":
            made["completion"] = row["response_text"] if text else elements(row["completion"])
        if isinstance(options, KtoOptions):
            made["label"] = row["reward"] >= options.reward_threshold - SLACK
        if job.recipe == "rm":
            made["margin"] = row["reward"] - other["reward"]
        if isinstance(options, GrpoOptions) and not options.no_ground_truth:
            made["solution"] = row["ground_truth_text"]
        if not text:
            made["tools"] = "null" if lines and row["tools"] is None else row["tools"]
        yield made


def _source(row: Row) -> str:
    return next((row[name] for name in ("task_name", "agent_name") if row[name] is not None), "rollouts")


def _verl(examples: list[tuple[Row, Row]], job: Job) -> Iterator[dict[str, Any]]:
    for row, other in examples:
        if job.recipe == "rm":
            if row["response_text"] != other["response_text"]:
                yield {"prompt": row["prompt_text"], "chosen": row["response_text"], "rejected": other["response_text"], "margin": row["reward"] - other["reward"]}
        elif job.recipe == "sft":
            said = _both(row["prompt"], row["completion"])
            yield {"messages": Chat(json.loads(said))} if job.form == "messages" else {"messages": said, "tools": row["tools"]}
        else:
            about = {"split": "train", "task_key": row["task_key"], "tools": row["tools"] or "[]"}
            if isinstance(job.options, PpoOptions) and job.options.with_responses:
                about |= {"response": row["completion"], "reward": row["reward"]}
            known = "" if job.options.no_ground_truth else row["ground_truth_text"] or ""  # type: ignore[union-attr]
            truth = {"style": "rule", "ground_truth": known}
            prompt = Chat(json.loads(row["prompt"]))
            yield {"data_source": f"nemo_gym/{_source(row)}", "prompt": prompt, "ability": _source(row), "reward_model": truth, "extra_info": about}


def plain(messages: str) -> list[dict[str, str]]:
    """Messages of role and content, with reasoning and calls in the text."""
    made = []
    for message in parse(messages):
        content = message.get("content")
        calls = [call.get("function") for call in message.get("tool_calls") or []]
        written = [f'<tool_call>\n{{"name": {dumps(call.get("name"))}, "arguments": {dumps(call.get("arguments"))}}}\n</tool_call>' for call in calls]
        thought = message.get("reasoning_content")
        think = "" if thought is None else f"<think>\n{thought}\n</think>\n\n"
        made.append({"role": message.get("role"), "content": think + "\n".join([*([content] if content else []), *written])})
    return made


def is_cut(message: dict[str, str]) -> bool:
    """Whether Qwen3's template, which parses reasoning out of an assistant's text, would leave something of it out."""
    first, *middle = message["content"].split("</think>")
    before, opening, _ = first.rpartition("<think>")
    return message["role"] == "assistant" and bool(middle) and (len(middle) > 1 or bool(opening and before.strip(" \n\r\t")))


def _with_tools(prompt: list[dict[str, str]], tools: str | None) -> list[dict[str, str]]:
    if tools is None:
        return prompt
    text = f"# Tools\n\nYou may call these functions. Each is given by its JSON schema:\n<tools>\n{tools}{TEXT_TAIL}"
    if prompt and prompt[0]["role"] == "system":
        return [{"role": "system", "content": f"{text}\n\n{prompt[0]['content']}"}, *prompt[1:]]
    return [{"role": "system", "content": text}, *prompt]


def _openrlhf(examples: list[tuple[Row, Row]], job: Job) -> Iterator[dict[str, Any]]:
    text = job.form == "text"
    for row, other in examples:
        prompt = row["prompt_text"] if text else Chat(_with_tools(plain(row["prompt"]), row["tools"]))
        answer, worse = ((r["response_text"] if text else Chat(plain(r["completion"]))) for r in (row, other))
        online = isinstance(job.options, GrpoOptions)
        said = [row["prompt"], *([] if job.per == "prompt" else [row["completion"]]), *([other["completion"]] if job.per == "pair" else [])]
        if not text and any(is_cut(message) for messages in said for message in plain(messages)):
            continue
        if job.per == "pair":
            if answer == worse:
                continue
            names = ("prompt", "chosen", "rejected") if text else ("prompt_messages", "chosen_messages", "rejected_messages")
            made: dict[str, Any] = dict(zip(names, (prompt, answer, worse), strict=True))
        elif job.recipe == "sft":
            made = {"input": prompt, "output": answer} if text else {"messages": Chat([*prompt.messages, *answer.messages])}
        else:
            if not text and any("<image>" in message["content"] for message in plain(row["prompt"])):
                continue
            made = {"input": prompt, **({"output": answer} if job.per == "rollout" else {})}
        if job.recipe == "rm":
            made["margin"] = row["reward"] - other["reward"]
        if online:
            truth = {} if job.options.no_ground_truth else {"label": row["ground_truth_text"] or ""}  # type: ignore[union-attr]
            made |= {**truth, "datasource": f"nemo_gym/{_source(row)}"}
            made |= {"reward": row["reward"]} if job.per == "rollout" else {}
        yield made
