"""The options of curation, which every recipe takes: the fields of `rollout_etl.curate.options.Curation`, `--val` for short."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rollout_etl.errors import UsageError

if TYPE_CHECKING:
    from rollout_etl.curate.options import Curation


class AdvantageName(StrEnum):
    grpo = "grpo"
    rloo = "rloo"
    max_rl = "max-rl"


_Text = str | None
OPTIONS: dict[str, tuple[Any, Any]] = {
    "where": (Annotated[_Text, typer.Option("--where", metavar="EXPR", help="Only rollouts of which this holds, as in 'num_turns between 2 and 20'.")], None),
    "where_group": (
        Annotated[_Text, typer.Option("--where-group", metavar="EXPR", help="Only groups of which this holds, as in 'has_spread and n >= 4'.")], None),
    "success": (Annotated[float, typer.Option("--success", help="Smallest reward that counts as a success of a group.")], 0.5),
    "dedup": (
        Annotated[list[str] | None, typer.Option("--dedup", metavar="WHAT", help="Leave copies out: rollout, response, prompt, near-response, near-prompt.")],
        None),
    "near": (Annotated[float, typer.Option("--near", help="Jaccard similarity from which on texts are near-copies.")], 0.8),
    "exclude_prompts": (Annotated[_Text, typer.Option("--exclude-prompts", metavar="FILE", help="Leave out prompts of benchmarks.")], None),
    "exclude_ngram": (Annotated[int, typer.Option("--exclude-ngram", metavar="N", help="Words in a row that must not be shared; 0: whole texts.")], 13),
    "select": (
        Annotated[str, typer.Option("--select", metavar="WHICH", help="Of each group: all, best, best-n=N, shortest-correct, first-correct.")], "all"),
    "per_group": (Annotated[int | None, typer.Option("--per-group", metavar="N", help="At most N rollouts of a group.", show_default="no limit")], None),
    "cap": (Annotated[list[str] | None, typer.Option("--cap", metavar="COLUMN=N", help="At most N examples for each value, as in task_name=100.")], None),
    "mix": (Annotated[_Text, typer.Option("--mix", metavar="NAME=SHARE,...", help="Shares of the examples by task_name, as in math=0.6,code=0.4.")], None),
    "upsample": (Annotated[bool, typer.Option("--upsample", help="Reach the mix by repeating examples.")], False),
    "sample": (Annotated[_Text, typer.Option("--sample", metavar="N|P%", help="Draw N examples, or P percent, by --seed.")], None),
    "shuffle": (Annotated[int | None, typer.Option("--shuffle", metavar="SEED", min=0, help="Shuffle the examples.", show_default="order of input")], None),
    "val": (Annotated[float | None, typer.Option("--val", metavar="SHARE", help="Share of the prompts for validation.", show_default="none")], None),
    "split": (Annotated[_Text, typer.Option("--split", metavar="NAME=SHARE,...", help="As in train=0.9,val=0.05,test=0.05.", show_default="none")], None),
    "evenly": (Annotated[bool, typer.Option("--evenly", help="--sample draws as many of each reward: a set to review.")], False),
    "stratify": (Annotated[bool, typer.Option("--stratify", help="Split each task by itself.")], False),
    "split_near": (Annotated[bool, typer.Option("--split-near", help="Keep near-duplicate prompts on one side.")], False),
    "reward": (Annotated[_Text, typer.Option("--reward", metavar="EXPR", help="Reward from metrics, as in '0.7*correctness + 0.3*style'.")], None),
    "reward_scale": (
        Annotated[list[str] | None, typer.Option("--reward-scale", metavar="[NAME=]A,B:C,D", help="Rewards from A..B to C..D, of a source or of all.")], None),
    "advantage": (Annotated[AdvantageName | None, typer.Option("--advantage", help="Formula of the column advantage.", show_default="none")], None),
    "tokenizer": (Annotated[_Text, typer.Option("--tokenizer", metavar="FILE|NAME", help="Tokenizer to count with.", show_default="none")], None),
    "max_tokens": (Annotated[int | None, typer.Option("--max-tokens", metavar="N", help="Drop rollouts with more tokens.", show_default="no limit")], None),
}
"""Types and defaults by the name of the field."""


def curation_of(given: dict[str, Any]) -> Curation:
    """What was asked for. Raises `UsageError`."""
    from rollout_etl.curate.options import Curation

    names = [name for name in OPTIONS if given[name] is not None and name != "val"]
    stated: dict[str, Any] = {name: tuple(value) if isinstance(value := given[name], list) else value for name in names}
    if given["val"] is not None:
        if given["split"] is not None:
            raise UsageError("--val and --split exclude each other")
        if not 0 < given["val"] < 1:
            raise UsageError(f"--val {given['val']:g} must be a share between 0 and 1")
        stated["split"] = f"train={1 - given['val']:.12g},val={given['val']:.12g}"
    return Curation(**stated)
