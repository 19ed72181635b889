"""Training rows as bytes: JSON lines or Parquet, from the same description of their fields."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import polars as pl
import pyarrow as pa

from rollout_etl.frame_sql import selected_arrow


@dataclass(frozen=True)
class Field:
    """A field of a training row."""

    name: str
    kind: Literal["text", "json", "number", "integer", "flag", "chat", "integers", "struct"]
    """How the value is written.

    | kind | value | JSON | Arrow |
    |---|---|---|---|
    | `text` | String | string | string |
    | `json` | String, a JSON list | spliced in as it is | list of `arrow.json` |
    | `chat` | String, a JSON list of messages with role and content alone | spliced in as it is | list of `{role, content}` |
    | `integers` | String, a JSON list of integers | spliced in as it is | list of int64 |
    | `number`, `integer`, `flag` | Float64, Int64, Boolean | number (null where it is infinite), true, false | double, int64, bool |
    | `struct` | none, it has `members` | object | struct, never null |
    """
    value: pl.Expr = field(default_factory=lambda: pl.lit(None))
    optional: bool = False
    """Left out of the JSON rows where it is null."""
    members: tuple[Field, ...] = ()
    """Fields of a `struct`."""
    option: str | None = None
    """The option that names the field, and how, as in `--extra reward`."""

    @property
    def is_whole_row(self) -> bool:
        """A field without a name is the row itself: a JSON object."""
        return self.name == ""

    @property
    def sources(self) -> list[str]:
        """Columns that the value is made of, each once."""
        names = [name for member in self.members for name in member.sources] if self.kind == "struct" else self.value.meta.root_names()
        return list(dict.fromkeys(names))


def _encoded(name: str, value: pl.Expr) -> pl.Expr:
    """`"name":"value"`. The encoder is applied to a struct of one field, whose braces go."""
    return pl.struct(value.alias(name)).struct.json_encode().str.strip_prefix("{").str.strip_suffix("}")


def _member(field: Field, before: str) -> list[pl.Expr]:
    """The pieces of `"name":value`, with what stands before them. Null in all pieces where an optional field is left out."""
    if field.kind == "text":
        pieces = [pl.lit(before), _encoded(field.name, field.value)]
    else:
        key = pl.lit(before + json.dumps(field.name, ensure_ascii=False) + ":")
        # Of huge rewards the difference is infinite, which JSON has no word for.
        value = pl.when(field.value.is_finite()).then(field.value) if field.kind == "number" else field.value
        pieces = [key, *(_object(field.members) if field.kind == "struct" else [value.cast(pl.String).fill_null("null")])]
    return [pl.when(field.value.is_not_null()).then(piece) for piece in pieces] if field.optional else pieces


def _object(fields: Sequence[Field]) -> list[pl.Expr]:
    """The pieces of a JSON object of the fields. They are put together once: each step of its own would copy all bytes again."""
    return [pl.lit("{"), *(piece for position, field in enumerate(fields) for piece in _member(field, "," if position else "")), pl.lit("}")]


def json_lines(frame: pl.DataFrame, fields: Sequence[Field]) -> pl.Series:
    """One JSON object a row, each with its newline. String."""
    if fields[0].is_whole_row:
        return frame.select(line=pl.concat_str(fields[0].value, pl.lit("\n")))["line"]
    return frame.select(line=pl.concat_str(*_object(fields), pl.lit("\n"), ignore_nulls=True))["line"]


def arrow_table(frame: pl.DataFrame, fields: Sequence[Field]) -> pa.Table:
    """The rows as Arrow columns. JSON lists become lists of `arrow.json`: typed structs would fill absent keys with null."""
    return pa.table([_column(frame, field) for field in fields], names=[field.name for field in fields])


def _column(frame: pl.DataFrame, field: Field) -> pa.Array:
    if field.kind == "struct":
        return pa.StructArray.from_arrays([_column(frame, member) for member in field.members], names=[member.name for member in field.members])
    # with_columns gives constants the length of the frame.
    values = frame.with_columns(value=field.value)["value"].to_arrow(compat_level=pl.CompatLevel.oldest())
    return _elements(values, field.kind) if field.kind in _LISTS else values


_LISTS = {"json": '["JSON"]', "chat": '[{"role":"VARCHAR","content":"VARCHAR"}]', "integers": '["BIGINT"]'}


def _elements(lists: pa.Array, kind: str) -> pa.ListArray:
    """JSON lists as Arrow lists of JSON values, of messages, or of integers."""
    cast = "::VARCHAR[]" if kind == "json" else ""
    query = f"SELECT json_transform(j, '{_LISTS[kind]}'){cast} FROM frame"
    split = selected_arrow(pa.table({"j": lists}), query).column(0).combine_chunks()
    if kind != "json":
        return split
    split = split if isinstance(split, pa.ListArray) else split.cast(pa.list_(pa.string()))
    values = pa.ExtensionArray.from_storage(pa.json_(pa.string()), split.values.cast(pa.string()))
    return pa.ListArray.from_arrays(split.offsets, values, mask=split.is_null())
