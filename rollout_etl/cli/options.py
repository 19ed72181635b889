"""The options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from rollout_etl.targets import REGISTRY


class SftFormat(StrEnum):
    openai = "openai"
    simple = "simple"


class DpoFormat(StrEnum):
    binary = "binary"
    preference = "preference"


class GrpoFormat(StrEnum):
    response = "response"
    gym = "gym"


class ToolCallStyle(StrEnum):
    nested = "nested"
    flat = "flat"


class Strategy(StrEnum):
    same_prompt = "same_prompt"
    stratified = "stratified"
    best_worst = "best-worst"
    best_second = "best-second"
    ranked = "ranked"
    adjacent = "adjacent"
    all = "all"
    top_k_bottom_k = "top-k-bottom-k"
    best_vs_mean_minus_2_sigma = "best-vs-mean-minus-2-sigma"
    random_negative = "random-negative"


class Ties(StrEnum):
    first = "first"
    shorter = "shorter"
    longer = "longer"


class PromptAs(StrEnum):
    auto = "auto"
    text = "text"
    messages = "messages"


class ThinkPolicy(StrEnum):
    KEEP = "keep"
    STRIP = "strip"
    MOVE = "move"


class FormName(StrEnum):
    messages = "messages"
    text = "text"
    json = "json"


class ArgumentsName(StrEnum):
    object = "object"
    string = "string"


class LayoutName(StrEnum):
    current = "current"
    v0_5 = "v0.5"


class ProgressName(StrEnum):
    auto = "auto"
    plain = "plain"
    none = "none"


class LogFormat(StrEnum):
    text = "text"
    json = "json"


class EngineName(StrEnum):
    local = "local"
    ray = "ray"


PromptThreshold = Annotated[float | None, typer.Option("--reward-threshold", help="Use only prompts with at least one rollout of this reward.")]
AllRollouts = Annotated[bool, typer.Option("--all-rollouts", help="Write a row for each rollout instead of each prompt.")]
NoGroundTruth = Annotated[bool, typer.Option("--no-ground-truth", help="Omit ground truth and do not require it.")]
Inputs = Annotated[list[str] | None, typer.Argument(metavar="INPUT", help="Files, folders, globs or URLs.", show_default=False)]
Input = Annotated[list[str] | None, typer.Option("--input", metavar="INPUT", help="The same as INPUT.", show_default=False)]
Output = Annotated[
    str | None, typer.Option("-o", "--output", metavar="FILE|DIR/", help="Training file, .jsonl or .parquet, or a folder of shards.", show_default=False)
]
Shards = Annotated[int | None, typer.Option("--shards", min=1, max=10_000, help="Write this many shards into a folder, distributing rows in turn.")]
ShardSize = Annotated[
    str | None, typer.Option("--shard-size", metavar="SIZE", help="Write shards of about this size into a folder.", show_default="256MB with -o DIR/")
]
ShardRows = Annotated[
    int | None, typer.Option("--shard-rows", min=1, metavar="N", help="About N rows per shard, with content-defined boundaries.")
]
Target = Annotated[str, typer.Option("--target", metavar="|".join(REGISTRY), help="Trainer to write for.")]
As = Annotated[
    FormName | None, typer.Option("--as", help="Not for nemo-rl: write conversations as messages, the last question and answer as text, or JSON text.")
]
Arguments = Annotated[ArgumentsName | None, typer.Option("--arguments", help="Write tool call arguments as an object or as a string.", show_default="object")]
Extra = Annotated[
    list[str] | None, typer.Option("--extra", metavar="COLUMN", help="Not for nemo-rl: also write this column, as in reward, pass_rate, metrics.accuracy.")
]
Map = Annotated[list[str] | None, typer.Option("--map", metavar="FIELD=SOURCE", help="custom: fill FIELD from SOURCE, as in prompt=input.")]
Think = Annotated[ThinkPolicy, typer.Option("--think", help="What to do with <think> text in answers: keep it, strip it, or move it to reasoning_content.")]
Keep = Annotated[list[str] | None, typer.Option("--keep", metavar="RULE", help="Turn this rule off.", show_default=False)]
Drop = Annotated[list[str] | None, typer.Option("--drop", metavar="RULE", help="Turn this rule on.", show_default=False)]
GroundTruthField = Annotated[
    str | None, typer.Option("--ground-truth-field", metavar="PATH", help="Field that holds the ground truth, as in verifier_metadata.answer.")
]
TaskInputs = Annotated[str | None, typer.Option("--task-inputs", metavar="FILE", help="Tasks the rollouts were made from, used to look up ground truth.")]
GroupBy = Annotated[str | None, typer.Option("--group-by", metavar="FIELD[,FIELD]", help="Fields that identify a task.")]
Quarantine = Annotated[Path | None, typer.Option("--quarantine", metavar="FILE", help="Write lines that are not rollouts to this file.", show_default=False)]
MaxBadFraction = Annotated[float, typer.Option("--max-bad-fraction", min=0.0, max=1.0, help="Largest share of lines that may not be rollouts.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed for random choices.")]
Layout = Annotated[
    LayoutName | None, typer.Option("--nemo-rl-layout", help="Layout of the run file; v0.5 is for NeMo RL 0.5 and earlier.", show_default="current")
]
NoConfig = Annotated[bool, typer.Option("--no-config", "--config-none", help="Do not write a run file.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Report what would be read, dropped and written, without writing anything.")]
MemoryLimit = Annotated[
    str | None, typer.Option("--memory-limit", metavar="SIZE", help="Stay within this much memory, as in 2GB.", show_default="half of the memory")
]
TempDir = Annotated[
    Path | None, typer.Option("--temp-dir", metavar="DIR", help="Keep intermediate results here so an interrupted run can resume.", show_default="when needed")
]
Engine = Annotated[EngineName, typer.Option("--engine", help="Where to do the work: in this process, or on a Ray cluster (needs the ray extra).")]
RayAddress = Annotated[str | None, typer.Option("--ray-address", metavar="ADDRESS", help="Ray cluster to connect to.", show_default="auto")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, max=256, help="Threads to use.", show_default="all")]
Json = Annotated[bool, typer.Option("--json", help="Print the run report as JSON on standard output.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Do not print a summary.")]
Progress = Annotated[ProgressName, typer.Option("--progress", help="Progress display: live on a terminal (auto), periodic lines (plain) or none.")]
LogAs = Annotated[LogFormat, typer.Option("--log-format", help="Format of standard error: text or JSON lines.")]
Profile = Annotated[Path | None, typer.Option("--profile", metavar="FILE", help="Write a JSON profile of time and memory by stage.", show_default=False)]
TokenIds = Annotated[bool, typer.Option("--token-ids", help="trl, sft: write the sampled tokens instead of messages.")]
