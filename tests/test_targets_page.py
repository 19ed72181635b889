"""The tables of docs/targets.md are what the code says."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rollout_etl import targets
from rollout_etl.publish.rows import Field
from rollout_etl.recipes.options import RECIPES
from rollout_etl.targets.target import Job, Loader, Rows
from tests.command import COMMAND, ROOT

TRAINERS = ("nemo-rl", "trl", "verl", "openrlhf")
GYM = {
    "prompt": "`responses_create_params.input`, `instructions`",
    "completion": "`response.output`: reasoning, calls, results, answers",
    "tools": "`responses_create_params.tools`",
    "prompt_text": "the last user message of the input",
    "response_text": "the last assistant message of the output",
    "ground_truth_text": "`expected_answer` and [others](reading.md#ground-truth)",
    "reward": "`reward`",
    "reward_gap": "`reward` of both sides",
    "label": "`reward` against the threshold",
    "task_name": "`task_name`",
    "agent_name": "`agent_ref.name`",
    "task_key": "`_ng_task_index`, or [other keys](reading.md#keys)",
    "row": "the row's place in the input",
    "gym_row": "the row without response and scores",
}
"""Where NeMo Gym keeps what each canonical column holds; the order is that of the table."""
ROWS: dict[str, list[tuple[str, str | None, str]]] = {
    "`trl`, messages: `sft`, `dpo`, `kto`, `rm`": [(recipe, None, ".parquet") for recipe in ("sft", "dpo", "kto", "rm")],
    "`trl`, messages: `grpo`": [("grpo", None, ".parquet")],
    "`trl`, messages in `.jsonl`: `sft`, `dpo`, `kto`, `rm`": [(recipe, None, ".jsonl") for recipe in ("sft", "dpo", "kto", "rm")],
    "`trl`, messages in `.jsonl`: `grpo`": [("grpo", None, ".jsonl")],
    "`trl --as text`: `sft`, `dpo`, `kto`, `rm`": [(recipe, "text", ".parquet") for recipe in ("sft", "dpo", "kto", "rm")],
    "`trl --as text`: `grpo`": [("grpo", "text", ".parquet")],
    "`verl`: `sft`": [("sft", None, ".parquet")],
    "`verl --as messages`: `sft`": [("sft", "messages", ".parquet")],
    "`verl`: `rm`": [("rm", None, ".parquet")],
    "`verl`: `grpo`, `ppo`": [("grpo", None, ".parquet"), ("ppo", None, ".parquet")],
    "`openrlhf`, messages: `sft`, `dpo`, `rm`": [(recipe, None, ".jsonl") for recipe in ("sft", "dpo", "rm")],
    "`openrlhf`, messages: `grpo`, `ppo`": [("grpo", None, ".jsonl"), ("ppo", None, ".jsonl")],
    "`openrlhf --as text`: `sft`, `dpo`, `rm`": [(recipe, "text", ".jsonl") for recipe in ("sft", "dpo", "rm")],
    "`openrlhf --as text`: `grpo`, `ppo`": [("grpo", "text", ".jsonl"), ("ppo", "text", ".jsonl")],
}


def page() -> str:
    return (ROOT / "docs" / "targets.md").read_text(encoding="utf-8")


def table(title: str) -> list[list[str]]:
    """Rows of the first table under a title, without its head."""
    section = page().split(f"\n## {title}\n")[1].split("\n## ")[0]
    found = re.search(r"(?:^\|.*\n)+", section, flags=re.MULTILINE)
    assert found is not None
    return [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in found[0].splitlines()[2:]]


def jobs(name: str) -> Iterator[Rows]:
    """The rows of everything that a target can be asked for, and that are told apart by their columns."""
    target = targets.load(name)
    for recipe, found in target.LOADERS.items():
        for variant in target.VARIANTS[recipe] if isinstance(found, Loader) else ():
            options: dict[str, Any] = {key: value for key, value in variant.items() if key != "form"}
            if "no_ground_truth" in options or "token_ids" in options:
                continue
            job = Job(options=RECIPES[recipe](**options), output=Path("rows").with_suffix(found.containers[0]), form=variant.get("form"))  # type: ignore[arg-type, union-attr]
            yield target.rows(job, longer_prompts=True)


def leaves(of: Iterable[Field], prefix: str = "") -> Iterator[tuple[str, Field]]:
    for field in of:
        if field.kind == "struct":
            yield from leaves(field.members, f"{field.name}.")
        else:
            yield prefix + field.name, field


def written(name: str) -> dict[str, list[str]]:
    """Columns of a trainer's rows by the canonical column that they are made of."""
    found: dict[str, list[str]] = {}
    for rows in jobs(name):
        for column, field in leaves(rows.fields):
            for source in [source for made in field.sources for source in rows.prepared_from.get(made, (made,))]:
                columns = found.setdefault(source.removeprefix("chosen_").removeprefix("rejected_").removeprefix("plain_"), [])
                columns += [] if column in columns else [column]
    return found


def fields_table() -> list[list[str]]:
    by_trainer = {name: written(name) for name in TRAINERS}
    assert {source for found in by_trainer.values() for source in found} == set(GYM)
    return [
        [gym, f"`{source}`", *(", ".join(f"`{column}`" if column else "the whole row" for column in by_trainer[name].get(source, [])) for name in TRAINERS)]
        for source, gym in GYM.items()
    ]


def rules_table() -> list[list[str]]:
    made = []
    for label, cases in ROWS.items():
        name = label.strip("`").split("`")[0].split()[0].split(",")[0]
        target = targets.load(name)
        found = []
        for recipe, form, suffix in cases:
            rows = target.rows(Job(options=RECIPES[recipe](), output=Path(f"rows{suffix}"), form=form), longer_prompts=False)  # type: ignore[arg-type]
            more = [rule.name for rule in rows.example_rules if rule.name != "identical_sides"]
            found.append(", ".join(f"`{rule}`" for rule in [*(rows.cannot_hold or ()), *more]))
        assert len(set(found)) == 1, label
        made.append([label, found[0]])
    return made


def test_fields() -> None:
    assert table("Which field goes where") == fields_table()


def test_rules() -> None:
    assert table("What a trainer's rows cannot hold") == rules_table()


def test_every_target_has_its_row() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \|", page().split("\n## ")[0], flags=re.MULTILINE)
    assert {"nemo-rl", *rows} == set(targets.REGISTRY)


@pytest.mark.parametrize("command", ["sft", "dpo", "grpo", "kto", "rm", "ppo", "config"])
def test_options(command: str) -> None:
    done = subprocess.run([COMMAND, command, "--help"], capture_output=True, text=True, check=True, env={"COLUMNS": "200", "PATH": "/usr/bin:/bin"})
    options = set(re.findall(r"--[a-z][a-z-]+", done.stdout))
    documented = set(re.findall(r"`(--[a-z-]+)", page() + (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")))
    assert options - documented <= {"--help", "--config-none"}
