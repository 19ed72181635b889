"""What there is to know of the versions and of the last refresh."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

from rollout_etl.errors import WriteError
from rollout_etl.refresh.pipeline import Pipeline
from rollout_etl.refresh.versions import Versions, write_text

LAST = "last.json"


def status(pipeline: Pipeline) -> dict[str, Any]:
    """Versions from newest to oldest, the current one, and the report of the last refresh."""
    versions = Versions(pipeline.publish)
    records = [versions.record(number) for number in reversed(versions.numbers())]
    return {
        "current": versions.current,
        "versions": [
            {"version": record["version"], "created": record["created"], "rows": rows_of(record), "inputs": len(record["inputs"]),
             "forced": [gate["gate"] for gate in record["gates"] if gate["forced"]]}
            for record in records
        ],
        "last": last(versions),
    }


def last(versions: Versions) -> dict[str, Any] | None:
    """The report of the last refresh that did something."""
    try:
        found: dict[str, Any] = json.loads((versions.state / LAST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found


def failed_last(pipeline: Pipeline) -> bool:
    """Whether the last refresh that did something failed."""
    return bool((last(Versions(pipeline.publish)) or {}).get("error"))


def remember(pipeline: Pipeline, said: Mapping[str, Any]) -> None:
    """Save the report of a refresh, for `status`."""
    state = Versions(pipeline.publish).state
    # The report is also shown elsewhere.
    with contextlib.suppress(WriteError):
        if state.is_dir():
            write_text(state / LAST, json.dumps(said, ensure_ascii=False, indent=2) + "\n")


def rows_of(record: Mapping[str, Any] | None) -> dict[str, int]:
    """Rows of each output of a version."""
    return {} if record is None else {name: entry["rows"] for name, entry in record["outputs"].items()}
