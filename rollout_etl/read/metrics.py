"""The column `metrics`: the numbers at the top level of a row, under whatever names they stand.

Taking a whole row apart to find them costs as much as all other columns. Rows of a run have the same few fields, so those of the first
rows are parsed with the rest; only rows with a field that was not seen there are taken apart.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_NO_METRIC = re.compile(r"^_|^reward$|(?i:^(id|uid|uuid|seed)$|_(id|idx|index|seed)$)")
_MANY = 40
"""Beyond so many fields, parsing each in every row is no gain."""


@dataclass(frozen=True)
class SeenFields:
    """Top-level fields of the first rows of a scan: `values` can be metrics, the `others` cannot."""

    others: tuple[str, ...] = ()
    values: tuple[str, ...] = ()


def seen_fields(lines: Iterable[bytes], structure: dict[str, Any]) -> SeenFields:
    """The fields of some lines; none where they are too many, or where two differ in case only, which SQL cannot tell apart."""
    names: dict[str, None] = {}
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        names |= dict.fromkeys(row if isinstance(row, dict) else ())
    known = [name for name in names if _NAME.fullmatch(name)]
    values = tuple(name for name in known if not (_NO_METRIC.search(name) or isinstance(structure.get(name), dict)))
    if len(values) > _MANY or len({name.lower() for name in (*structure, *values)}) < len({*structure, *values}):
        return SeenFields()
    return SeenFields(tuple(name for name in known if name not in values), values)


def metrics_sql(seen: SeenFields) -> str:
    """SQL for the column, over the parsed row `x` and its `text`."""
    known = ", ".join(f"'{name}'" for name in (*seen.others, *seen.values))
    if not known:
        return "metrics_of(text)"
    numbers = ", ".join(f"struct_pack(key := '{name}', value := metric_text(x.\"{name}\"::VARCHAR))" for name in seen.values)
    found = f"object_of(list_filter([{numbers}], lambda e: e.value IS NOT NULL))" if numbers else "'{}'"
    return f"""CASE WHEN list_transform([json_keys(text)], lambda names: list_has_all([{known}], names) AND list_unique(names) = len(names))[1]
        THEN {found} ELSE metrics_of(text) END"""
