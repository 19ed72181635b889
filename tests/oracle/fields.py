"""The parts of a rollout beside what was said: tools, metadata, flags, numbers, and the fields that are left."""

from __future__ import annotations

import re
from math import isfinite
from typing import Any

from .jsontext import Number, Object, dumps, get, print_float, print_string

_ID_NAMES = ("id", "uid", "uuid", "seed")
_ID_ENDINGS = ("_id", "_idx", "_index", "_seed")
_NOT_EXTRA = (
    "responses_create_params",
    "response",
    "output",
    "messages",
    "tools",
    "reward",
    "agent_ref",
    "_ng_task_index",
    "_ng_rollout_index",
    "ng_trajectory",
    "ng_model_call_capture",
    "ng_agent_observations",
)
_VERIFIER_OUTPUT = re.compile(
    r"response|output|messages|extracted|parse_fail|reward|reward_components|accuracy|mask_sample|error|generation|success|terminated|truncated|info|score|result"
    r"|turns_used|finished_naturally|verification_skipped|exception_type|skills_ref"
    r"|_.*|ng_.*|(extracted|predicted|pred|parsed|judge|judgement|verdict|generated|final|is|num|eval|agent)_.*"
    r"|.*_(reward|score|verdict|error|status|time|patch|output|result|evaluations)",
    re.DOTALL,
)
_OF_THE_RUN = ("extra_body", "attempt", "rollout_index")
_ASKED = (
    "agent_ref", "agent_mode", "eval_config", "eval_type", "expected_output", "expected_result", "is_halu", "judge_prompt", "judge_prompt_template",
    "judge_system_prompt", "reference_output", "test_patch",
)


def tools_of(tools: Any) -> str | None:
    """Tools of either spelling as chat tools, each once; None without any."""
    shown: list[str] = []
    for tool in tools if isinstance(tools, list) else []:
        if get(tool, "function") is not None:
            function = get(tool, "function")
        elif get(tool, "name") is not None:
            spelt = {"description": "doc", "parameters": "params"}
            fields = [(key, first_given(get(tool, key), get(tool, spelt.get(key, key)))) for key in ("name", "description", "parameters", "strict")]
            function = Object([(key, value) for key, value in fields if value is not None])
        else:
            continue
        text = dumps(Object([("type", "function"), ("function", function)]))
        if text not in shown:
            shown.append(text)
    return f"[{','.join(shown)}]" if shown else None


def first_given(value: Any, other: Any) -> Any:
    return other if value is None else value


def metadata_of(metadata: Any) -> str | None:
    """Metadata as part of the prompt's key: sorted, without the run's knobs and the attempt's index."""
    if not isinstance(metadata, Object):
        return None
    entries = [(key, "" if value is None else dumps(value)) for key, value in metadata.first_pairs() if key not in _OF_THE_RUN and not key.startswith("_ng_")]
    return _sorted(entries) or None


def metrics_of(x: Object) -> str:
    """Every finite number or boolean at the top level, but for the reward and what names or seeds something."""
    entries = []
    for key, value in x.first_pairs():
        number = number_of(value)
        if _is_metric_name(key) and number is not None and isfinite(number):
            entries.append((key, print_float(number)))
    return "{" + _sorted(entries) + "}"


def extra_of(x: Object) -> str:
    """Every other field at the top level that is not null."""
    entries = [(key, dumps(value)) for key, value in x.first_pairs() if key not in _NOT_EXTRA and value is not None]
    return "{" + _sorted(entries) + "}"


def gym_row_of(x: Object) -> str:
    """The row as a prompt for Gym again: every field that neither the run nor the verifier added. Inputs were not run yet."""
    fields = [(key, value) for key, value in x.first_pairs() if value is not None]
    if x.get("responses_create_params") is None:
        fields.append(("responses_create_params", Object([])))
    if not {"response", "output", "reward"} & {key for key, _ in fields}:
        kept = [(key, value) for key, value in fields if not key.startswith("_ng_")]
    else:
        kept = [(key, value) for key, value in fields if not _is_verifier_output(key)]
    return dumps(Object([(key, _with_input_listed(value) if key == "responses_create_params" else value) for key, value in kept]))


def _with_input_listed(params: Any) -> Any:
    """Gym takes a text or a list as input: one message is put into a list, and null is an empty one."""
    given = get(params, "input")
    if given is not None and not isinstance(given, Object):
        return params
    others = [pair for pair in params.pairs if pair[0] != "input"] if isinstance(params, Object) else []
    return Object([*others, ("input", [] if given is None else [given])])


def _is_verifier_output(name: str) -> bool:
    return name not in _ASKED and _VERIFIER_OUTPUT.fullmatch(name) is not None


def _is_metric_name(name: str) -> bool:
    if name.startswith("_") or name in ("reward", "responses_create_params", "response", "agent_ref", "instance_config", "verifier_metadata", "metadata"):
        return False
    return name.lower() not in _ID_NAMES and not name.lower().endswith(_ID_ENDINGS)


def _sorted(entries: list[tuple[str, str]]) -> str:
    """Entries of an object, sorted by the bytes they are written with."""
    return ",".join(sorted((f"{print_string(key)}:{value}" for key, value in entries), key=str.encode))


def number_of(value: Any) -> float | None:
    """A number or a boolean; a string is no number."""
    if isinstance(value, bool):
        return 1.0 if value else 0.0
    return value.as_float() if isinstance(value, Number) else None


def count_of(value: Any) -> int | None:
    """A whole number of 64 bits, also where it is written as text."""
    if isinstance(value, bool):
        return int(value)
    text = value.text if isinstance(value, Number) else value
    if not isinstance(text, str):
        return None
    try:
        count = int(text)
    except ValueError:
        try:
            count = round(float(text))
        except (ValueError, OverflowError):
            return None
    return count if -(1 << 63) <= count < 1 << 63 else None


def is_true(value: Any) -> bool:
    """Flags are written as booleans, 0/1 or text."""
    return value is not None and dumps(value) in ("true", "1", "1.0", '"true"', '"True"')
