"""What a line is parsed into, and the names of fields that rollouts keep things in.

Fields follow NeMo Gym's rollout rows (`nemo_gym/rollout_collection.py` and the example rollouts of its resource servers).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

_TEXT, _JSON, _INT = "VARCHAR", "JSON", "BIGINT"

_MESSAGE: dict[str, Any] = {"type": _TEXT, "role": _TEXT, "content": _JSON, "tool_calls": _JSON, "reasoning_content": _JSON}
_CHAT_MESSAGE: dict[str, Any] = {**_MESSAGE, "reasoning": _JSON, "function_call": _JSON, "refusal": _JSON}
_PARTS = [{"text": _TEXT}]
_PLAIN_OUTPUT: dict[str, Any] = {
    **_MESSAGE,
    "content": _PARTS,
    "summary": _PARTS,
    "name": _JSON,
    "arguments": _TEXT,
    "call_id": _JSON,
    "output": _JSON,
}
_ITEM: dict[str, Any] = {**_PLAIN_OUTPUT, "summary": _JSON, "tool_call_id": _JSON, **_CHAT_MESSAGE}

GROUND_TRUTH_FIELDS = (
    "expected_answer",
    "ground_truth",
    "answer",
    "expected_output",
    "expected_action",
    "expected_judgement",
    "gold_sql",
    "reference_solution",
    "solution",
    "reference",
    "target",
    "label",
    "verifier_metadata.ground_truth",
    "verifier_metadata.expected_answer",
    "verifier_metadata.answer",
    "verifier_metadata.ideal",
    "verifier_metadata.solution",
    "verifier_metadata.target",
    "metadata.ground_truth",
    "metadata.answer",
    "metadata.expected",
    "responses_create_params.ground_truth",
    "responses_create_params.metadata.ground_truth",
    "responses_create_params.metadata.answer",
    "response.expected_answer",
)
"""Where a ground truth is looked for, first hit first. Empty texts, lists and objects are no hit; 0 and false are."""

ID_FIELDS = ("task_id", "problem_id", "instance_id", "question_id", "uuid", "id", "task_idx")
"""Fields that name a task in rollouts without `_ng_task_index`, first hit first."""

STATIC_FIELDS = ("difficulty", "category", "task_name", "task_type", "level", "subject", "domain")
"""Fields that belong to the task, not to the attempt: they must agree inside a group."""

TASK_FIELDS = (*ID_FIELDS, *STATIC_FIELDS)
"""Fields that tell tasks of the same prompt apart."""

VERIFIER_OUTPUT = (
    "(?:_|ng_).*|(?:extracted|predicted|pred|parsed|judge|judgement|verdict|generated|final|is|num|eval|agent)_.*"
    "|.*_(?:reward|score|verdict|error|status|time|patch|output|result|evaluations)"
    "|response|output|messages|reward|reward_components|accuracy|mask_sample|error|extracted|generation|parse_fail|success|terminated|truncated|info|score|result"
    "|turns_used|finished_naturally|verification_skipped|exception_type|skills_ref"
)
"""Names of what the run and verifiers add to a row."""
VERIFIER_INPUT = (
    "agent_ref|agent_mode|eval_config|eval_type|expected_output|expected_result|is_halu|judge_prompt|judge_prompt_template|judge_system_prompt"
    "|reference_output|test_patch"
)
"""Names that look like those, and that verifiers are given."""
OF_THE_RUN = ("response", "output", "messages", "reward", "mask_sample", "skills_ref", "verification_skipped")
"""What a row has from its run alone, whatever the verifier."""


def _structure() -> dict[str, Any]:
    """What a line is parsed into: JSON leaves where types differ from file to file, so that no value is ever coerced."""
    tree: dict[str, Any] = {
        "responses_create_params": {
            "input": [_CHAT_MESSAGE],
            "instructions": _JSON,
            "tools": _JSON,
            "metadata": _JSON,
            "ground_truth": _JSON,
        },
        "response": {
            "output": [_PLAIN_OUTPUT],
            "id": _TEXT,
            "status": _TEXT,
            "incomplete_details": {"reason": _TEXT},
            "tools": _JSON,
            "choices": _JSON,
            "expected_answer": _JSON,
            "usage": {"input_tokens": _INT, "output_tokens": _INT, "prompt_tokens": _INT, "completion_tokens": _INT},
        },
        "messages": _JSON,
        "output": _JSON,
        "tools": _JSON,
        "reward": _JSON,
        "_ng_task_index": _JSON,
        "_ng_rollout_index": _INT,
        "_ng_failure_class": _JSON,
        "agent_ref": {"name": _TEXT},
        "instance_config": {"mask_sample": _JSON},
        "context_length_exceeded_error": _JSON,
        "error": _JSON,
        "invalid_judge_response": _JSON,
        "judge_error": _JSON,
        "judge_failed": _JSON,
        "mask_sample": _JSON,
        "verification_skipped": _JSON,
    }
    for name in (*ID_FIELDS, *STATIC_FIELDS):
        tree.setdefault(name, _JSON)
    for path in GROUND_TRUTH_FIELDS:
        *parents, leaf = path.split(".")
        if parents != ["responses_create_params", "metadata"]:
            node = tree
            for parent in parents:
                node = node.setdefault(parent, {})
            node.setdefault(leaf, _JSON)
    return tree


STRUCTURE = _structure()
ITEMS = json.dumps([_ITEM])
"""Items of any kind, for those that are not plain."""


def structure_for(sql: str, more: Sequence[str] = ()) -> str:
    """The part of `STRUCTURE` that a query names, as `json_transform` takes it: each leaf that is parsed costs time in every row.

    `more` top-level fields are parsed as JSON.
    """
    return json.dumps({**dict.fromkeys(more, _JSON), **_named(STRUCTURE, set(re.findall(r"\bx\.(\w+(?:\.\w+)*)", sql)))})


def _named(tree: dict[str, Any], paths: set[str]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, part in tree.items():
        below = {path.partition(".")[2] for path in paths if path.partition(".")[0] == name}
        if below:
            kept[name] = (_named(part, below) or _first(part)) if isinstance(part, dict) else part
    return kept


def _first(tree: dict[str, Any]) -> dict[str, Any]:
    """One leaf, where only the presence of an object is asked for."""
    name, part = next((name, part) for name, part in tree.items() if isinstance(part, str))
    return {name: part}
