"""Quality gates: bounds that a new version must keep, or it is not published."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rollout_etl.errors import UsageError

GATES: dict[str, str] = {
    "min-rows": "Smallest number of rows.",
    "max-row-change": "Largest change of the number of rows against the version in use, as a share: 0.5 is half as many or half as many again.",
    "max-drop-fraction": "Largest share of rollouts that rules drop.",
    "max-bad-fraction": "Largest share of lines that are no rollouts.",
    "max-duplicates": "Largest share of rollouts that repeat another one of their group word for word.",
    "max-length-bias": "Largest correlation of reward and length, whichever its sign.",
    "max-leakage": "Largest share of the prompts beside training, as of --val, that any output trains on.",
    "min-mean-reward": "Smallest mean reward of the rollouts.",
    "max-mean-reward": "Largest mean reward of the rollouts.",
    "max-reward-drift": "Largest change of the mean reward against the version in use.",
    "flags": "Red flags of stats, for the algorithm of the recipe, that hold a version back: error, or warning for both severities.",
    "validate": "Hold every row against what the trainer loads.",
}
"""The gates by name, and what each asks."""
_COUNTS, _NUMBERS = ("min-rows",), ("min-mean-reward", "max-mean-reward")
_SHARES = ("max-row-change", "max-drop-fraction", "max-reward-drift", "max-bad-fraction", "max-duplicates", "max-length-bias", "max-leakage")
_OF_STATISTICS = ("min-mean-reward", "max-mean-reward", "max-reward-drift", "flags", "max-duplicates", "max-length-bias")


@dataclass(frozen=True)
class Outcome:
    """What a gate saw: `value` against `bound`. A gate that did not pass may have been forced."""

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
        """One line: which number missed which bound, and by how much."""
        numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in (self.value, self.bound))
        by = f", by {abs(self.value - self.bound):.6g}" if numbers else ""
        return f"{self.gate} of {self.output}: {_shown(self.value)}, bound {_shown(self.bound)}{by}"


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Seen:
    """What the gates of an output look at."""

    rows: int
    read: int
    dropped: int
    bad: int
    """Lines that are no rollouts, of those that were read."""
    problems: list[str]
    """What `validate` found."""
    mean_reward: float | None
    flags: Mapping[str, list[str]]
    """Names of the red flags that are up, by severity."""
    duplicates: float | None
    """Share of rollouts that repeat another one of their group."""
    length_bias: float | None
    """Correlation of reward and length."""
    leakage: float | None
    """Share of the prompts beside training that are trained on; null where nothing is beside training."""
    rows_before: int | None
    mean_before: float | None


@dataclass(frozen=True)
class Bounds:
    """The gates of an output with their bounds."""

    by_gate: Mapping[str, Any]

    @classmethod
    def of(cls, found: Mapping[str, Any], path: Path) -> Bounds:
        """The gates of a pipeline file. Raises `UsageError` for a bound of the wrong type."""
        bounds: dict[str, Any] = {"min-rows": 1, "validate": True, **found}
        for gate, bound in bounds.items():
            number = isinstance(bound, int | float) and not isinstance(bound, bool)
            if gate in _COUNTS and not (isinstance(bound, int) and number and bound >= 0):
                raise UsageError(f"{path}: gate {gate} is a whole number from 0 on")
            if gate in (*_SHARES, *_NUMBERS) and not (number and (gate in _NUMBERS or bound >= 0)):
                raise UsageError(f"{path}: gate {gate} is a number" + ("" if gate in _NUMBERS else " from 0 on"))
            if gate == "flags" and bound not in ("error", "warning"):
                raise UsageError(f"{path}: gate flags is error or warning")
            if gate == "validate" and not isinstance(bound, bool):
                raise UsageError(f"{path}: gate validate is true or false")
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
        """What each gate says. Gates that compare with an earlier version pass where there is none."""
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
