"""Training rows as bytes: JSON lines or Parquet, from the same description of their fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl
import pyarrow as pa


@dataclass(frozen=True)
class Field:
    """A field of a training row."""

    name: str
    kind: Literal["text", "json", "number"]
    """`text` becomes a JSON string, `json` is the text of a JSON list that is spliced in as it is, `number` is a Float64."""
    value: pl.Expr
    optional: bool = False
    """Left out of the rows where it is null."""

    @property
    def is_whole_row(self) -> bool:
        """A field without a name is the row itself: a JSON object."""
        return self.name == ""


def _member(field: Field) -> pl.Expr:
    """`"name":value` for one field."""
    key = f'"{field.name}":'
    if field.kind == "text":
        # The encoder is applied to a struct of one field, whose braces go.
        encoded = pl.struct(field.value.alias(field.name)).struct.json_encode()
        return encoded.str.strip_prefix("{").str.strip_suffix("}")
    return pl.concat_str(pl.lit(key), field.value.cast(pl.String))


def json_lines(frame: pl.DataFrame, fields: Sequence[Field]) -> pl.Series:
    """One JSON object a row, each with its newline. String."""
    if fields[0].is_whole_row:
        return frame.select(line=pl.concat_str(fields[0].value, pl.lit("\n")))["line"]
    parts: list[pl.Expr] = [pl.lit("{")]
    for position, field in enumerate(fields):
        member = _member(field) if position == 0 else pl.concat_str(pl.lit(","), _member(field))
        parts.append(pl.when(field.value.is_not_null()).then(member).otherwise(pl.lit("")) if field.optional else member)
    return frame.select(line=pl.concat_str(*parts, pl.lit("}\n")))["line"]


def arrow_table(frame: pl.DataFrame, fields: Sequence[Field]) -> pa.Table:
    """Columns of Arrow strings, doubles, and lists of `arrow.json` for JSON lists: typed structs would fill absent keys with null."""
    columns = []
    for field in fields:
        values = frame.select(value=field.value)["value"].to_arrow(compat_level=pl.CompatLevel.oldest())
        columns.append(_json_elements(values) if field.kind == "json" else values)
    return pa.table(columns, names=[field.name for field in fields])


def _json_elements(lists: pa.Array) -> pa.ListArray:
    """JSON lists as Arrow lists of JSON values."""
    import duckdb

    elements = duckdb.connect().from_arrow(pa.table({"j": lists})).query("lists", """SELECT json_transform(j, '["JSON"]')::VARCHAR[] FROM lists""")
    split = elements.to_arrow_table().column(0).combine_chunks()
    split = split if isinstance(split, pa.ListArray) else split.cast(pa.list_(pa.string()))
    values = pa.ExtensionArray.from_storage(pa.json_(pa.string()), split.values.cast(pa.string()))
    return pa.ListArray.from_arrays(split.offsets, values, mask=split.is_null())


_DATE = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}(:?\d{2}(:?\d{2}(\.\d{1,9})?)?)?(Z|[+-]\d{2}(:?\d{2})?)?)?$"


def date_like(frame: pl.DataFrame, fields: Sequence[Field]) -> set[str]:
    """Names of the text fields whose values all read as dates: Arrow's JSON reader would make timestamps of them."""
    texts = [field for field in fields if field.kind == "text"]
    found = frame.select(field.value.str.contains(_DATE).all().alias(field.name) for field in texts)
    return {field.name for field in texts if found[field.name].item()}
