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
    "where": (
        Annotated[_Text, typer.Option("--where", metavar="EXPR", help="Keep rollouts that satisfy this condition, as in 'num_turns between 2 and 20'.")], None),
    "where_group": (
        Annotated[_Text, typer.Option("--where-group", metavar="EXPR", help="Keep groups that satisfy this condition, as in 'has_spread and n >= 4'.")], None),
    "success": (Annotated[float, typer.Option("--success", help="Smallest reward that counts as a success.")], 0.5),
    "dedup": (
        Annotated[list[str] | None, typer.Option("--dedup", metavar="WHAT", help="Drop copies: rollout, response, prompt, near-response, near-prompt.")],
        None),
    "near": (Annotated[float, typer.Option("--near", help="Jaccard similarity at or above which texts are near-copies.")], 0.8),
    "exclude_prompts": (
        Annotated[_Text, typer.Option("--exclude-prompts", metavar="FILE", help="Drop prompts listed in this file, such as those of a benchmark.")], None),
    "exclude_ngram": (
        Annotated[
            int, typer.Option("--exclude-ngram", metavar="N", help="Drop prompts sharing N consecutive words with an excluded one; 0: exact matches only.")
        ],
        13,
    ),
    "select": (
        Annotated[
            str, typer.Option("--select", metavar="WHICH", help="Which rollouts of each group to use: all, best, best-n=N, shortest-correct, first-correct.")
        ],
        "all",
    ),
    "per_group": (Annotated[int | None, typer.Option("--per-group", metavar="N", help="At most N rollouts per group.", show_default="no limit")], None),
    "cap": (
        Annotated[list[str] | None, typer.Option("--cap", metavar="COLUMN=N", help="At most N examples per value of a column, as in task_name=100.")], None),
    "mix": (Annotated[_Text, typer.Option("--mix", metavar="NAME=SHARE,...", help="Share of the examples for each task_name, as in math=0.6,code=0.4.")], None),
    "upsample": (Annotated[bool, typer.Option("--upsample", help="Reach the mix by repeating examples instead of dropping some.")], False),
    "sample": (Annotated[_Text, typer.Option("--sample", metavar="N|P%", help="Draw N examples, or P percent of them, using --seed.")], None),
    "shuffle": (
        Annotated[int | None, typer.Option("--shuffle", metavar="SEED", min=0, help="Shuffle the examples with this seed.", show_default="input order")], None),
    "val": (
        Annotated[float | None, typer.Option("--val", metavar="SHARE", help="Share of the prompts to set aside for validation.", show_default="none")], None),
    "split": (
        Annotated[
            _Text, typer.Option("--split", metavar="NAME=SHARE,...", help="Split the prompts, as in train=0.9,val=0.05,test=0.05.", show_default="none")
        ],
        None,
    ),
    "evenly": (Annotated[bool, typer.Option("--evenly", help="Make --sample draw equally from each reward, for a set to review.")], False),
    "stratify": (Annotated[bool, typer.Option("--stratify", help="Split each task separately.")], False),
    "split_near": (Annotated[bool, typer.Option("--split-near", help="Keep near-duplicate prompts in the same part.")], False),
    "reward": (Annotated[_Text, typer.Option("--reward", metavar="EXPR", help="Compute the reward from metrics, as in '0.7*correctness + 0.3*style'.")], None),
    "reward_scale": (
        Annotated[
            list[str] | None, typer.Option("--reward-scale", metavar="[NAME=]A,B:C,D", help="Map rewards from A..B to C..D, for one source or for all.")
        ],
        None,
    ),
    "advantage": (Annotated[AdvantageName | None, typer.Option("--advantage", help="Formula for the advantage column.", show_default="none")], None),
    "tokenizer": (
        Annotated[_Text, typer.Option("--tokenizer", metavar="FILE|NAME", help="Tokenizer that counts for --max-tokens.", show_default="none")], None),
    "max_tokens": (
        Annotated[int | None, typer.Option("--max-tokens", metavar="N", help="Drop rollouts with more than N tokens.", show_default="no limit")], None),
}
"""Types and defaults by the name of the field."""


def curation_of(given: dict[str, Any]) -> Curation:
    """The curation that the options ask for. Raises `UsageError`."""
    from rollout_etl.curate.options import Curation

    names = [name for name in OPTIONS if given[name] is not None and name != "val"]
    stated: dict[str, Any] = {name: tuple(value) if isinstance(value := given[name], list) else value for name in names}
    if given["val"] is not None:
        if given["split"] is not None:
            raise UsageError("--val and --split cannot be combined")
        if not 0 < given["val"] < 1:
            raise UsageError(f"--val {given['val']:g} must be a share between 0 and 1")
        stated["split"] = f"train={1 - given['val']:.12g},val={given['val']:.12g}"
    return Curation(**stated)
