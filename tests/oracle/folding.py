"""From units to chat messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from rollout_etl.read.canonical import Style

from .jsontext import Object, dumps
from .units import Unit, said_texts

_ROLE_OF_KIND = {"U": "user", "S": "system", "D": "developer"}


@dataclass
class Turn:
    """A run of reasoning, texts and calls of the assistant, in any order: one message."""

    reasoning: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    calls: list[Unit] = field(default_factory=list)


@dataclass(frozen=True)
class Conversation:
    """Turns of the assistant, and between them what others said and the tool results."""

    entries: list[Turn | Unit]
    id_prefix: str

    @property
    def turns(self) -> list[Turn]:
        return [entry for entry in self.entries if isinstance(entry, Turn)]

    @property
    def calls(self) -> list[Unit]:
        return [call for turn in self.turns for call in turn.calls]

    @property
    def results(self) -> list[Unit]:
        return [entry for entry in self.entries if isinstance(entry, Unit) and entry.kind == "O"]

    def call_ids(self) -> list[str]:
        """Ids of all calls. The n-th call is named after its number where it has none."""
        return [f"{self.id_prefix}{n}" if call.id is None else call.id for n, call in enumerate(self.calls, start=1)]

    def result_ids(self) -> list[str]:
        """Ids of all results. The n-th result answers the n-th call where it has none."""
        calls = self.call_ids()
        ids = []
        for n, result in enumerate(self.results, start=1):
            if result.id is not None:
                ids.append(result.id)
            else:
                ids.append(calls[n - 1] if n <= len(calls) else f"{self.id_prefix}{n}")
        return ids

    def count_unanswered(self, units: list[Unit]) -> int:
        """Calls without a result that something else than reasoning and calls follows. `units` is what was folded."""
        count, answered, ids = 0, self.result_ids(), iter(self.call_ids())
        for position, unit in enumerate(units):
            if unit.kind in ("C", "c") and next(ids) not in answered:
                count += any(later.kind in ("O", "U", "S", "D", "M", "A") for later in units[position + 1 :])
        return count

    def count_orphans(self) -> int:
        """Results without a call."""
        calls = self.call_ids()
        return sum(result not in calls for result in self.result_ids())

    def question(self) -> str | None:
        """The text of the last user message."""
        for entry in reversed(self.entries):
            if isinstance(entry, Unit) and entry.kind == "U":
                return str(entry.value)
            if isinstance(entry, Unit) and entry.kind == "M" and entry.name == "user":
                return "".join(said_texts(entry.value))
        return None

    def answer(self) -> str | None:
        """The text of the last message, where that is the assistant's and calls no tool."""
        last = self.entries[-1] if self.entries else None
        if isinstance(last, Turn) and last.texts and not last.calls:
            return "\n\n".join(last.texts)
        return None

    def messages(self, style: Style) -> str:
        """The JSON list of chat messages."""
        call_ids, result_ids = iter(self.call_ids()), iter(self.result_ids())
        return dumps(list(_messages(self.entries, call_ids.__next__, result_ids.__next__, style)))


def fold(units: list[Unit], id_prefix: str) -> Conversation:
    """Units in turns: a tool result, a user or system message, or the end closes a turn."""
    entries: list[Turn | Unit] = []
    for unit in units:
        if unit.kind not in ("R", "A", "C", "c"):
            entries.append(unit)
            continue
        if not entries or not isinstance(entries[-1], Turn):
            entries.append(Turn())
        turn = entries[-1]
        assert isinstance(turn, Turn)
        if unit.kind == "R":
            turn.reasoning.append(unit.value)
        elif unit.kind == "A":
            turn.texts.append(unit.value)
        else:
            turn.calls.append(unit)
    return Conversation(entries, id_prefix)


def _messages(entries: list[Turn | Unit], next_call_id: Callable[[], str], next_result_id: Callable[[], str], style: Style) -> Iterator[Object]:
    for entry in entries:
        if isinstance(entry, Turn):
            yield _assistant(entry, next_call_id, style)
        elif entry.kind == "O":
            yield Object([("role", "tool"), ("content", entry.value), ("tool_call_id", next_result_id())])
        else:
            role = entry.name if entry.kind == "M" else _ROLE_OF_KIND[entry.kind]
            yield Object([("role", style.developer if role == "developer" else role), ("content", entry.value)])


def _assistant(turn: Turn, next_call_id: Callable[[], str], style: Style) -> Object:
    pairs: list[tuple[str, Any]] = [("role", "assistant")]
    if turn.reasoning:
        pairs.append(("reasoning_content", "\n\n".join(turn.reasoning)))
    pairs.append(("content", "\n\n".join(turn.texts)))
    if turn.calls:
        pairs.append(("tool_calls", [_tool_call(call, next_call_id(), style) for call in turn.calls]))
    return Object(pairs)


def _tool_call(call: Unit, call_id: str, style: Style) -> Object:
    arguments = dumps(call.value) if call.kind == "C" and style.arguments == "string" else call.value
    function = Object([("name", call.name), ("arguments", arguments)])
    if style.tool_calls == "flat":
        return function
    return Object([("id", call_id), ("type", "function"), ("function", function)])
