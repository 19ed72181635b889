"""Lines that are not rollouts, kept with file, line number, reason and text."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True)
class BadLine:
    """A line that is not a rollout."""

    source: str
    line: int
    reason: str
    text: bytes
    row: int = 0
    """Number of the line within the scan."""
    input: int = 0
    """Number of the file within the scan."""

    def to_json(self) -> str:
        """The line as a JSON object. Bytes that are not UTF-8 are written as `\\xNN`."""
        text = self.text.decode("utf-8", errors="backslashreplace").rstrip("\r\n")
        return json.dumps({"source": self.source, "line": self.line, "reason": self.reason, "text": text}, ensure_ascii=False)


@dataclass
class Account:
    """What happened to every line of a scan: `read == len(quarantined) + rollouts`."""

    read: int = 0
    rollouts: int = 0
    quarantined: list[BadLine] = field(default_factory=list)
    repairs: list[tuple[int, tuple[str, ...]]] = field(default_factory=list)
    """Rows that were repaired, and their kind of damage."""
    found: Counter[str] = field(default_factory=Counter)
    """Number of rollouts in which a field that the user named has a value."""

    @property
    def bad_fraction(self) -> float:
        return len(self.quarantined) / self.read if self.read else 0.0

    @property
    def repaired(self) -> dict[str, int]:
        """Repaired lines by kind of damage."""
        return dict(Counter(damage for _, damages in self.repairs for damage in damages))

    def reasons(self) -> dict[str, int]:
        """Quarantined lines by kind of reason."""
        return dict(Counter(bad.reason.split(":")[0] for bad in self.quarantined).most_common())
