"""Pipeline files: words that are not known, what `init` writes, the schema, and the page that tells of them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from rollout_etl.refresh.gates import GATES
from rollout_etl.refresh.pipeline import NOTIFY, TOP, load
from tests.command import run
from tests.pipelines import PIPELINE, laid_out, refresh, refreshed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return laid_out(tmp_path, PIPELINE)


def test_inputs_with_names(folder: Path) -> None:
    text = PIPELINE.replace('inputs = ["rollouts"]', 'inputs = ["math=rollouts/night0.jsonl"]').replace("reward-threshold = 0.5", "reward-threshold = 0.5\nwhere = \"task_name = 'math'\"")
    (folder / "pipeline.toml").write_text(text)
    assert refreshed(folder).rows == {"sft.jsonl": 12, "pairs.parquet": 6}
    (folder / "pipeline.toml").write_text(text.replace('"math=', '"code='))
    assert refresh(folder)[1]["error"].startswith("not published: min-rows of sft.jsonl: 0")


def test_files_that_options_name_are_part_of_a_version(folder: Path) -> None:
    (folder / "pipeline.toml").write_text(PIPELINE.replace("max-bad-fraction = 0.2", 'max-bad-fraction = 0.2\nexclude-prompts = "benchmark.txt"'))
    for excluded, rows in (("nothing\n", 12), ("question 0-1\n", 10)):
        (folder / "benchmark.txt").write_text(excluded)
        done = refreshed(folder)
        assert (done.published, done.rows["sft.jsonl"]) == (True, rows)
    assert not refreshed(folder).published


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('publish = "training"', "", "publish is missing"),
        ("keep-versions = 3", "keep-version = 3", "has no key 'keep-version'; the nearest is keep-versions"),
        ("reward-threshold = 0.5", "reward-treshold = 0.5", "[output sft.jsonl] has no key 'reward-treshold'; the nearest is reward-threshold"),
        ("reward-threshold = 0.5", 'reward-threshold = "high"', "pipeline.toml: [output sft.jsonl] Invalid value for '--reward-threshold'"),
        ("reward-threshold = 0.5", "reward-threshold = [0.1, 0.5]", "pipeline.toml: [output sft.jsonl] reward-threshold takes one value"),
        ("reward-threshold = 0.5", 'keep = ["nope"]', "pipeline.toml: [output sft.jsonl] no rule 'nope'"),
        ("reward-threshold = 0.5", 'where = "nope > 1"', "pipeline.toml: [output sft.jsonl] --where names 'nope', which is no column"),
        ('recipe = "dpo"', 'recipe = "dpr"', "no recipe 'dpr'; recipes are sft, dpo, grpo, kto, rm, ppo"),
        ('file = "pairs.parquet"', 'file = "../pairs.parquet"', "must be a plain name"),
        ('file = "pairs.parquet"', 'file = "sft.jsonl"', "two outputs are called sft.jsonl"),
        ('inputs = ["rollouts"]', 'inputs = ["${NO_SUCH_THING}/x"]', "the environment has no NO_SUCH_THING"),
        ('inputs = ["rollouts"]', "inputs = [", "is no TOML"),
        ('inputs = ["rollouts"]', 'inputs = ["nothing-here"]', "no such file or folder"),
    ],
)
def test_wrong_pipelines(folder: Path, before: str, after: str, said: str) -> None:
    (folder / "pipeline.toml").write_text(PIPELINE.replace(before, after))
    done = run("refresh", "pipeline.toml", folder=folder)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert said in done.stderr


def test_init_writes_what_plan_takes(folder: Path) -> None:
    (folder / "pipeline.toml").unlink()
    assert run("init", "rollouts", folder=folder).returncode == 0
    report = json.loads(run("plan", "pipeline.toml", "--json", folder=folder).stdout)
    assert report["rows"] == {"sft.jsonl": 12, "dpo.jsonl": 6}
    assert run("init", "rollouts", folder=folder).returncode == 2


def test_the_schema_knows_the_words(folder: Path) -> None:
    schema = json.loads(run("init", "--schema", folder=folder).stdout)
    assert set(schema["properties"]) == {"inputs", "publish", "keep-versions", "pinned", "options", "output", "gates", "notify"}
    by_recipe = {case["then"]["properties"]["recipe"]["const"]: case["then"]["properties"] for case in schema["properties"]["output"]["items"]["allOf"]}
    assert by_recipe["sft"]["reward-threshold"]["type"] == "number"
    assert by_recipe["dpo"]["strategy"]["enum"][0] == "same_prompt"
    assert "min-gap" not in by_recipe["sft"]
    assert by_recipe["kto"]["keep"] == {"type": "array", "items": {"type": "string"}, "description": "Do not apply this rule."}


def test_page(tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent / "docs" / "refresh.md").read_text(encoding="utf-8")
    (tmp_path / "pipeline.toml").write_text(page.split("```toml\n")[1].split("```")[0])
    assert [output.file for output in load(tmp_path / "pipeline.toml").outputs] == ["sft.jsonl"]
    table = page.split("\n## Gates\n")[1].split("\n## ")[0]
    assert re.findall(r"`([a-z-]+)`", "".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| `"))) == list(GATES)
    assert all(f"`{word}`" in page or f"`[{word}]`" in page or f"`[[{word}]]`" in page for word in [*TOP, *NOTIFY])


@pytest.mark.parametrize("name", ["no-config", "no_config", "config-none"])
def test_options_go_by_all_their_names(name: str, folder: Path) -> None:
    (folder / "pipeline.toml").write_text(PIPELINE.replace("reward-threshold = 0.5", f"reward-threshold = 0.5\n{name} = true"))
    assert refreshed(folder).published
    assert not list((folder / "training" / "current").glob("sft.nemo-rl*"))


def test_a_file_may_be_named_in_a_list(folder: Path) -> None:
    (folder / "pipeline.toml").write_text(PIPELINE.replace("max-bad-fraction = 0.2", 'max-bad-fraction = 0.2\nexclude-prompts = ["benchmark.txt"]'))
    (folder / "benchmark.txt").write_text("question 0-1\n")
    assert refreshed(folder).rows["sft.jsonl"] == 10
