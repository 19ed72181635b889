"""What a run is asked to do: the same words as the command line's."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import isfinite
from typing import Any, Literal

from rollout_etl.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class RecipeOptions:
    """Options of every recipe."""

    keep: tuple[str, ...] = ()
    """Rules that do not apply."""
    drop: tuple[str, ...] = ()
    """Rules that apply although they do not by default."""
    seed: int = 0

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, float) and not isfinite(value):
                raise UsageError(f"--{f.name.replace('_', '-')} {value} is no number to compare with")

    def to_json(self) -> dict[str, Any]:
        """The options by name, for the manifest."""
        return {f.name: list(value) if isinstance(value := getattr(self, f.name), tuple) else value for f in fields(self)}


@dataclass(frozen=True, kw_only=True)
class SftOptions(RecipeOptions):
    """Options of `sft`."""

    reward_threshold: float = 0.95
    format: Literal["openai", "simple"] = "openai"
    tool_call_style: Literal["nested", "flat"] = "nested"


@dataclass(frozen=True, kw_only=True)
class DpoOptions(RecipeOptions):
    """Options of `dpo`."""

    min_gap: float = 0.2
    strategy: Literal["same_prompt", "stratified"] = "same_prompt"
    high_threshold: float = 0.7
    low_threshold: float = 0.4
    cross_prompt: bool = False
    max_pairs: int = 1_000_000
    format: Literal["binary", "preference"] = "binary"
    prompt_as: Literal["auto", "text", "messages"] = "auto"
    with_rewards: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.strategy == "stratified" and self.low_threshold >= self.high_threshold:
            raise UsageError(f"--low-threshold {self.low_threshold:g} must be under --high-threshold {self.high_threshold:g}")
        if self.cross_prompt and self.strategy != "stratified":
            raise UsageError("--cross-prompt needs --strategy stratified")
        if self.min_gap < 0:
            raise UsageError(f"--min-gap {self.min_gap:g} must not be negative")
        if self.max_pairs < 1:
            raise UsageError(f"--max-pairs {self.max_pairs} must be at least 1")


@dataclass(frozen=True, kw_only=True)
class GrpoOptions(RecipeOptions):
    """Options of `grpo`."""

    reward_threshold: float | None = None
    all_rollouts: bool = False
    no_ground_truth: bool = False
    format: Literal["response", "gym"] = "response"
    agent_name: str | None = None


AnyOptions = SftOptions | DpoOptions | GrpoOptions
__all__ = ["AnyOptions", "DpoOptions", "GrpoOptions", "RecipeOptions", "SftOptions"]
