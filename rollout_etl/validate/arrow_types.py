"""Types of Parquet columns: what rows as JSON text do not show, because dates, bytes and maps look like texts and objects there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from rollout_etl.validate.layouts import Layout

_OWN_TYPES = (pa.types.is_temporal, pa.types.is_decimal, pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary)


def type_names(schema: pa.Schema) -> dict[str, str]:
    """Names of the types by column. What readers load in the same way has the same name."""
    return {field.name: str(_plain(field.type)).replace("large_", "") for field in schema}


def repeated(schema: pa.Schema) -> list[str]:
    """Names of columns that occur more than once."""
    return sorted({name for name in schema.names if schema.names.count(name) > 1})


def wrong_types(schema: pa.Schema, layout: Layout) -> Iterator[str]:
    """What is wrong with the types for the loader of a layout."""
    texts = [column.name for column in layout.columns if column.kind not in ("object", "any")]
    for field in schema:
        parts = _parts(field.type)
        # The loaders that read JSON lines as well read Parquet with `datasets`, the others with pandas.
        if ".jsonl" in layout.containers and any(pa.types.is_map(part) for part in parts):
            yield f"{field.name} holds a map, which the loader does not read"
        elif field.name in texts:
            yield from (f"{field.name} holds {part} instead of text or a plain number" for part in parts if any(is_one(part) for is_one in _OWN_TYPES))


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return kind.value_type
    return pa.string() if pa.types.is_string_view(kind) else kind


def _parts(kind: pa.DataType) -> Sequence[pa.DataType]:
    """The types that a nested type consists of; a map counts as one."""
    kind = _plain(kind)
    if pa.types.is_struct(kind):
        return [part for field in kind for part in _parts(field.type)]
    if pa.types.is_nested(kind) and hasattr(kind, "value_type") and not pa.types.is_map(kind):
        return _parts(kind.value_type)
    return [kind]
