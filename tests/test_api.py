"""What Python is told about calls that make no sense."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rollout_etl
from rollout_etl import Curation, DpoOptions, RmOptions, SftOptions
from rollout_etl.errors import UsageError
from rollout_etl.publish.outputs import Sharding
from rollout_etl.read.canonical import Lookup
from tests.command import tree


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda source, output: rollout_etl.write(source, output, recipe="sft", options=DpoOptions()), "the recipe sft takes SftOptions, not DpoOptions"),
        (lambda source, output: rollout_etl.write(source, output, recipe="rm", options=DpoOptions()), "the recipe rm takes RmOptions, not DpoOptions"),
        (lambda source, output: rollout_etl.write(source, output, recipe="sft", reward_threshold=0.5), "no option 'reward_threshold'; options of the recipe go into SftOptions"),
        (lambda source, output: rollout_etl.write(source, output, recipe="sft", theads=1), "no option 'theads'; did you mean threads?; options of the recipe go into SftOptions"),
        (lambda source, output: rollout_etl.write(source, output, recipe="sft", options={"seed": 1}), "the recipe sft takes SftOptions, not dict"),
        (lambda source, output: rollout_etl.write(source, output, recipe="sft", think="nope"), "think is 'nope', which is not one of 'keep', 'strip', 'move'"),
        (lambda source, output: rollout_etl.write(source, output, recipe="sft", options=SftOptions(format="nope")), "format is 'nope', which is not one of 'openai', 'simple'"),
        (lambda source, output: rollout_etl.write(source, output, recipe="sft", target="trl", extra="reward"), "extra takes several texts: write ['reward']"),
        (lambda source, output: Curation(dedup="response"), "dedup takes several texts: write ['response']"),
        (lambda source, output: SftOptions(keep="masked"), "keep takes several texts: write ['masked']"),
        (lambda source, output: rollout_etl.write(source, output, recipe="sft", memory_limit="2 apples"), "--memory-limit 2 apples is not a size"),
        (lambda source, output: rollout_etl.transform_rollouts([], "sft", tool_call_style="nope"), "tool_call_style is 'nope', which is not one of 'nested', 'flat'"),
        (lambda source, output: rollout_etl.transform_rollouts(str(source), "sft"), "transform_rollouts takes a list of rollouts as dicts; for files, use write"),
        (lambda source, output: rollout_etl.transform_rollouts({"reward": 1.0}, "sft"), "transform_rollouts takes a list of rollouts as dicts; for files, use write"),
        (lambda source, output: rollout_etl.transform_rollouts([], "sft", min_gap=1), "no option 'min_gap'"),
        (lambda source, output: rollout_etl.transform_rollouts([], "sft", reward_treshold=1), "no option 'reward_treshold'; did you mean reward_threshold?"),
        (lambda source, output: rollout_etl.transform_rollouts([], "sftt"), "no target format 'sftt'; formats are "),
    ],
)
def test_what_makes_no_sense_is_refused(call: Callable[[Path, Path], Any], said: str, folder: Path) -> None:
    before = tree(folder)
    with pytest.raises(UsageError) as caught:
        call(folder / "good.jsonl", folder / "out.jsonl")
    assert str(caught.value).startswith(said)
    assert tree(folder) == before


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda source: rollout_etl.scan_rollouts(source, think="nope"), "think is 'nope', which is not one of 'keep', 'strip', 'move'"),
        (lambda source: rollout_etl.scan_rollouts(source, arguments=3), "arguments is 3, which is not one of 'object', 'string'"),
        (lambda source: rollout_etl.scan_rollouts(source, max_bad_fraction="x"), "max_bad_fraction takes a number, not 'x'"),
        (lambda source: rollout_etl.scan_rollouts(source, max_bad_fraction=2), "max_bad_fraction 2 is not in the range 0<=x<=1"),
        (lambda source: rollout_etl.scan_rollouts(source, group_by=5), "group_by takes text or a list of texts, not 5"),
        (lambda source: rollout_etl.scan_rollouts(5), "inputs must be a path or a list of paths, not 5"),
        (lambda source: rollout_etl.scan_rollouts([5]), "the input 5 is not a path"),
        (lambda source: rollout_etl.write(source, None, recipe="sft"), "output takes a path, not None"),
        (lambda source: rollout_etl.write(source, "o.jsonl", recipe=["sft"]), "recipe takes text, not ['sft']"),
        (lambda source: rollout_etl.write(source, "o.jsonl", recipe="sft", options=SftOptions), "the recipe sft takes SftOptions, not type"),
        (lambda source: rollout_etl.write(source, "o.jsonl", recipe="sft", curation={"where": "x"}), "curation takes a Curation, not {'where': 'x'}"),
        (lambda source: rollout_etl.write(source, "o.jsonl", recipe="sft", max_bad_fraction=-1), "max_bad_fraction -1 is not in the range 0<=x<=1"),
        (lambda source: rollout_etl.write(source, "o.jsonl", recipe="sft", threads=0), "threads 0 is not in the range x>=1"),
        (lambda source: rollout_etl.write(source, "o.jsonl", recipe="sft", dry_run="yes"), "dry_run takes True or False, not 'yes'"),
        (lambda source: Sharding(), "Sharding takes one of size, count and rows, not none"),
        (lambda source: Sharding(size=1, rows=1), "Sharding takes one of size, count and rows, not size and rows"),
        (lambda source: Sharding(count=0), "count 0 is not in the range x>=1"),
        (lambda source: Lookup(group_by=5), "group_by takes a list of texts, not 5"),
        (lambda source: SftOptions(reward_threshold="x"), "reward_threshold takes a number, not 'x'"),
        (lambda source: SftOptions(reward_threshold=True), "reward_threshold takes a number, not True"),
        (lambda source: SftOptions(seed=1.5), "seed takes a whole number, not 1.5"),
        (lambda source: Curation(sample=5), "sample takes text or None, not 5"),
        (lambda source: Curation(near="x"), "near takes a number, not 'x'"),
        (lambda source: Curation(per_group="2"), "per_group takes a whole number or None, not '2'"),
        (lambda source: Curation(advantage="x"), "advantage is 'x', which is not one of 'grpo', 'rloo', 'max-rl'"),
        (lambda source: rollout_etl.configure("sft", target="trl", train=5), "train takes text or a path, not 5"),
        (lambda source: rollout_etl.configure("sft", target="trl", train=source, batch="x"), "batch takes a whole number or None, not 'x'"),
        (lambda source: rollout_etl.merge([source], "o.jsonl", reward_scale="0,1:0,2"), "reward_scale takes several texts: write ['0,1:0,2']"),
        (lambda source: rollout_etl.merge(5, "o.jsonl"), "inputs must be a path or a list of paths, not 5"),
        (lambda source: rollout_etl.connect(source, threads=0), "threads 0 is not in the range x>=1"),
        (lambda source: rollout_etl.transform_rollouts([{"reward": object()}], "sft"), "a rollout is not JSON: "),
        (lambda source: rollout_etl.sft_examples(rollout_etl.scan_rollouts(source), DpoOptions()), "the recipe sft takes SftOptions, not DpoOptions"),
        (lambda source: rollout_etl.preference_pairs(rollout_etl.scan_rollouts(source), SftOptions()), "the recipe dpo takes DpoOptions, not SftOptions"),
        (lambda source: rollout_etl.selected(rollout_etl.scan_rollouts(source), per_group=0), "--per-group must be at least 1"),
        (lambda source: rollout_etl.without_near_copies(rollout_etl.scan_rollouts(source), threshold=5), "--near 5 must be from 0.3 to 1"),
        (lambda source: rollout_etl.where_group(rollout_etl.scan_rollouts(source), 5), "where_group takes text or None, not 5"),
        (lambda source: rollout_etl.with_part(rollout_etl.scan_rollouts(source), 5), "split takes text or None, not 5"),
        (lambda source: rollout_etl.with_tokens(rollout_etl.scan_rollouts(source), 5), "tokenizer takes text, not 5"),
        (lambda source: rollout_etl.rescored(rollout_etl.scan_rollouts(source), reward_scale="0,1:0,2"), "reward_scale takes several texts: write ['0,1:0,2']"),
        (lambda source: rollout_etl.without_prompts(rollout_etl.scan_rollouts(source), ["a"]), "texts must be a Series of String"),
    ],
)
def test_values_of_another_kind_are_refused_before_anything_is_read(call: Callable[[Path], Any], said: str, folder: Path) -> None:
    before = tree(folder)
    with pytest.raises(UsageError) as caught:
        call(folder / "good.jsonl")
    assert str(caught.value).startswith(said)
    assert tree(folder) == before


def test_a_pair_recipe_takes_the_options_of_both_its_names(folder: Path) -> None:
    rollouts = rollout_etl.scan_rollouts(folder / "good.jsonl")
    assert rollout_etl.preference_pairs(rollouts, RmOptions()).collect().equals(rollout_etl.preference_pairs(rollouts, DpoOptions()).collect())


def test_no_public_name_is_that_of_a_module() -> None:
    """Importing the module would put it in the place of what has its name."""
    modules = {module.name for module in pkgutil.iter_modules(rollout_etl.__path__)}
    assert not modules & set(rollout_etl.__all__)


def test_paths_and_sizes_may_be_texts(folder: Path) -> None:
    report = rollout_etl.write(
        folder / "rollouts.jsonl", folder / "out.jsonl", recipe="sft", quarantine=str(folder / "bad.jsonl"), memory_limit="2GB", max_bad_fraction=0.05
    )
    assert report["rollouts"]["quarantined"] == 1
    assert (folder / "bad.jsonl").read_bytes().count(b"\n") == 1
