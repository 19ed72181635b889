"""Folders that `rollout-etl ingest` wrote: the canonical table as Parquet, with the lines it was made of.

    ingest.json          what is in the folder; written last, so that a folder with it is whole
    part-00000.parquet   rollouts whose row numbers follow one another: canonical columns and `record`, the line as it was
    quarantine.parquet   lines that are no rollouts
    task-inputs-0.jsonl  tasks that lay beside the first file

Inside a part rollouts are sorted by task, agent and reward, so that filters skip what they do not want. `lines_of` gives the lines
back in their order: whatever reads JSONL reads such a folder. Heavy imports wait until they are needed, because every SQL question
imports this module.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from rollout_etl.errors import UnreadableError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

INDEX = "ingest.json"
FORMAT = 2
QUARANTINE = "quarantine.parquet"
_BATCH_BYTES = 1 << 21


@dataclass(frozen=True)
class Source:
    """A file that was read: `rows` lines from row number `first_row` on."""

    path: str
    first_row: int
    rows: int
    task_inputs: str | None


@dataclass(frozen=True)
class Part:
    """A Parquet file with the rollouts among `rows` lines from row number `first_row` on."""

    file: str
    first_row: int
    rows: int


@dataclass(frozen=True)
class Stored:
    """What is in a folder."""

    folder: str
    sources: tuple[Source, ...]
    parts: tuple[Part, ...]
    group_by: tuple[str, ...] = ()
    ground_truth_field: str | None = None
    """What told tasks apart, and where ground truth was found, when the folder was made."""

    @property
    def rows(self) -> int:
        return sum(source.rows for source in self.sources)

    @property
    def part_files(self) -> list[str]:
        """Paths of the Parquet files with rollouts."""
        return [os.path.join(self.folder, part.file) for part in self.parts]

    @property
    def quarantine_file(self) -> str:
        return os.path.join(self.folder, QUARANTINE)

    @property
    def files(self) -> list[str]:
        """Paths of all Parquet files."""
        return [*self.part_files, self.quarantine_file]

    def to_json(self) -> dict[str, Any]:
        """What `ingest.json` holds."""
        return {
            "format": FORMAT, "group_by": list(self.group_by), "ground_truth_field": self.ground_truth_field,
            "sources": [source.__dict__ for source in self.sources], "parts": [part.__dict__ for part in self.parts],
        }


def is_stored(path: str) -> bool:
    """Whether `path` is a folder that was ingested."""
    return os.path.isfile(os.path.join(path, INDEX))


def load(folder: str) -> Stored:
    """What is in an ingested folder. Raises `UnreadableError` when its index cannot be used."""
    path = os.path.join(folder, INDEX)
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
        if found["format"] != FORMAT:
            raise UnreadableError(f"{folder} was ingested by another version of rollout-etl: ingest it again")
        stored = Stored(
            os.path.abspath(folder), tuple(Source(**source) for source in found["sources"]), tuple(Part(**part) for part in found["parts"]),
            tuple(found.get("group_by", ())), found.get("ground_truth_field"),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnreadableError(f"cannot read {path}: it is not what rollout-etl ingest writes; ingest again") from error
    missing = [name for name in stored.files if not os.path.isfile(name)]
    if missing:
        raise UnreadableError(f"cannot read {folder}: {os.path.basename(missing[0])} is missing; ingest again")
    return stored


def lines_of(stored: Stored, number: int) -> Iterator[tuple[np.ndarray, pa.StringArray]]:
    """Line numbers and texts of the source of that number, in their order, as they were when they were ingested."""
    import numpy as np

    source = stored.sources[number]
    end = source.first_row + source.rows
    for part in stored.parts:
        if part.first_row < end and part.first_row + part.rows > source.first_row:
            table = _lines(stored, part)
            low, high = np.searchsorted(table.column("row").to_numpy(), (source.first_row, end))
            step = max(1, int((high - low) * _BATCH_BYTES / max(1, table.nbytes * (high - low) / len(table))))
            for start in range(int(low), int(high), step):
                batch = table.slice(start, min(step, high - start)).combine_chunks()
                yield batch.column("line").to_numpy(), _as_text(batch.column("record").chunk(0))


@lru_cache(maxsize=1)
def _lines(stored: Stored, part: Part) -> pa.Table:
    """`row`, `line` and `record` (bytes) of all lines of a part, in their order. Kept, as many small files may share a part."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    wanted = pa.schema([("row", pa.int64()), ("line", pa.int64()), ("record", pa.binary())])
    kept = pq.read_table(os.path.join(stored.folder, part.file), columns=wanted.names).cast(wanted)
    bad = pq.read_table(stored.quarantine_file, columns=wanted.names).cast(wanted)
    rows = bad.column("row").to_numpy()
    bad = bad.filter(pa.array((rows >= part.first_row) & (rows < part.first_row + part.rows)))
    return pa.concat_tables([kept, bad]).sort_by("row")


def _as_text(records: pa.BinaryArray) -> pa.StringArray:
    """Bytes as text, unchecked: lines in quarantine may not be UTF-8."""
    import pyarrow as pa

    return records.view(pa.string())
