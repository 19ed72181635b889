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
"""With more fields than this, parsing each in every row does not pay."""
_LISTS = 8
"""At most so many lists of fields are compared with those of a row."""


@dataclass(frozen=True)
class SeenFields:
    """Top-level fields of the first rows of a scan: `values` can be metrics, the `others` cannot. `lists` are the fields of whole rows, in their order."""

    others: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    lists: tuple[tuple[str, ...], ...] = ()


def seen_fields(lines: Iterable[bytes], structure: dict[str, Any]) -> SeenFields:
    """The fields of some lines; none where they are too many, or where two differ in case only, which SQL cannot tell apart."""
    names: dict[str, None] = {}
    lists: dict[tuple[str, ...], None] = {}
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            names |= dict.fromkeys(row)
            lists |= {tuple(row): None} if row else {}
    known = [name for name in names if _NAME.fullmatch(name)]
    values = tuple(name for name in known if not (_NO_METRIC.search(name) or isinstance(structure.get(name), dict)))
    if len(values) > _MANY or len({name.lower() for name in (*structure, *values)}) < len({*structure, *values}):
        return SeenFields()
    return SeenFields(
        tuple(name for name in known if name not in values), values, tuple(fields for fields in lists if set(fields) <= set(known))[:_LISTS]
    )


def metrics_sql(seen: SeenFields) -> str:
    """SQL for the column, over the parsed row `x` and its `text`."""
    if not (seen.others or seen.values):
        return "metrics_of(text)"
    # The closing quote comes before any letter of a longer name, so this is the order that `object_of` gives.
    numbers = ", ".join(f"""'"{name}":' || metric_text(x."{name}"::VARCHAR)""" for name in sorted(seen.values))
    found = f"concat('{{', array_to_string([{numbers}], ','), '}}')" if numbers else "'{}'"
    return f"CASE WHEN {_holds_known_alone(seen)} THEN {found} ELSE metrics_of(text) END"


def numbers_sql(seen: SeenFields) -> str:
    """SQL for the same as numbers: a struct of `known`, a list with the number of each of `seen.values`, sorted by name, and `other`, the column
    as it is for rows with a field that was not seen. One of them is null.
    """
    if not (seen.others or seen.values):
        return "struct_pack(known := NULL::DOUBLE[], other := metrics_of(text))"
    numbers = ", ".join(f'finite(x."{name}"::VARCHAR)' for name in sorted(seen.values))
    known = f"struct_pack(known := [{numbers}]::DOUBLE[], other := NULL::VARCHAR)"
    return f"CASE WHEN {_holds_known_alone(seen)} THEN {known} ELSE struct_pack(known := NULL::DOUBLE[], other := metrics_of(text)) END"


def _holds_known_alone(seen: SeenFields) -> str:
    """SQL for rows without a field that was not seen."""
    fields = _list((*seen.others, *seen.values))
    known = f"list_transform([json_keys(text)], lambda names: list_has_all({fields}, names) AND list_unique(names) = len(names))[1]"
    # Comparing whole lists costs a third of comparing sets, which tell rows with the same fields in another order, or with some of them.
    return f"CASE WHEN json_keys(text) IN ({', '.join(map(_list, seen.lists))}) THEN true ELSE {known} END" if seen.lists else known


def _list(names: Iterable[str]) -> str:
    return "[" + ", ".join(f"'{name}'" for name in names) + "]"
