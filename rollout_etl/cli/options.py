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


Inputs = Annotated[list[str] | None, typer.Argument(metavar="INPUT", help="Files, folders, globs or URLs.", show_default=False)]
Input = Annotated[list[str] | None, typer.Option("--input", metavar="INPUT", help="The same as INPUT.", show_default=False)]
Output = Annotated[
    str | None, typer.Option("-o", "--output", metavar="FILE|DIR/", help="Training file, .jsonl or .parquet, or a folder of shards.", show_default=False)
]
Shards = Annotated[int | None, typer.Option("--shards", min=1, max=10_000, help="Make the output a folder of so many shards, rows dealt out in turn.")]
ShardSize = Annotated[
    str | None, typer.Option("--shard-size", metavar="SIZE", help="Make the output a folder of shards of this size.", show_default="256MB with -o DIR/")
]
ShardRows = Annotated[
    int | None, typer.Option("--shard-rows", min=1, metavar="N", help="Make the output a folder of shards of some N rows, cut where what they hold says so.")
]
Target = Annotated[str, typer.Option("--target", metavar="|".join(REGISTRY), help="Trainer to write for.")]
As = Annotated[FormName | None, typer.Option("--as", help="Not for nemo-rl: conversations as messages, last question and answer as text, or JSON text.")]
Arguments = Annotated[ArgumentsName | None, typer.Option("--arguments", help="Arguments of tool calls.", show_default="object")]
Extra = Annotated[
    list[str] | None, typer.Option("--extra", metavar="COLUMN", help="Not for nemo-rl: write this column as well, as in reward, pass_rate, metrics.accuracy.")
]
Map = Annotated[list[str] | None, typer.Option("--map", metavar="FIELD=SOURCE", help="custom: write this field from that column, as in prompt=input.")]
Think = Annotated[ThinkPolicy, typer.Option("--think", help="<think> text in answers: keep, strip, or move to reasoning_content.")]
Keep = Annotated[list[str] | None, typer.Option("--keep", metavar="RULE", help="Do not apply this rule.", show_default=False)]
Drop = Annotated[list[str] | None, typer.Option("--drop", metavar="RULE", help="Apply this rule as well.", show_default=False)]
GroundTruthField = Annotated[
    str | None, typer.Option("--ground-truth-field", metavar="PATH", help="Field that holds the ground truth, as in verifier_metadata.answer.")
]
TaskInputs = Annotated[str | None, typer.Option("--task-inputs", metavar="FILE", help="Tasks the rollouts were made from: ground truth is looked up there.")]
GroupBy = Annotated[str | None, typer.Option("--group-by", metavar="FIELD[,FIELD]", help="Fields that tell tasks apart.")]
Quarantine = Annotated[Path | None, typer.Option("--quarantine", metavar="FILE", help="Keep lines that are no rollouts here.", show_default=False)]
MaxBadFraction = Annotated[float, typer.Option("--max-bad-fraction", min=0.0, max=1.0, help="Largest share of lines that are no rollouts.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of random choices.")]
Layout = Annotated[
    LayoutName | None, typer.Option("--nemo-rl-layout", help="Layout of the run file; v0.5 for NeMo RL up to 0.5.", show_default="current")
]
NoConfig = Annotated[bool, typer.Option("--no-config", "--config-none", help="Write no run file.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be read, dropped and written, and write nothing.")]
MemoryLimit = Annotated[
    str | None, typer.Option("--memory-limit", metavar="SIZE", help="Memory to stay within, as in 2GB.", show_default="half of what there is")
]
TempDir = Annotated[
    Path | None, typer.Option("--temp-dir", metavar="DIR", help="Work in steps that are kept here, to go on from if the run dies.", show_default="when needed")
]
Engine = Annotated[EngineName, typer.Option("--engine", help="Where the work is done: in this process, or on a Ray cluster (extra: ray).")]
RayAddress = Annotated[str | None, typer.Option("--ray-address", metavar="ADDRESS", help="Cluster to connect to.", show_default="auto")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, max=256, help="Threads to use.", show_default="all")]
Json = Annotated[bool, typer.Option("--json", help="Print the run report as JSON on standard output.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="No summary.")]
Progress = Annotated[ProgressName, typer.Option("--progress", help="How far it is: moving on a terminal (auto), a line now and then, or none.")]
LogAs = Annotated[LogFormat, typer.Option("--log-format", help="What is said on standard error: text, or JSON lines.")]
Profile = Annotated[Path | None, typer.Option("--profile", metavar="FILE", help="Write here where time and memory went, as JSON.", show_default=False)]
TokenIds = Annotated[bool, typer.Option("--token-ids", help="trl, sft: write the tokens that were sampled, in place of messages.")]
