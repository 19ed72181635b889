"""What Python is told about calls that make no sense."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rollout_etl
from rollout_etl import Curation, DpoOptions, SftOptions
from rollout_etl.errors import UsageError
from tests.command import tree


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda source, output: rollout_etl.write(source, output, recipe="sft", options=DpoOptions()), "options are DpoOptions; sft takes SftOptions"),
        (lambda source, output: rollout_etl.write(source, output, recipe="rm", options=DpoOptions()), "options are DpoOptions; rm takes RmOptions"),
        (lambda source, output: rollout_etl.write(source, output, recipe="sft", reward_threshold=0.5), "no option 'reward_threshold'; options of the recipe go into SftOptions"),
        (lambda source, output: rollout_etl.write(source, output, recipe="sft", theads=1), "no option 'theads'; did you mean threads?; options of the recipe go into SftOptions"),
        (lambda source, output: rollout_etl.write(source, output, recipe="sft", options={"seed": 1}), "options are dict; sft takes SftOptions"),
        (lambda source, output: rollout_etl.write(source, output, recipe="sft", think="nope"), "think is 'nope', which is none of 'keep', 'strip', 'move'"),
        (lambda source, output: rollout_etl.write(source, output, recipe="sft", options=SftOptions(format="nope")), "format is 'nope', which is none of 'openai', 'simple'"),
        (lambda source, output: rollout_etl.write(source, output, recipe="sft", target="trl", extra="reward"), "extra takes several texts: write ['reward']"),
        (lambda source, output: Curation(dedup="response"), "dedup takes several texts: write ['response']"),
        (lambda source, output: SftOptions(keep="masked"), "keep takes several texts: write ['masked']"),
        (lambda source, output: rollout_etl.write(source, output, recipe="sft", memory_limit="2 apples"), "--memory-limit 2 apples: not a size"),
        (lambda source, output: rollout_etl.transform_rollouts([], "sft", tool_call_style="nope"), "tool_call_style is 'nope', which is none of 'nested', 'flat'"),
        (lambda source, output: rollout_etl.transform_rollouts(str(source), "sft"), "transform_rollouts takes a list of rollouts as dicts; for files there is write"),
        (lambda source, output: rollout_etl.transform_rollouts({"reward": 1.0}, "sft"), "transform_rollouts takes a list of rollouts as dicts; for files there is write"),
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


def test_paths_and_sizes_may_be_texts(folder: Path) -> None:
    report = rollout_etl.write(
        folder / "rollouts.jsonl", folder / "out.jsonl", recipe="sft", quarantine=str(folder / "bad.jsonl"), memory_limit="2GB", max_bad_fraction=0.05
    )
    assert report["rollouts"]["quarantined"] == 1
    assert (folder / "bad.jsonl").read_bytes().count(b"\n") == 1
