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
    | `json` | String, a JSON list | inserted unchanged | list of `arrow.json` |
    | `chat` | String, a JSON list of messages with only role and content | inserted unchanged | list of `{role, content}` |
    | `integers` | String, a JSON list of integers | inserted unchanged | list of int64 |
    | `number`, `integer`, `flag` | Float64, Int64, Boolean | number (null if it is infinite), true, false | double, int64, bool |
    | `struct` | none, it has `members` | object | struct, never null |
    """
    value: pl.Expr = field(default_factory=lambda: pl.lit(None))
    optional: bool = False
    """Omitted from JSON rows if it is null."""
    members: tuple[Field, ...] = ()
    """Fields of a `struct`."""
    option: str | None = None
    """The option that names the field, as written: `--extra reward`."""

    @property
    def is_whole_row(self) -> bool:
        """Whether the field is the row itself, a JSON object; such a field has no name."""
        return self.name == ""

    @property
    def sources(self) -> list[str]:
        """Columns that the value is computed from, each once."""
        names = [name for member in self.members for name in member.sources] if self.kind == "struct" else self.value.meta.root_names()
        return list(dict.fromkeys(names))


def _encoded(name: str, value: pl.Expr) -> pl.Expr:
    """`"name":"value"`, made by encoding a struct with one field and removing its braces."""
    return pl.struct(value.alias(name)).struct.json_encode().str.strip_prefix("{").str.strip_suffix("}")


def _member(field: Field, before: str) -> list[pl.Expr]:
    """The pieces of `"name":value`, after `before`. All pieces are null if an optional field is omitted."""
    if field.kind == "text":
        pieces = [pl.lit(before), _encoded(field.name, field.value)]
    else:
        key = pl.lit(before + json.dumps(field.name, ensure_ascii=False) + ":")
        # The difference of huge rewards is infinite, which JSON cannot express.
        value = pl.when(field.value.is_finite()).then(field.value) if field.kind == "number" else field.value
        pieces = [key, *(_object(field.members) if field.kind == "struct" else [value.cast(pl.String).fill_null("null")])]
    return [pl.when(field.value.is_not_null()).then(piece) for piece in pieces] if field.optional else pieces


def _object(fields: Sequence[Field]) -> list[pl.Expr]:
    """The pieces of a JSON object of the fields. They are joined only once, because each step would copy all bytes again."""
    return [pl.lit("{"), *(piece for position, field in enumerate(fields) for piece in _member(field, "," if position else "")), pl.lit("}")]


def json_lines(frame: pl.DataFrame, fields: Sequence[Field]) -> pl.Series:
    """One JSON object per row, each with its newline. String."""
    if fields[0].is_whole_row:
        return frame.select(line=pl.concat_str(fields[0].value, pl.lit("\n")))["line"]
    return frame.select(line=pl.concat_str(*_object(fields), pl.lit("\n"), ignore_nulls=True))["line"]


def arrow_table(frame: pl.DataFrame, fields: Sequence[Field]) -> pa.Table:
    """The rows as Arrow columns. JSON lists become lists of `arrow.json`: typed structs would fill absent keys with null."""
    return pa.table([_column(frame, field) for field in fields], names=[field.name for field in fields])


def _column(frame: pl.DataFrame, field: Field) -> pa.Array:
    if field.kind == "struct":
        return pa.StructArray.from_arrays([_column(frame, member) for member in field.members], names=[member.name for member in field.members])
    # with_columns extends constants to the length of the frame.
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
