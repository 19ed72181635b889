"""Results as text and files: `table` and `markdown` for people, `csv`, `jsonl` and `parquet` for programs.

Results for people are cut to `Shown.rows` rows, and cells of a table to the width of the screen, with a note. Results for programs are
complete.
"""

from __future__ import annotations

import csv
import io
import json
import math
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from rollout_etl.errors import UsageError
from rollout_etl.json_values import finite
from rollout_etl.plain_text import plain

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = {".csv": "csv", ".jsonl": "jsonl", ".parquet": "parquet", ".md": "markdown", ".txt": "table"}
CUT = ("table", "markdown")
"""Formats for people, of which only the first rows are shown."""
_CHUNK = 10_000
_WIDEST_CELL, _NARROWEST_CELL = 80, 8


@dataclass(frozen=True)
class Shown:
    """How a result is shown."""

    format: str = "table"
    rows: int | None = 40
    """Rows to show in a table; None: all."""
    width: int | None = None
    """Columns of the screen; None: no limit."""
    screen: bool = False
    """Remove control characters, because the output goes to a terminal."""


def show(result: Any, stream: TextIO, how: Shown) -> str | None:
    """Write a result (a DuckDB connection after a query) to a stream; returns a note on what was left out, if anything."""
    names = [column[0] for column in result.description]
    if how.format in CUT:
        return _to_be_read(result, names, stream, how)
    if how.format == "parquet":
        raise UsageError("--format parquet needs a file: name it with -o FILE")
    names = _told_apart(names)
    for text in _csv(result, names) if how.format == "csv" else _json_lines(result, names):
        stream.write("\n".join(plain(line) for line in text.split("\n")) if how.screen else text)
    return None


def write(result: Any, path: Path, how: Shown) -> tuple[int, str | None]:
    """Write a result to a file, whole or not at all; returns the number of bytes and a note on what was left out."""
    from rollout_etl.publish.files import StagedFile

    note = None
    with StagedFile(path) as file:
        if how.format == "parquet":
            _write_parquet(result, file)
        elif how.format in CUT:
            text = io.StringIO()
            note = show(result, text, how)
            file.write(text.getvalue().encode())
        else:
            names = _told_apart([column[0] for column in result.description])
            for chunk in _csv(result, names) if how.format == "csv" else _json_lines(result, names):
                file.write(chunk.encode(errors="surrogatepass"))
        written = file.finish()
        file.publish()
    return written.bytes, note


def _told_apart(names: Sequence[str]) -> list[str]:
    """Unique names of columns for a file: repeated names are numbered as in DuckDB's COPY."""
    found: dict[str, str] = {}
    for name in names:
        numbered = chain([name], (f"{name}_{number}" for number in count(1)))
        own = next(one for one in numbered if one.lower() not in found)
        found[own.lower()] = own
    return list(found.values())


def _write_parquet(result: Any, file: Any) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    reader = result.to_arrow_reader(_CHUNK)
    names = _told_apart(reader.schema.names)
    schema = pa.schema([field.with_name(name) for field, name in zip(reader.schema, names, strict=True)], reader.schema.metadata)
    for field in schema:
        _refuse_type(field)
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        while (batch := _next_batch(reader)) is not None:
            writer.write_batch(batch.rename_columns(names))


def _next_batch(reader: Any) -> Any:
    from rollout_etl.explore.session import plain_message

    try:
        return next(reader, None)
    except OSError as error:
        # DuckDB's error about a value arrives through Arrow, as an error of a stream.
        raise UsageError(plain_message(error)) from error


def _refuse_type(field: pa.Field) -> None:
    """Raise `UsageError` for a column that Parquet cannot hold."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        pq.write_metadata(pa.schema([field]), io.BytesIO())
    except pa.ArrowNotImplementedError as error:
        raise UsageError(f"Parquet has no type for the column {field.name}: cast it to VARCHAR, or write csv or jsonl") from error


def _rows(result: Any) -> Iterator[list[tuple[Any, ...]]]:
    while rows := result.fetchmany(_CHUNK):
        yield rows


def _csv(result: Any, names: Sequence[str]) -> Iterator[str]:
    def text(rows: Sequence[Sequence[Any]]) -> str:
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows(rows)
        return stream.getvalue()

    yield text([names])
    for rows in _rows(result):
        yield text([[_plain_value(value) for value in row] for row in rows])


def _json_lines(result: Any, names: Sequence[str]) -> Iterator[str]:
    # JSON goes into the line unchanged, not as a text that contains JSON.
    is_json = [str(column[1]) == "JSON" for column in result.description]
    heads = [("" if number == 0 else ",") + json.dumps(name, ensure_ascii=False) + ":" for number, name in enumerate(names)]
    for rows in _rows(result):
        yield "".join(
            "{" + "".join(head + (value if raw and value is not None else json.dumps(finite(value, text_keys=True), ensure_ascii=False, default=str))
                          for head, value, raw in zip(heads, row, is_json, strict=True)) + "}\n"
            for row in rows
        )  # fmt: skip


def _plain_value(value: Any) -> Any:
    """A value as the text of a cell; null is empty."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple | dict):
        return json.dumps(finite(value, text_keys=True), ensure_ascii=False, default=str)
    return value


def _to_be_read(result: Any, names: Sequence[str], stream: TextIO, how: Shown) -> str | None:
    rows = result.fetchmany(how.rows + 1) if how.rows is not None else result.fetchall()
    more = how.rows is not None and len(rows) > how.rows
    rows = rows[: how.rows] if more else rows
    numeric = [any(str(column[1]).startswith(kind) for kind in ("BIGINT", "HUGEINT", "INTEGER", "UBIGINT", "DOUBLE", "FLOAT", "DECIMAL", "UINT", "SMALLINT"))
               for column in result.description]  # fmt: skip
    cells = [[plain(name) for name in names], *([_cell(value) for value in row] for row in rows)]
    notes = [f"only the first {how.rows} rows are shown: --limit 0 shows all"] if more else []
    if how.format == "markdown":
        cells = [[cell.replace("\\", "\\\\").replace("|", "\\|") for cell in row] for row in cells]
        stream.write("| " + " | ".join(cells[0]) + " |\n|" + "|".join("---:" if right else "---" for right in numeric) + "|\n")
        stream.writelines("| " + " | ".join(row) + " |\n" for row in cells[1:])
        return "; ".join(notes) or None
    widths, wanted = _widths(cells, how.width)
    for position, row in enumerate(cells):
        line = "  ".join(_filled(_cut(c, w), w, right) for c, w, right in zip(row, widths, numeric, strict=True))
        stream.write(line.rstrip() + "\n")
        if position == 0:
            stream.write("  ".join("-" * width for width in widths) + "\n")
    notes += ["cells that end with … are cut: csv and jsonl hold the full values"] if any(w < full for w, full in zip(widths, wanted, strict=True)) else []
    return "; ".join(notes) or None


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        # Remove digits that are floating-point noise, without turning small numbers into 0.
        return repr(round(value, 6)) if not math.isfinite(value) or abs(value) >= 1e-3 or value == 0 else f"{value:.4g}"
    return plain(str(_plain_value(value)).replace("\r\n", "↵").replace("\n", "↵").replace("\t", " "))


def _widths(cells: Sequence[Sequence[str]], width: int | None) -> tuple[list[int], list[int]]:
    """Width of each column, and the width that it would need: the widest shrink until the table fits the screen."""
    wanted = [max(_columns(cell) for cell in column) for column in zip(*cells, strict=True)]
    widths = [min(one, _WIDEST_CELL) for one in wanted]
    while width is not None and sum(widths) + 2 * (len(widths) - 1) > width and max(widths) > _NARROWEST_CELL:
        widths[widths.index(max(widths))] -= 1
    return widths, wanted


def _columns(text: str) -> int:
    """Columns that a cell takes on the screen, counted up to the largest width that matters."""
    return len(text) if text.isascii() else sum(map(_width, text[: 4 * _WIDEST_CELL]))


def _width(character: str) -> int:
    """Wide characters take two columns, combining marks none."""
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _cut(text: str, width: int) -> str:
    if _columns(text) <= width:
        return text
    ends = enumerate(accumulate(map(_width, text)))
    return text[: next(at for at, end in ends if end >= width)] + "…"


def _filled(text: str, width: int, right: bool) -> str:
    space = " " * (width - _columns(text))
    return space + text if right else text + space
