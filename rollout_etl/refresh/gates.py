"""Quality gates: bounds that a new version must satisfy to be published."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rollout_etl.errors import UsageError

GATES: dict[str, str] = {
    "min-rows": "Smallest number of rows.",
    "max-row-change": "Largest relative change of the number of rows from the version in use: 0.5 allows half as many up to one and a half times as many.",
    "max-drop-fraction": "Largest share of rollouts that rules drop.",
    "max-bad-fraction": "Largest share of lines that are not rollouts.",
    "max-duplicates": "Largest share of rollouts that repeat another rollout of their group word for word.",
    "max-length-bias": "Largest absolute correlation of reward and length.",
    "max-leakage": "Largest share of held-out prompts (val, split) that any output trains on.",
    "min-mean-reward": "Smallest mean reward of the rollouts.",
    "max-mean-reward": "Largest mean reward of the rollouts.",
    "max-reward-drift": "Largest change of the mean reward from the version in use.",
    "flags": "Red flags of stats, for the algorithm of the recipe, that prevent publishing: error, or warning for both severities.",
    "validate": "Check every row against what the trainer loads.",
}
"""The gates by name, with their meaning."""
_COUNTS, _NUMBERS = ("min-rows",), ("min-mean-reward", "max-mean-reward")
_SHARES = ("max-row-change", "max-drop-fraction", "max-reward-drift", "max-bad-fraction", "max-duplicates", "max-length-bias", "max-leakage")
_OF_STATISTICS = ("min-mean-reward", "max-mean-reward", "max-reward-drift", "flags", "max-duplicates", "max-length-bias")


@dataclass(frozen=True)
class Outcome:
    """The outcome of a gate: `value` compared with `bound`. A gate that did not pass may have been forced."""

    gate: str
    output: str
    passed: bool
    value: Any
    bound: Any
    forced: bool = False

    def to_json(self) -> dict[str, Any]:
        """The outcome as JSON values."""
        return asdict(self)

    def said(self) -> str:
        """One line: the value, the bound, and the difference."""
        numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in (self.value, self.bound))
        by = f", by {abs(self.value - self.bound):.6g}" if numbers else ""
        return f"{self.gate} of {self.output}: {_shown(self.value)}, bound {_shown(self.bound)}{by}"


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Seen:
    """The values that the gates of an output check."""

    rows: int
    read: int
    dropped: int
    bad: int
    """Share of the lines that are not rollouts."""
    problems: list[str]
    """Problems found by `validate`."""
    mean_reward: float | None
    flags: Mapping[str, list[str]]
    """Names of the raised red flags, by severity."""
    duplicates: float | None
    """Share of rollouts that repeat another rollout of their group."""
    length_bias: float | None
    """Correlation of reward and length."""
    leakage: float | None
    """Share of the held-out prompts that are trained on; null if nothing is held out."""
    rows_before: int | None
    mean_before: float | None


@dataclass(frozen=True)
class Bounds:
    """The gates of an output, with their bounds."""

    by_gate: Mapping[str, Any]

    @classmethod
    def of(cls, found: Mapping[str, Any], path: Path) -> Bounds:
        """The gates of a pipeline file. Raises `UsageError` for a bound of the wrong type."""
        bounds: dict[str, Any] = {"min-rows": 1, "validate": True, **found}
        for gate, bound in bounds.items():
            number = isinstance(bound, int | float) and not isinstance(bound, bool) and not math.isnan(bound)
            if gate in _COUNTS and not (isinstance(bound, int) and number and bound >= 0):
                raise UsageError(f"{path}: gate {gate} must be a whole number of 0 or more")
            if gate in (*_SHARES, *_NUMBERS) and not (number and (gate in _NUMBERS or bound >= 0)):
                raise UsageError(f"{path}: gate {gate} must be a number" + ("" if gate in _NUMBERS else " of 0 or more"))
            if gate == "flags" and bound not in ("error", "warning"):
                raise UsageError(f"{path}: gate flags must be error or warning")
            if gate == "validate" and not isinstance(bound, bool):
                raise UsageError(f"{path}: gate validate must be true or false")
        return cls(bounds)

    @property
    def ask_for_statistics(self) -> bool:
        """Whether a gate needs statistics of the rollouts."""
        return bool(set(_OF_STATISTICS) & set(self.by_gate))

    @property
    def ask_for_prompts(self) -> bool:
        """Whether a gate needs to know which prompts were written."""
        return "max-leakage" in self.by_gate

    @property
    def ask_for_validation(self) -> bool:
        return bool(self.by_gate["validate"])

    def outcomes(self, output: str, seen: Seen) -> Iterator[Outcome]:
        """The outcome of each gate. Gates that compare with an earlier version pass if there is none."""
        for gate, bound in self.by_gate.items():
            value, passed = _look(gate, bound, seen)
            yield Outcome(gate, output, passed, value, bound)


def _look(gate: str, bound: Any, seen: Seen) -> tuple[Any, bool]:
    mean = seen.mean_reward
    if gate == "min-rows":
        return seen.rows, seen.rows >= bound
    if gate == "max-row-change":
        change = abs(seen.rows / seen.rows_before - 1) if seen.rows_before else None
        return change, change is None or change <= bound
    if gate == "max-drop-fraction":
        share = seen.dropped / seen.read if seen.read else 0.0
        return share, share <= bound
    if gate == "max-bad-fraction":
        share = seen.bad / seen.read if seen.read else 0.0
        return share, share <= bound
    if gate in ("max-duplicates", "max-length-bias", "max-leakage"):
        found = {"max-duplicates": seen.duplicates, "max-length-bias": seen.length_bias, "max-leakage": seen.leakage}[gate]
        return found, found is None or abs(found) <= bound
    if gate == "min-mean-reward":
        return mean, mean is not None and mean >= bound
    if gate == "max-mean-reward":
        return mean, mean is not None and mean <= bound
    if gate == "max-reward-drift":
        drift = None if mean is None or seen.mean_before is None else abs(mean - seen.mean_before)
        return drift, drift is None or drift <= bound
    if gate == "flags":
        up = [*seen.flags.get("error", []), *(seen.flags.get("warning", []) if bound == "warning" else [])]
        return ", ".join(up) or None, not up
    return "; ".join(seen.problems) or None, not seen.problems or not bound
