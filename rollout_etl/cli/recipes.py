"""The commands of the recipes: each states its own options, those that all share are added."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

import typer

from rollout_etl.cli import curation
from rollout_etl.cli import options as o
from rollout_etl.cli.runner import run_recipe
from rollout_etl.cli.talk import heard

_FIRST: dict[str, tuple[Any, Any]] = {"inputs": (o.Inputs, None), "input": (o.Input, None), "output": (o.Output, None)}
_LAST: dict[str, tuple[Any, Any]] = {
    "target": (o.Target, "nemo-rl"),
    "form": (o.As, None),
    "arguments": (o.Arguments, None),
    "extra": (o.Extra, None),
    "map": (o.Map, None),
    "token_ids": (o.TokenIds, False),
    "think": (o.Think, o.ThinkPolicy.KEEP),
    "keep": (o.Keep, None),
    "drop": (o.Drop, None),
    "ground_truth_field": (o.GroundTruthField, None),
    "task_inputs": (o.TaskInputs, None),
    "group_by": (o.GroupBy, None),
    **curation.OPTIONS,
    "shards": (o.Shards, None),
    "shard_size": (o.ShardSize, None),
    "shard_rows": (o.ShardRows, None),
    "quarantine": (o.Quarantine, None),
    "max_bad_fraction": (o.MaxBadFraction, 0.01),
    "seed": (o.Seed, 0),
    "nemo_rl_layout": (o.Layout, None),
    "no_config": (o.NoConfig, False),
    "dry_run": (o.DryRun, False),
    "memory_limit": (o.MemoryLimit, None),
    "temp_dir": (o.TempDir, None),
    "engine": (o.Engine, o.EngineName.local),
    "ray_address": (o.RayAddress, None),
    "threads": (o.Threads, None),
    "json": (o.Json, False),
    "quiet": (o.Quiet, False),
}


STATED: dict[str, tuple[str, ...]] = {}
"""Names of the options that each recipe states itself."""


def _parameters(described: dict[str, tuple[Any, Any]]) -> list[inspect.Parameter]:
    return [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind) for name, (kind, default) in described.items()]


def _command(own: Callable[..., None]) -> Callable[..., None]:
    """A command with the options of `own`, which has no body, and those that all recipes share."""
    kinds = get_type_hints(own, include_extras=True)
    stated = {name: (kinds[name], parameter.default) for name, parameter in inspect.signature(own).parameters.items()}

    STATED[own.__name__] = tuple(stated)

    def command(**given: Any) -> None:
        run_recipe(own.__name__, given, tuple(stated))

    parameters = [*_parameters(_FIRST), *_parameters(stated), *_parameters(_LAST)]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__doc__ = own.__doc__
    return heard(command)


def sft(
    reward_threshold: Annotated[float, typer.Option("--reward-threshold", help="Smallest reward that is good enough.")] = 0.95,
    format: Annotated[
        o.SftFormat | None, typer.Option("--format", help="nemo-rl: openai: messages and tools; simple: input and output.", show_default="openai")
    ] = None,
    tool_call_style: Annotated[
        o.ToolCallStyle | None, typer.Option("--tool-call-style", help="nemo-rl: flat writes tool calls as {name, arguments}.", show_default="nested")
    ] = None,
) -> None:
    """Good rollouts, for supervised fine-tuning."""


def dpo(
    min_gap: Annotated[float, typer.Option("--min-gap", help="Smallest difference between the two rewards.")] = 0.2,
    strategy: Annotated[
        o.Strategy,
        typer.Option("--strategy", metavar="NAME", help=f"Which rollouts of a group are paired: {', '.join(o.Strategy)}; same_prompt is best-worst."),
    ] = o.Strategy.same_prompt,
    high_threshold: Annotated[float, typer.Option("--high-threshold", help="stratified: smallest reward of a chosen side.")] = 0.7,
    low_threshold: Annotated[float, typer.Option("--low-threshold", help="stratified: largest reward of a rejected side.")] = 0.4,
    cross_prompt: Annotated[bool, typer.Option("--cross-prompt", help="stratified: pair across prompts as well.")] = False,
    max_pairs: Annotated[int, typer.Option("--max-pairs", help="stratified, all, top-k-bottom-k: draw this many pairs at most.")] = 1_000_000,
    pairs_per_group: Annotated[int | None, typer.Option("--pairs-per-group", metavar="N", help="At most N pairs of a group.", show_default="no limit")] = None,
    max_uses: Annotated[int | None, typer.Option("--max-uses", metavar="N", help="At most N pairs with the same rollout.", show_default="no limit")] = None,
    top_k: Annotated[int, typer.Option("--top-k", metavar="K", help="top-k-bottom-k: rollouts on either side.")] = 2,
    match_length: Annotated[
        float | None, typer.Option("--match-length", metavar="RATIO", help="One side at most this many times as long as the other.", show_default="no limit")
    ] = None,
    min_distance: Annotated[
        float | None, typer.Option("--min-distance", metavar="D", help="Smallest Jaccard distance between the words of both sides.", show_default="none")
    ] = None,
    ties: Annotated[o.Ties, typer.Option("--ties", help="Of equal rewards, the rollout that comes first.")] = o.Ties.first,
    format: Annotated[
        o.DpoFormat | None,
        typer.Option("--format", help="nemo-rl: binary: prompt, chosen, rejected; preference: whole conversations.", show_default="binary"),
    ] = None,
    prompt_as: Annotated[
        o.PromptAs | None, typer.Option("--prompt-as", help="nemo-rl, binary: auto writes text if no prompt needs messages.", show_default="auto")
    ] = None,
    with_rewards: Annotated[bool, typer.Option("--with-rewards", help="nemo-rl: add reward_gap, chosen_reward, rejected_reward.")] = False,
) -> None:
    """Preference pairs, for direct preference optimisation."""


def rm() -> None:
    """Preference pairs with their margin, for a reward model."""


def kto(
    reward_threshold: Annotated[float, typer.Option("--reward-threshold", help="Smallest reward of an answer that is labelled true.")] = 0.5,
    low_threshold: Annotated[
        float | None, typer.Option("--low-threshold", help="Largest reward of one that is labelled false; the middle is left out.", show_default="none")
    ] = None,
) -> None:
    """Answers labelled good or bad, for Kahneman-Tversky optimisation."""


def grpo(
    reward_threshold: Annotated[float | None, typer.Option("--reward-threshold", help="Only prompts with a rollout this good.")] = None,
    all_rollouts: Annotated[bool, typer.Option("--all-rollouts", help="A row for each rollout, not for each prompt.")] = False,
    no_ground_truth: Annotated[bool, typer.Option("--no-ground-truth", help="Write no ground truth, and do not ask for it.")] = False,
    format: Annotated[
        o.GrpoFormat | None,
        typer.Option("--format", help="nemo-rl: response: input, output, ground_truth; gym: rows for NeMo Gym.", show_default="response"),
    ] = None,
    agent_name: Annotated[str | None, typer.Option("--agent-name", help="nemo-rl, gym: the agent of rows that name none.")] = None,
) -> None:
    """Prompts and ground truth, for group relative optimisation."""


def ppo(
    with_responses: Annotated[bool, typer.Option("--with-responses", help="Write the rollouts themselves, with their rewards.")] = False,
    reward_threshold: Annotated[float | None, typer.Option("--reward-threshold", help="Only prompts with a rollout this good.")] = None,
    all_rollouts: Annotated[bool, typer.Option("--all-rollouts", help="A row for each rollout, not for each prompt.")] = False,
    no_ground_truth: Annotated[bool, typer.Option("--no-ground-truth", help="Write no ground truth, and do not ask for it.")] = False,
) -> None:
    """Prompts or whole rollouts, for proximal policy optimisation."""


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    rm.__signature__ = inspect.signature(dpo)  # type: ignore[attr-defined]
    rm.__annotations__ = dpo.__annotations__
    for own in (sft, dpo, grpo, kto, rm, ppo):
        app.command(own.__name__)(_command(own))
