"""A sample of groups to read: the prompt, attempts side by side, and the pair that `rollout-etl dpo` would take.

Groups are drawn evenly from those that are solved by some, all and none of their attempts, and from those without a reward; groups of
several attempts come first, otherwise the hash of the prompt decides: the same rollouts give the same sample.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, NamedTuple

import polars as pl
from markupsafe import escape

from rollout_etl.curate.rules import TOLERANCE, columns_of, verdict
from rollout_etl.read.scan import Rollouts
from rollout_etl.read.schema import SCHEMA
from rollout_etl.recipes import dpo, pairing
from rollout_etl.recipes.options import DpoOptions
from rollout_etl.stats.conversation import Part, one_line, parts
from rollout_etl.stats.narrow import Narrow

GROUPS = 60
ATTEMPTS = 8
"""Attempts of a group to show; the pair is always among them."""
_CHARS, _FEWEST_CHARS = 4000, 60
"""Characters of a text to show; fewer if a single group would fill the page."""
_PARTS = 2000
"""Parts of a conversation to show."""
_NAME = 200
"""Characters of the name of a role or tool to show."""
_BYTES = 5_000_000
"""Bytes of all texts together, escaped as in the page."""
_MARKUP, _HEAD = 120, 80
"""Bytes that the page adds to a part, and characters that it shows of one that is folded."""
_FETCHED = ("row", "source", "line", "attempt", "reward", "task_name", "agent_name", "prompt_key", "prompt_text", "response_text", "prompt", "completion")


class Message(NamedTuple):
    """A message of one role."""

    role: str
    parts: list[Part]


@dataclass(frozen=True)
class Attempt:
    """A rollout: its position, its reward, whether it is `chosen` or `rejected`, and the rule by which `dpo` drops it."""

    place: str
    number: int | None
    reward: float | None
    mark: str
    rule: str | None
    messages: list[Message]


@dataclass(frozen=True)
class Group:
    """Attempts at one task. `key` is the beginning of the prompt's; `outcome` is some, all, none or unscored."""

    key: str
    outcome: str
    name: str
    question: str
    rewards: list[float | None]
    prompt: list[Message]
    attempts: list[Attempt]


@dataclass
class Sample:
    """The groups to show, and `of` how many they are drawn."""

    of: int
    groups: list[Group] = field(default_factory=list)


def sample(data: Narrow, rollouts: Rollouts, success: float) -> Sample:
    """Draw groups and fetch their messages: two passes over the lines, only a few of which are parsed."""
    drawn = _drawn(data.rollouts, success)
    result = Sample(data.rollouts["group"].n_unique())
    if drawn.is_empty():
        return result
    members = drawn.join(data.rollouts.select("row", "group", "reward", "attempt"), on="group")
    options = DpoOptions()
    rules = dpo.rules(options)
    judged = _fetched(rollouts, [*pairing.NARROW, *columns_of(rules)], members["row"]).with_columns(verdict(rules))
    pairs, _ = pairing.pair_rollouts(judged.filter(pl.col("rule").is_null()).select(pairing.NARROW), options)
    pairs = pairs.filter(verdict(dpo.pair_rules(options)).is_null())
    is_chosen, is_rejected = (pl.col("row").is_in(pairs[f"{side}_row"].implode()) for side in ("chosen", "rejected"))
    marked = members.join(judged.select("row", "rule"), on="row").with_columns(mark=pl.when(is_chosen).then(0).when(is_rejected).then(1).otherwise(2))
    ordered = marked.sort("place", "mark", "attempt", "row", nulls_last=True)
    shown = ordered.filter(pl.int_range(pl.len()).over("group") < ATTEMPTS)
    said = {row["row"]: row for row in _fetched(rollouts, _FETCHED, shown["row"]).iter_rows(named=True)}
    size = 0
    for (_,), part in ordered.group_by(["place"], maintain_order=True):
        group = _group(part, said) if result.groups else _first_group(part, said)
        size += _size(group)
        if size > _BYTES and result.groups:
            break
        result.groups.append(group)
    return result


def _drawn(rollouts: pl.DataFrame, success: float) -> pl.DataFrame:
    """`group`, `outcome` and `place` (the order of the page) of the groups that are shown."""
    sound = pl.col("reward").filter(pl.col("is_sound"))
    solved = (sound >= success - TOLERANCE).sum()
    # Groups solved by some attempts come first, because they are the ones to learn from.
    outcome = pl.when(pl.col("n") == 0).then(3).when(pl.col("c") == 0).then(2).when(pl.col("c") == pl.col("n")).then(1).otherwise(0)
    found = rollouts.group_by("group").agg(n=sound.len(), c=solved, size=pl.len(), prompt=pl.col("prompt").first(), row=pl.col("row").first())
    ranked = found.with_columns(outcome=outcome).sort(pl.col("size") == 1, "prompt", "row").with_columns(turn=pl.int_range(pl.len()).over("outcome"))
    return ranked.sort("turn", "outcome").head(GROUPS).sort("outcome", "turn").with_row_index("place").select("place", "group", "outcome")


def _fetched(rollouts: Rollouts, columns: Any, rows: pl.Series) -> pl.DataFrame:
    names = list(dict.fromkeys(columns))
    return pl.concat([SCHEMA.to_frame().select(names), *rollouts.batches(names, rows=rows.sort().to_numpy())])


def _first_group(members: pl.DataFrame, said: dict[int, dict[str, Any]]) -> Group:
    """The group that is shown whatever its size: its texts are cut shorter until it fits."""
    chars = _CHARS
    while _size(group := _group(members, said, chars)) > _BYTES and chars > _FEWEST_CHARS:
        chars //= 4
    return group


def _group(members: pl.DataFrame, said: dict[int, dict[str, Any]], chars: int = _CHARS) -> Group:
    shown = members.filter(pl.col("row").is_in(list(said)))
    rows = [said[row] for row in shown["row"]]
    first = rows[0]
    attempts = [
        Attempt(
            one_line(f"{'/'.join(row['source'].rsplit('/', 2)[-2:])}:{row['line']}"), row["attempt"], row["reward"], ("chosen", "rejected", "")[mark], rule,
            list(_messages(row["completion"], chars)),
        )
        for row, mark, rule in zip(rows, shown["mark"], shown["rule"], strict=True)
    ]
    # Equal sides are not a pair (the rule identical_sides of dpo).
    if [attempt.mark for attempt in attempts[:2]] == ["chosen", "rejected"] and rows[0]["response_text"] == rows[1]["response_text"]:
        attempts = [*(replace(attempt, mark="", rule="identical_sides") for attempt in attempts[:2]), *attempts[2:]]
    return Group(
        key=first["prompt_key"][:8], outcome=("some", "all", "none", "unscored")[members["outcome"][0]],
        name=one_line(first["task_name"] or first["agent_name"] or "", 60),
        question=one_line((first["prompt_text"] or "")[:1000], 200) or "(no question)",
        rewards=members.sort("attempt", "row", nulls_last=True)["reward"].to_list(), prompt=list(_messages(first["prompt"], chars)), attempts=attempts,
    )


def _messages(text: str | None, chars: int) -> Iterator[Message]:
    message: Message | None = None
    found = parts(text, chars)
    for part in islice(found, _PARTS):
        if part.kind == "role":
            if message is not None:
                yield message
            message = Message(one_line(part.text, _NAME), [])
        elif message is not None:
            message.parts.append(part._replace(label=one_line(part.label, _NAME)))
    if message is not None:
        if left := sum(1 for _ in found):
            message.parts.append(Part("text", f"[... {left:,} more parts]"))
        yield message


def _size(group: Group) -> int:
    """Approximate bytes of a group in the page: its escaped texts and the markup around them."""
    messages = [*group.prompt, *(message for attempt in group.attempts for message in attempt.messages)]
    shown = (text for message in messages for part in message.parts for text in (part.text, part.text[:_HEAD], part.label))
    return sum(len(escape(text).encode()) for text in shown) + _MARKUP * sum(1 + len(message.parts) for message in messages)
