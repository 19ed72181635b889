"""The commands of the recipes: each declares its own options, and the shared ones are added."""

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
"""Names of the options that each recipe declares itself."""


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
    reward_threshold: Annotated[float, typer.Option("--reward-threshold", help="Keep rollouts with at least this reward.")] = 0.95,
    format: Annotated[
        o.SftFormat | None, typer.Option("--format", help="nemo-rl: openai writes messages and tools; simple writes input and output.", show_default="openai")
    ] = None,
    tool_call_style: Annotated[
        o.ToolCallStyle | None, typer.Option("--tool-call-style", help="nemo-rl: flat writes tool calls as {name, arguments}.", show_default="nested")
    ] = None,
) -> None:
    """Write good rollouts, for supervised fine-tuning."""


def dpo(
    min_gap: Annotated[float, typer.Option("--min-gap", help="Smallest difference between the two rewards.")] = 0.2,
    strategy: Annotated[
        o.Strategy,
        typer.Option("--strategy", metavar="NAME", help=f"How to pair the rollouts of a group: {', '.join(o.Strategy)}. same_prompt is best-worst."),
    ] = o.Strategy.same_prompt,
    high_threshold: Annotated[float, typer.Option("--high-threshold", help="stratified: smallest reward of a chosen rollout.")] = 0.7,
    low_threshold: Annotated[float, typer.Option("--low-threshold", help="stratified: largest reward of a rejected rollout.")] = 0.4,
    cross_prompt: Annotated[bool, typer.Option("--cross-prompt", help="stratified: also pair rollouts of different prompts.")] = False,
    max_pairs: Annotated[int, typer.Option("--max-pairs", help="stratified, all, top-k-bottom-k: draw at most this many pairs.")] = 1_000_000,
    pairs_per_group: Annotated[int | None, typer.Option("--pairs-per-group", metavar="N", help="At most N pairs per group.", show_default="no limit")] = None,
    max_uses: Annotated[int | None, typer.Option("--max-uses", metavar="N", help="Use a rollout in at most N pairs.", show_default="no limit")] = None,
    top_k: Annotated[int, typer.Option("--top-k", metavar="K", help="top-k-bottom-k: number of best and of worst rollouts.")] = 2,
    match_length: Annotated[
        float | None,
        typer.Option("--match-length", metavar="RATIO", help="Drop pairs with one side more than RATIO times as long as the other.", show_default="no limit"),
    ] = None,
    min_distance: Annotated[
        float | None, typer.Option("--min-distance", metavar="D", help="Smallest Jaccard distance between the words of both sides.", show_default="none")
    ] = None,
    ties: Annotated[o.Ties, typer.Option("--ties", help="Which of several rollouts with equal rewards comes first.")] = o.Ties.first,
    format: Annotated[
        o.DpoFormat | None,
        typer.Option("--format", help="nemo-rl: binary writes prompt, chosen, rejected; preference writes whole conversations.", show_default="binary"),
    ] = None,
    prompt_as: Annotated[
        o.PromptAs | None,
        typer.Option("--prompt-as", help="nemo-rl, binary: how to write prompts; auto writes text unless one needs messages.", show_default="auto"),
    ] = None,
    with_rewards: Annotated[bool, typer.Option("--with-rewards", help="nemo-rl: add reward_gap, chosen_reward, rejected_reward.")] = False,
) -> None:
    """Write preference pairs, for direct preference optimization."""


def rm() -> None:
    """Write preference pairs with their margin, for a reward model."""


def kto(
    reward_threshold: Annotated[float, typer.Option("--reward-threshold", help="Smallest reward of an answer labelled true.")] = 0.5,
    low_threshold: Annotated[
        float | None, typer.Option("--low-threshold", help="Largest reward of an answer labelled false; those in between are dropped.", show_default="none")
    ] = None,
) -> None:
    """Write answers labelled good or bad, for KTO."""


def grpo(
    reward_threshold: o.PromptThreshold = None,
    all_rollouts: o.AllRollouts = False,
    no_ground_truth: o.NoGroundTruth = False,
    format: Annotated[
        o.GrpoFormat | None,
        typer.Option("--format", help="nemo-rl: response writes input, output, ground_truth; gym writes rows for NeMo Gym.", show_default="response"),
    ] = None,
    agent_name: Annotated[str | None, typer.Option("--agent-name", help="nemo-rl, gym: agent for rows that do not name one.")] = None,
) -> None:
    """Write prompts and their ground truth, for GRPO."""


def ppo(
    with_responses: Annotated[bool, typer.Option("--with-responses", help="Write the rollouts themselves, with their answers and rewards.")] = False,
    reward_threshold: o.PromptThreshold = None,
    all_rollouts: o.AllRollouts = False,
    no_ground_truth: o.NoGroundTruth = False,
) -> None:
    """Write prompts or whole rollouts, for PPO."""


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    rm.__signature__ = inspect.signature(dpo)  # type: ignore[attr-defined]
    rm.__annotations__ = dpo.__annotations__
    for own in (sft, dpo, grpo, kto, rm, ppo):
        app.command(own.__name__)(_command(own))
