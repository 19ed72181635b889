"""The keys by which rollouts belong together."""

from __future__ import annotations

import hashlib
from typing import Any

from rollout_etl.read.canonical import Lookup
from rollout_etl.read.structure import ID_FIELDS, STATIC_FIELDS

from .jsontext import Object, dumps, get
from .recorded import Recorded
from .units import as_text, is_empty


def task_key(x: Object, text: str, namespace: str, lookup: Lookup, found: Recorded, metadata: str | None, prompt_key: str, ground_truth: Any) -> str:
    """The key that the attempts at one task share: the first of five that is there."""
    agent = as_text(get(x, "agent_ref", "name")) or ""
    fields = [get(x, *path.split(".")) for path in lookup.group_by]
    if any(value is not None for value in fields):
        return md5("fields", *(dumps(value) for value in fields)).hex()
    if get(x, "_ng_task_index") is not None:
        return md5("index", namespace, agent, dumps(get(x, "_ng_task_index"))).hex()
    for name in ID_FIELDS:
        if not is_empty(get(x, name)):
            return md5("id", namespace, agent, f"{name}:{dumps(get(x, name))}", prompt_key).hex()
    if not found.prompt and metadata is None:
        return md5("line", text.strip(" \t\r\n")).hex()
    return md5("prompt", prompt_key, printed(ground_truth), statics(x)).hex()


def md5(*parts: str | None) -> bytes:
    """The md5 of the parts that are there."""
    return hashlib.md5("\x1e".join(part for part in parts if part is not None).encode()).digest()


def lower_half(digest: bytes) -> int:
    """The last eight bytes as a number, the least byte first."""
    return int.from_bytes(digest[8:], "little")


def statics(x: Object) -> str | None:
    """The fields that belong to the task, null where one is missing."""
    if all(x.get(name) is None for name in STATIC_FIELDS):
        return None
    return dumps(Object([(name, x.get(name)) for name in STATIC_FIELDS]))


def printed(value: Any) -> str | None:
    return None if value is None else dumps(value)
