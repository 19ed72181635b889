"""The options of each recipe, named as on the command line."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, TypeVar

from rollout_etl.errors import UsageError
from rollout_etl.option_values import check_values

Strategy = Literal[
    "same_prompt", "stratified", "best-worst", "best-second", "ranked", "adjacent", "all", "top-k-bottom-k", "best-vs-mean-minus-2-sigma",
    "random-negative",
]
"""How rollouts are paired; `same_prompt` means the same as `best-worst`."""


@dataclass(frozen=True, kw_only=True)
class RecipeOptions:
    """Options of every recipe."""

    recipe: ClassVar[str]
    keep: tuple[str, ...] = ()
    """Rules to turn off."""
    drop: tuple[str, ...] = ()
    """Rules to turn on that are off by default."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_values(self)

    def to_json(self) -> dict[str, Any]:
        """The options by name, for the manifest."""
        return {f.name: list(value) if isinstance(value := getattr(self, f.name), tuple) else value for f in fields(self)}


@dataclass(frozen=True, kw_only=True)
class SftOptions(RecipeOptions):
    """Options of `sft`."""

    recipe: ClassVar[str] = "sft"
    reward_threshold: float = 0.95
    format: Literal["openai", "simple"] = "openai"
    tool_call_style: Literal["nested", "flat"] = "nested"


@dataclass(frozen=True, kw_only=True)
class DpoOptions(RecipeOptions):
    """Options of `dpo`."""

    recipe: ClassVar[str] = "dpo"
    min_gap: float = 0.2
    strategy: Strategy = "same_prompt"
    high_threshold: float = 0.7
    low_threshold: float = 0.4
    cross_prompt: bool = False
    max_pairs: int = 1_000_000
    pairs_per_group: int | None = None
    max_uses: int | None = None
    """Largest number of pairs that a rollout may be in."""
    top_k: int = 2
    match_length: float | None = None
    """Largest ratio of the lengths of both sides."""
    min_distance: float | None = None
    """Smallest Jaccard distance between the words of both sides."""
    ties: Literal["first", "shorter", "longer"] = "first"
    """Which of several rollouts with equal rewards comes first."""
    format: Literal["binary", "preference"] = "binary"
    prompt_as: Literal["auto", "text", "messages"] = "auto"
    with_rewards: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.strategy == "stratified" and self.low_threshold >= self.high_threshold:
            raise UsageError(f"--low-threshold {self.low_threshold:g} must be less than --high-threshold {self.high_threshold:g}")
        if self.cross_prompt and self.strategy != "stratified":
            raise UsageError("--cross-prompt needs --strategy stratified")
        if self.min_gap < 0:
            raise UsageError(f"--min-gap {self.min_gap:g} must not be negative")
        for name in ("max_pairs", "pairs_per_group", "max_uses", "top_k"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UsageError(f"--{name.replace('_', '-')} {value} must be at least 1")
        if self.match_length is not None and self.match_length < 1:
            raise UsageError(f"--match-length {self.match_length:g} must be at least 1: how many times as long one side may be as the other")
        if self.min_distance is not None and not 0 <= self.min_distance <= 1:
            raise UsageError(f"--min-distance {self.min_distance:g} must be from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class GrpoOptions(RecipeOptions):
    """Options of `grpo`."""

    recipe: ClassVar[str] = "grpo"
    reward_threshold: float | None = None
    all_rollouts: bool = False
    no_ground_truth: bool = False
    format: Literal["response", "gym"] = "response"
    agent_name: str | None = None


@dataclass(frozen=True, kw_only=True)
class KtoOptions(RecipeOptions):
    """Options of `kto`."""

    recipe: ClassVar[str] = "kto"
    reward_threshold: float = 0.5
    """Smallest reward of an answer labelled true."""
    low_threshold: float | None = None
    """Largest reward of an answer labelled false; those between the two are dropped. None: all that are not true."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low_threshold is not None and self.low_threshold >= self.reward_threshold:
            raise UsageError(f"--low-threshold {self.low_threshold:g} must be less than --reward-threshold {self.reward_threshold:g}")


@dataclass(frozen=True, kw_only=True)
class RmOptions(DpoOptions):
    """Options of `rm`: the pairs of `dpo`, for a reward model."""

    recipe: ClassVar[str] = "rm"


@dataclass(frozen=True, kw_only=True)
class PpoOptions(GrpoOptions):
    """Options of `ppo`: for the prompts of `grpo`, or the rollouts themselves."""

    recipe: ClassVar[str] = "ppo"
    with_responses: bool = False
    """Write every usable rollout with its answer and its reward, for training without an environment."""


Options = TypeVar("Options", bound=RecipeOptions)


def options_of(given: Options | None, kind: type[Options], *others: type[Options]) -> Options:
    """The given options if they are of `kind` or one of `others`, or the defaults. Raises `UsageError` for options of another recipe."""
    if given is None:
        return kind()
    if type(given) not in (kind, *others):
        raise UsageError(f"the recipe {kind.recipe} takes {kind.__name__}, not {type(given).__name__}")
    return given


AnyOptions = SftOptions | DpoOptions | GrpoOptions | KtoOptions
RECIPES: dict[str, type[AnyOptions]] = {
    options.recipe: options for options in (SftOptions, DpoOptions, GrpoOptions, KtoOptions, RmOptions, PpoOptions)
}
"""The options of each recipe, by its name."""


def check_recipe(name: str, known: Collection[str] = tuple(RECIPES), where: str = "") -> None:
    """Raise `UsageError` for a name that is not of a recipe; `where` is what the message begins with."""
    if name not in known:
        raise UsageError(f"{where}no recipe '{name}'; recipes are {', '.join(known)}")


__all__ = [
    "RECIPES", "AnyOptions", "DpoOptions", "GrpoOptions", "KtoOptions", "PpoOptions", "RecipeOptions", "RmOptions", "SftOptions", "check_recipe", "options_of",
]
