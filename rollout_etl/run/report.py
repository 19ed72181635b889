"""The report of a run: what was read, dropped and written. Printed by `--json`, and kept as the manifest next to the output."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from rollout_etl import __version__
from rollout_etl.errors import InternalError
from rollout_etl.publish.files import Written
from rollout_etl.publish.shard_plan import Shard
from rollout_etl.read.quarantine import Account


def by_count(counts: Mapping[str, int]) -> dict[str, int]:
    """Counts from largest to smallest, equal ones sorted by name, so that the same run gives the same report."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


@dataclass
class Report:
    """Counts of a run. `read = quarantined + sum(dropped) + kept` and `built = sum(examples_dropped) + written`."""

    recipe: str
    target: str
    inputs: list[str]
    options: dict[str, Any]
    read: int = 0
    quarantined: int = 0
    quarantine_reasons: dict[str, int] = field(default_factory=dict)
    repaired: dict[str, int] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)
    kept: int = 0
    groups: int | None = None
    shapes: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    built: int = 0
    examples_dropped: Counter[str] = field(default_factory=Counter)
    written: int = 0
    statistics: dict[str, float] = field(default_factory=dict)
    clamped: int = 0
    parts: dict[str, int] = field(default_factory=dict)
    prompts: pl.DataFrame | None = None
    """Each combination of `part` and `messages_key` among the written examples, if requested; not part of the report."""
    outputs: list[Written] = field(default_factory=list)
    shards: list[Shard] = field(default_factory=list)
    """The planned shards, for a later run; not part of the report."""
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    launch: str | None = None
    held: Counter[str] = field(default_factory=Counter)
    """In how many rollouts each column that an option names has a value, by option and name; not part of the report."""
    remarks: list[str] = field(default_factory=list)
    """Notes on speed and resuming: shown, but not part of the report, which is the same for the same run."""

    def count_lines(self, account: Account) -> None:
        """Add the counts of input lines."""
        self.read, self.quarantined = account.read, len(account.quarantined)
        self.quarantine_reasons, self.repaired = account.reasons(), dict(account.repaired)

    def count_rollouts(self, frame: pl.DataFrame) -> None:
        """Add the rollouts of a frame with the column `rule`."""
        for rule, count in frame["rule"].drop_nulls().value_counts().iter_rows():
            self.dropped[rule] += count
        self.kept += frame["rule"].null_count()

    def count_examples(self, frame: pl.DataFrame) -> None:
        """Add the examples of a frame with the column `rule`."""
        for rule, count in frame["rule"].drop_nulls().value_counts().iter_rows():
            self.examples_dropped[rule] += count
        self.built += len(frame)
        self.written += frame["rule"].null_count()

    def check(self) -> None:
        """Check that every line and every example is counted. Raises `InternalError`."""
        if self.read != self.quarantined + self.dropped.total() + self.kept or self.built != self.examples_dropped.total() + self.written:
            counts = f"{self.read} = {self.quarantined} + {self.dropped.total()} + {self.kept}, {self.built} = {self.examples_dropped.total()} + {self.written}"
            raise InternalError(f"rows are unaccounted for ({counts}): a bug in rollout-etl, please report it; nothing was published")

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "recipe": self.recipe,
            "target": self.target,
            "inputs": self.inputs,
            "rollouts": {
                "read": self.read,
                "quarantined": self.quarantined,
                "quarantine_reasons": self.quarantine_reasons,
                "repaired": self.repaired,
                "dropped": by_count(self.dropped),
                "kept": self.kept,
                "groups": self.groups,
                "shapes": by_count(self.shapes),
                "left_out": {name: count for name, count in self.left_out.items() if count},
                "clamped": self.clamped,
            },
            "examples": {
                "built": self.built,
                "dropped": by_count(self.examples_dropped),
                "written": self.written,
                "statistics": self.statistics,
                "parts": self.parts,
            },
            "outputs": [written.__dict__ for written in self.outputs],
            "options": self.options,
            "warnings": self.warnings,
            "notes": self.notes,
            "launch": self.launch,
            "version": __version__,
        }
