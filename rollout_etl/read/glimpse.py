"""Estimates about all inputs from the first lines of the first files."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from functools import cached_property
from itertools import islice

import pyarrow as pa

from rollout_etl.read.inputs import Input
from rollout_etl.read.lines import line_batches
from rollout_etl.read.metrics import SeenFields, seen_fields
from rollout_etl.read.structure import STRUCTURE

_FILES, _LINES, _NAMED_LINES = 8, 10, 100


class Glimpse:
    """The beginnings of some inputs, read when first needed."""

    def __init__(self, inputs: Sequence[Input]) -> None:
        self._inputs = inputs

    @cached_property
    def _starts(self) -> list[tuple[float, list[bytes]]]:
        """For the first files, the bytes per row, estimated from their first batch, and the first lines."""
        batches = (batch for item in self._inputs[:_FILES] for batch in islice(line_batches([item]), 1))
        return [(batch.nbytes / batch.num_rows, _texts(batch, _LINES)) for batch in batches]

    @property
    def bytes_per_rollout(self) -> float:
        """Bytes of a line."""
        return max((size for size, _ in self._starts), default=1000)

    @cached_property
    def seen_fields(self) -> SeenFields:
        """Fields that rows probably have."""
        return seen_fields((line for _, lines in self._starts for line in lines), STRUCTURE)

    def field_names(self) -> list[str]:
        """Names of the top-level fields of the first rollouts."""
        names: dict[str, None] = {}
        for batch in islice(line_batches(self._inputs), 1):
            for text in _texts(batch, _NAMED_LINES):
                with contextlib.suppress(ValueError, RecursionError):
                    row = json.loads(text)
                    names |= dict.fromkeys(row if isinstance(row, dict) else ())
        return list(names)


def _texts(batch: pa.RecordBatch, count: int) -> list[bytes]:
    texts = batch.column(3).slice(0, count)
    # The same bytes under another type, whatever they are; a cast would load the whole of pyarrow.compute.
    found: list[bytes] = pa.Array.from_buffers(pa.binary(), len(texts), texts.buffers(), offset=texts.offset).to_pylist()
    return found
