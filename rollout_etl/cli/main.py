"""The `rollout-etl` command: parse, call, show.

Data goes to standard output, talk to standard error. Exit codes are those of `rollout_etl.errors.ExitCode`. Nothing heavy is
imported before a recipe runs: `--help` answers at once.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from rollout_etl import __version__
from rollout_etl.cli import options as o
from rollout_etl.cli.runner import run_recipe
from rollout_etl.errors import ExitCode

app = typer.Typer(
    name="rollout-etl",
    help="Turn NeMo Gym rollouts into training sets.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"rollout-etl {__version__}")
        raise typer.Exit()


@app.callback()
def _root(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False) -> None:
    del version


@app.command()
def sft(
    inputs: o.Inputs = None,
    input: o.Input = None,
    output: o.Output = None,
    reward_threshold: Annotated[float, typer.Option("--reward-threshold", help="Smallest reward that is good enough.")] = 0.95,
    format: Annotated[o.SftFormat, typer.Option("--format", help="openai: messages and tools; simple: input and output.")] = o.SftFormat.openai,
    tool_call_style: Annotated[
        o.ToolCallStyle, typer.Option("--tool-call-style", help="flat writes tool calls as {name, arguments}.")
    ] = o.ToolCallStyle.nested,
    target: o.Target = o.TargetName.nemo_rl,
    think: o.Think = o.ThinkPolicy.KEEP,
    keep: o.Keep = None,
    drop: o.Drop = None,
    ground_truth_field: o.GroundTruthField = None,
    task_inputs: o.TaskInputs = None,
    group_by: o.GroupBy = None,
    quarantine: o.Quarantine = None,
    max_bad_fraction: o.MaxBadFraction = 0.01,
    seed: o.Seed = 0,
    nemo_rl_layout: o.Layout = o.LayoutName.current,
    no_config: o.NoConfig = False,
    threads: o.Threads = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Good rollouts, for supervised fine-tuning."""
    given = dict(locals())
    run_recipe("sft", given, ("reward_threshold", "format", "tool_call_style"))


@app.command()
def dpo(
    inputs: o.Inputs = None,
    input: o.Input = None,
    output: o.Output = None,
    min_gap: Annotated[float, typer.Option("--min-gap", help="Smallest difference between the two rewards.")] = 0.2,
    strategy: Annotated[
        o.Strategy, typer.Option("--strategy", help="same_prompt: best against worst of a group; stratified: high against low.")
    ] = o.Strategy.same_prompt,
    high_threshold: Annotated[float, typer.Option("--high-threshold", help="stratified: smallest reward of a chosen side.")] = 0.7,
    low_threshold: Annotated[float, typer.Option("--low-threshold", help="stratified: largest reward of a rejected side.")] = 0.4,
    cross_prompt: Annotated[bool, typer.Option("--cross-prompt", help="stratified: pair across prompts as well.")] = False,
    max_pairs: Annotated[int, typer.Option("--max-pairs", help="stratified: draw this many pairs at most.")] = 1_000_000,
    format: Annotated[
        o.DpoFormat, typer.Option("--format", help="binary: prompt, chosen, rejected; preference: whole conversations.")
    ] = o.DpoFormat.binary,
    prompt_as: Annotated[o.PromptAs, typer.Option("--prompt-as", help="binary: auto writes text if no prompt needs messages.")] = o.PromptAs.auto,
    with_rewards: Annotated[bool, typer.Option("--with-rewards", help="Add reward_gap, chosen_reward, rejected_reward.")] = False,
    target: o.Target = o.TargetName.nemo_rl,
    think: o.Think = o.ThinkPolicy.KEEP,
    keep: o.Keep = None,
    drop: o.Drop = None,
    ground_truth_field: o.GroundTruthField = None,
    task_inputs: o.TaskInputs = None,
    group_by: o.GroupBy = None,
    quarantine: o.Quarantine = None,
    max_bad_fraction: o.MaxBadFraction = 0.01,
    seed: o.Seed = 0,
    nemo_rl_layout: o.Layout = o.LayoutName.current,
    no_config: o.NoConfig = False,
    threads: o.Threads = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Preference pairs, for direct preference optimisation."""
    given = dict(locals())
    names = ("min_gap", "strategy", "high_threshold", "low_threshold", "cross_prompt", "max_pairs", "format", "prompt_as", "with_rewards")
    run_recipe("dpo", given, names)


@app.command()
def grpo(
    inputs: o.Inputs = None,
    input: o.Input = None,
    output: o.Output = None,
    reward_threshold: Annotated[float | None, typer.Option("--reward-threshold", help="Only prompts with a rollout this good.")] = None,
    all_rollouts: Annotated[bool, typer.Option("--all-rollouts", help="A row for each rollout, not for each prompt.")] = False,
    no_ground_truth: Annotated[bool, typer.Option("--no-ground-truth", help="Write no ground truth, and do not ask for it.")] = False,
    format: Annotated[o.GrpoFormat, typer.Option("--format", help="response: input, output, ground_truth; gym: rows for NeMo Gym.")] = o.GrpoFormat.response,
    agent_name: Annotated[str | None, typer.Option("--agent-name", help="gym: the agent of rows that name none.")] = None,
    target: o.Target = o.TargetName.nemo_rl,
    think: o.Think = o.ThinkPolicy.KEEP,
    keep: o.Keep = None,
    drop: o.Drop = None,
    ground_truth_field: o.GroundTruthField = None,
    task_inputs: o.TaskInputs = None,
    group_by: o.GroupBy = None,
    quarantine: o.Quarantine = None,
    max_bad_fraction: o.MaxBadFraction = 0.01,
    seed: o.Seed = 0,
    nemo_rl_layout: o.Layout = o.LayoutName.current,
    no_config: o.NoConfig = False,
    threads: o.Threads = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Prompts and ground truth, for group relative optimisation."""
    given = dict(locals())
    run_recipe("grpo", given, ("reward_threshold", "all_rollouts", "no_ground_truth", "format", "agent_name"))


def _hyphenated(arguments: list[str]) -> list[str]:
    """`--min_gap` as `--min-gap`: the docs' scripts spell options with underscores."""
    result = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        result.append(name.replace("_", "-") + equals + value if name.startswith("--") else argument)
    return result


def main(arguments: list[str] | None = None) -> Any:
    """Entry point of the `rollout-etl` command."""
    try:
        code = app(args=_hyphenated(sys.argv[1:] if arguments is None else arguments), standalone_mode=False)
    except typer.Abort:
        print("interrupted", file=sys.stderr)
        code = ExitCode.INTERRUPTED
    except TyperException as error:
        print(f"rollout-etl: {error.format_message()}", file=sys.stderr)
        code = ExitCode.USAGE
    except typer.Exit as error:
        code = error.exit_code
    sys.exit(int(code or 0))


if __name__ == "__main__":
    main()
