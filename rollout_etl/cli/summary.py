"""What a run says on standard error: progress while it works, a summary at its end."""

from __future__ import annotations

import re
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rollout_etl.report import Report

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def plain(text: str) -> str:
    """Text without control characters: file names and rollouts may hold what a terminal obeys."""
    return _CONTROL.sub("?", text)


class Progress:
    """A running count of rollouts, on a terminal only."""

    def __init__(self, enabled: bool = True) -> None:
        self._enabled = enabled and sys.stderr.isatty()
        self._rows = 0
        self._start = self._shown = time.monotonic()

    def advance(self, rows: int) -> None:
        """Count `rows` more rollouts."""
        self._rows += rows
        now = time.monotonic()
        if self._enabled and now - self._shown > 0.2:
            self._shown = now
            print(f"\r{self._rows:,} rollouts read, {self._rows / (now - self._start):,.0f} a second", end="", file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._enabled:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def show(report: Report) -> None:
    """Print the summary of a run."""
    from rollout_etl.report import by_count

    lines = [f"read         {report.read:>10,} rollouts from {len(report.inputs)} file(s)"]
    lines += [f"quarantined  {report.quarantined:>10,} {_counts(report.quarantine_reasons)}"] if report.quarantined else []
    lines += [f"repaired     {sum(report.repaired.values()):>10,} {_counts(report.repaired)}"] if report.repaired else []
    lines += [f"dropped      {count:>10,} {rule}" for rule, count in by_count(report.dropped).items()]
    lines += [f"kept         {report.kept:>10,}" + (f" in {report.groups:,} groups" if report.groups is not None else "")]
    lines += [f"left out     {count:>10,} {rule}" for rule, count in by_count(report.examples_dropped).items() if count]
    lines += [f"written      {report.written:>10,} {report.recipe} examples"]
    lines += _statistics(report.statistics)
    lines += [f"note         {note}" for note in report.notes]
    lines += [f"warning      {warning}" for warning in report.warnings]
    lines += [f"output       {written.path} ({written.bytes:,} bytes)" for written in report.outputs]
    lines += [f"launch       {report.launch}"] if report.launch else []
    print("\n".join(plain(line) for line in lines), file=sys.stderr)


def _statistics(found: dict[str, float]) -> list[str]:
    if "mean_reward_gap" in found:
        gap, chosen, rejected = (found[f"mean_{name}"] for name in ("reward_gap", "chosen_reward", "rejected_reward"))
        return [f"rewards      mean gap {gap:.3f}, chosen {chosen:.3f}, rejected {rejected:.3f}"]
    if "label_true" in found:
        weights = f"desirable_weight {found['desirable_weight']:g}, undesirable_weight {found['undesirable_weight']:g}"
        return [f"labels       {found['label_true']:,} true, {found['label_false']:,} false: {weights}"]
    return []


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
