"""The JSON Schema of pipeline files, made from the commands, so that editors complete what the command line knows."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from rollout_etl.cli.spelt import commands, options_of
from rollout_etl.refresh.gates import GATES
from rollout_etl.refresh.pipeline import NOTIFY, TOP

_TYPES = {int: "integer", float: "number", bool: "boolean"}
_TEXTS = {"type": "array", "items": {"type": "string"}, "minItems": 1}


def schema() -> dict[str, Any]:
    """The schema, draft 2020-12."""
    by_recipe = {name: options_of(command) for name, command in commands().items()}
    shared = {name: _described(parameter) for options in by_recipe.values() for name, parameter in options.items()}
    gates = _closed({name: {"description": meaning} for name, meaning in GATES.items()})
    cases = []
    for recipe, options in by_recipe.items():
        known = {name: _described(parameter) for name, parameter in options.items()}
        own = _closed({"file": {"type": "string"}, "recipe": {"const": recipe}, "gates": gates, **known})
        cases.append({"if": {"properties": {"recipe": {"const": recipe}}}, "then": own})
    fields: dict[str, Any] = {
        "inputs": _TEXTS,
        "publish": {"type": "string"},
        "keep-versions": {"type": "integer", "minimum": 2, "default": 5},
        "pinned": {"type": "array", "items": {"type": "integer", "minimum": 1}},
        "options": _closed(shared),
        "output": {
            "type": "array", "minItems": 1,
            "items": {"type": "object", "required": ["file", "recipe"], "properties": {"recipe": {"enum": list(by_recipe)}}, "allOf": cases},
        },
        "gates": gates,
        "notify": _closed({name: {"type": "string", "description": meaning} for name, meaning in NOTIFY.items()}),
    }
    described = {name: {"description": meaning, **fields[name]} for name, meaning in TOP.items()}
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "rollout-etl pipeline", "required": ["inputs", "publish", "output"]}
    return {**head, **_closed(described)}


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _described(parameter: Any) -> dict[str, Any]:
    kind = parameter.type_descriptor.annotation
    found: dict[str, Any] = {"type": _TYPES.get(kind, "string")}
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        found["enum"] = [str(choice) for choice in kind]
    bounds = {"minimum": parameter.min, "maximum": parameter.max}
    found |= {name: bound for name, bound in bounds.items() if bound is not None}
    if parameter.multiple:
        found = {"type": "array", "items": found}
    return {"description": parameter.help or "", **found}
