"""How a JSON reader that guesses types would read a JSONL file.

The reader of `datasets` (pyarrow's) decides the type of every field by the first 10 MB of a file, and turns texts that all look like
dates into timestamps. Later values of another type make it fail (`datasets/packaged_modules/json/json.py`, 5.2.0).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from rollout_etl.publish.rows import Field

FIRST_BLOCK = 10 << 20
"""Bytes of a file that decide its types; the line that they end in belongs to them."""
DATE = r"\d{4}-\d{2}-\d{2}([T ]\d{2}(:?\d{2}(:?\d{2}(\.\d{1,9})?)?)?(Z|[+-]\d{2}(:?\d{2})?)?)?"
_TEXT_KEYS = ("content", "reasoning_content")
_OTHER_KEYS = ('"reasoning_content":"', '"tool_calls":[', '"tool_call_id":"')
"""Keys of messages besides role and content. Inside a text their quotes would be escaped."""


def date_like(frame: pl.DataFrame, fields: Sequence[Field]) -> set[str]:
    """Names of the text fields whose values all look like dates."""
    texts = [field for field in fields if field.kind == "text"]
    found = frame.select(field.value.str.contains(f"^{DATE}$").all().alias(field.name) for field in texts)
    return {field.name for field in texts if found[field.name].item()}


def _messages_date_like(frame: pl.DataFrame, fields: Sequence[Field]) -> set[str]:
    """Names of the fields of messages in which all texts of a key look like dates."""
    names = set()
    for field in fields:
        for key in _TEXT_KEYS if field.kind in ("json", "chat") else ():
            all_texts, dates = (field.value.str.count_matches(pattern).sum() for pattern in (f'"{key}":"', f'"{key}":"{DATE}"'))
            total, dated = frame.select(total=all_texts, dated=dates).row(0)
            if total and total == dated:
                names.add(field.name)
    return names


class TypeGuesses:
    """Inspects rows while they are written."""

    def __init__(self, fields: Sequence[Field], *, messages: bool = False, first: TypeGuesses | None = None) -> None:
        """`first` holds the guesses of the first of several shards, whose first block decides the types of all."""
        self._fields = fields
        self._messages = messages
        self._undecided = {field.name for field in fields if field.kind == "text" or (messages and field.kind in ("json", "chat"))}
        """Fields that held only dates and nulls so far."""
        self.dates: set[str] = set()
        """Those of them that held a date."""
        self.late: set[str] = set()
        """With `messages`: fields whose type changed after the first block, or may have."""
        self._bytes = 0 if first is None else FIRST_BLOCK
        self._early: dict[str, set[str]] = {field.name: set() for field in fields} if first is None else first._early

    def to_json(self) -> dict[str, Any]:
        """The state, for a later run that reuses the file."""
        return {"dates": sorted(self.dates), "late": sorted(self.late), "early": {name: sorted(traits) for name, traits in self._early.items()}}

    @classmethod
    def remembered(cls, seen: Mapping[str, Any]) -> TypeGuesses:
        """The state that `to_json` saved."""
        guesses = cls(())
        guesses.dates, guesses.late = set(seen["dates"]), set(seen["late"])
        guesses._early = {name: set(traits) for name, traits in seen["early"].items()}
        return guesses

    def look(self, frame: pl.DataFrame, sizes: pl.Series) -> None:
        """Take the rows that `frame` makes into account; `sizes` are the bytes of their lines."""
        if self._undecided:
            found = date_like(frame, self._fields)
            self._undecided &= found | _messages_date_like(frame, self._fields) if self._messages else found
            self.dates = {field.name for field in self._fields if field.name in self._undecided and self._holds_something(frame, field)}
        if self._messages:
            ends = sizes.cum_sum() + self._bytes
            self._bytes = int(ends[-1])
            early = int((ends <= FIRST_BLOCK).sum())
            for field in self._fields:
                self._early[field.name] |= _traits(frame[:early], field)
                seen = _traits(frame[early:], field)
                if seen - self._early[field.name] or '"tool_calls":[' in seen:
                    self.late.add(field.name)

    def _holds_something(self, frame: pl.DataFrame, field: Field) -> bool:
        return field.name in self.dates or bool(frame.select(field.value.is_not_null().any()).item())


def _traits(frame: pl.DataFrame, field: Field) -> set[str]:
    """Features that decide which type a reader gives a field."""
    if frame.is_empty() or field.kind == "struct":
        return set()
    traits = {"value": field.value.is_not_null().any()}
    if field.kind == "json":
        traits |= {key: field.value.str.contains(key, literal=True).any() for key in _OTHER_KEYS}
    found = frame.select(**traits)
    return {name for name in traits if found[name].item()}
