"""A pipeline file to start from, written after looking at the rollouts."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rollout_etl.plain_text import counted
from rollout_etl.read.inputs import NAMED
from rollout_etl.read.scan import Rollouts
from rollout_etl.stats.narrow import narrow
from rollout_etl.stats.profile import profile

_FILES = {"sft": "sft.jsonl", "dpo": "dpo.jsonl", "grpo": "grpo.jsonl"}


def pipeline_for(inputs: Sequence[str], folder: Path, publish: str, max_bad_fraction: float) -> str:
    """Text of a pipeline file for `folder`. Raises `UsageError` and `UnreadableError` as a run does."""
    rollouts = Rollouts(inputs)
    data = narrow(rollouts)
    rollouts.check_bad_fraction(max_bad_fraction)
    found = profile(data)
    reward = found["overall"]["reward"]
    mean = "" if reward is None else f", mean reward {reward['mean']:.3g}"
    seen = f"{counted(len(data.rollouts), 'rollout')} in {counted(len(rollouts.inputs), 'file')}{mean}"
    paths = [_named_in(folder, path) for path in inputs]
    head = f"""# What `rollout-etl refresh` makes from which rollouts. Written for {seen}.

# Files, folders and globs, as on the command line. ${{NAME}} is replaced from the environment.
inputs = [{', '.join(map(_toml, paths))}]
# Each refresh that finds something new makes a version here; {_toml(publish)[1:-1]}/current points to the one to use.
publish = {_toml(publish)}
keep-versions = 5

# Options of all outputs, named as on the command line.
[options]
max-bad-fraction = {max_bad_fraction}

# A version is published only if it satisfies these bounds.
[gates]
min-rows = 1
max-row-change = 0.5
# max-drop-fraction = 0.9
# max-reward-drift = 0.1
# flags = "error"
"""
    return head + "".join(_output(recipe, examples) for recipe, examples in _examples(found).items()) + """
# [notify]
# on-failure = "mail -s 'refresh failed' you@example.org"   # the report is passed on standard input
# prometheus = "/var/lib/node_exporter/rollout_etl.prom"
"""


def _named_in(folder: Path, path: str) -> str:
    """An input of the command line, as written in a pipeline file in `folder`."""
    named = None if os.path.exists(path) else NAMED.fullmatch(path)
    if named:
        return f"{named[1]}={_named_in(folder, named[2])}"
    return path if "://" in path or os.path.isabs(path) else os.path.relpath(path, folder)


def _toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _examples(found: dict[str, Any]) -> dict[str, int]:
    """How many examples each recipe would get."""
    candidates = found["candidates"]
    return {"sft": candidates["sft"]["examples"], "dpo": candidates["dpo"]["pairs"]["0.2"], "grpo": candidates["grpo"]["with_ground_truth"]}


def _output(recipe: str, examples: int) -> str:
    lines = [f"# About {examples:,} examples now." if examples else "# No examples now: uncomment these lines to make it nevertheless."]
    body = ["[[output]]", f'file = "{_FILES[recipe]}"', f'recipe = "{recipe}"', 'target = "nemo-rl"   # or trl, verl, openrlhf']
    body += ["reward-threshold = 0.95"] if recipe == "sft" else ["min-gap = 0.2"] if recipe == "dpo" else []
    return "\n" + "\n".join(lines + (body if examples else [f"# {line}" for line in body])) + "\n"
