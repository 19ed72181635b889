"""A check of rows: a named SQL condition over `j`, the JSON text of a row."""

from __future__ import annotations

from typing import NamedTuple

from rollout_etl.plain_text import quoted
from rollout_etl.read.canonical import json_path


class Check(NamedTuple):
    """A named condition that is true for rows with a problem."""

    name: str
    offends: str
    meaning: str
    place: str = "NULL"
    """For a check of all rows together: an aggregate for the line that shows the problem."""


def value(name: str) -> str:
    """SQL for the JSON value of a column."""
    return f"json_extract(j, {quoted(json_path(name))})"
