"""Pipeline files: words that are not known, what `init` writes, the schema, and the page that tells of them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from rollout_etl.refresh.gates import GATES
from rollout_etl.refresh.pipeline import NOTIFY, TOP, load
from tests.command import run
from tests.pipelines import PIPELINE, laid_out, lines, refresh, refreshed


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
        ("keep-versions = 3", "pinned = 3", "pinned must be a list"),
        ('file = "sft.jsonl"', 'file = "s\\nft.jsonl"', "holds a control character"),
        ("keep-versions = 3", "keep-version = 3", "has no key 'keep-version'; the nearest is keep-versions"),
        ("reward-threshold = 0.5", "reward-treshold = 0.5", "[output sft.jsonl] has no key 'reward-treshold'; the nearest is reward-threshold"),
        ("reward-threshold = 0.5", 'reward-threshold = "high"', "pipeline.toml: [output sft.jsonl] Invalid value for '--reward-threshold'"),
        ("reward-threshold = 0.5", "reward-threshold = [0.1, 0.5]", "pipeline.toml: [output sft.jsonl] reward-threshold takes one value"),
        ("reward-threshold = 0.5", 'keep = ["nope"]', "pipeline.toml: [output sft.jsonl] no rule 'nope'"),
        ("reward-threshold = 0.5", 'where = "nope > 1"', "pipeline.toml: [output sft.jsonl] --where names 'nope', which is not a column"),
        ('recipe = "dpo"', 'recipe = "dpr"', "no recipe 'dpr'; recipes are sft, dpo, grpo, kto, rm, ppo"),
        ('file = "pairs.parquet"', 'file = "../pairs.parquet"', "must be a name without folders"),
        ('file = "pairs.parquet"', 'file = "sft.jsonl"', "two outputs are named sft.jsonl"),
        ('inputs = ["rollouts"]', 'inputs = ["${NO_SUCH_THING}/x"]', "the environment variable NO_SUCH_THING is not set"),
        ('inputs = ["rollouts"]', "inputs = [", "is not TOML"),
        ('publish = "training"', 'publish = "~/training"', "~/training begins with ~, which is not replaced in a pipeline file: write ${HOME} instead of ~"),
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


def test_the_schema_is_of_no_inputs(folder: Path) -> None:
    done = run("init", "--schema", "rollouts", folder=folder)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1) and "--schema prints the schema" in done.stderr


def test_the_schema_knows_the_words(folder: Path) -> None:
    schema = json.loads(run("init", "--schema", folder=folder).stdout)
    assert set(schema["properties"]) == {"inputs", "publish", "keep-versions", "pinned", "options", "output", "gates", "notify"}
    by_recipe = {case["then"]["properties"]["recipe"]["const"]: case["then"]["properties"] for case in schema["properties"]["output"]["items"]["allOf"]}
    assert by_recipe["sft"]["reward-threshold"]["type"] == "number"
    assert by_recipe["dpo"]["strategy"]["enum"][0] == "same_prompt"
    assert "min-gap" not in by_recipe["sft"]
    assert by_recipe["kto"]["keep"] == {"type": "array", "items": {"type": "string"}, "description": "Turn this rule off."}


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


@pytest.mark.parametrize(
    ("first", "second", "name"),
    [
        ('file = "s.jsonl"\nval = 0.5', 'file = "s.val.jsonl"', "s.val.jsonl"),
        ('file = "s.jsonl"', 'file = "s.jsonl.manifest.json"\nshards = 1', "s.jsonl.manifest.json"),
        ('file = "s.jsonl"', 'file = "s.jsonl.nemo-rl.yaml"\nshards = 1', "s.jsonl.nemo-rl.yaml"),
        ('file = "README.md"\nshards = 1', 'file = "s.jsonl"', "README.md"),
        ('file = "s.jsonl"', 'file = "version.json"\nshards = 1', "version.json"),
    ],
)
def test_files_of_two_outputs_are_never_one(folder: Path, first: str, second: str, name: str) -> None:
    outputs = "".join(f'[[output]]\n{one}\nrecipe = "sft"\nreward-threshold = 0.5\n' for one in (first, second))
    (folder / "pipeline.toml").write_text(f'inputs = ["rollouts"]\npublish = "training"\n{outputs}')
    done = run("refresh", "pipeline.toml", folder=folder)
    assert (done.returncode, f"{name} is written by " in done.stderr) == (2, True), done.stderr
    assert not (folder / "training").exists()


def test_what_options_stand_for_is_part_of_a_version(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = folder / "tasks"
    tasks.mkdir()
    options = 'max-bad-fraction = 0.2\nreward-threshold = "${LEAST}"\ntask-inputs = "tasks"'
    text = PIPELINE.replace("max-bad-fraction = 0.2", options).replace("reward-threshold = 0.5\n", "").split("[[output]]\nfile = \"pairs")[0]
    (folder / "pipeline.toml").write_text(text)
    for least, said, published in (("0.5", "a", True), ("0.5", "a", False), ("0.4", "a", True), ("0.4", "b", True), ("0.4", "b", False)):
        monkeypatch.setenv("LEAST", least)
        (tasks / "night0.jsonl").write_text(f'{{"_ng_task_index": 0, "responses_create_params": {{"input": "{said}"}}}}\n')
        assert refreshed(folder).published is published


def test_names_of_files_are_part_of_a_version_where_rows_hold_them(folder: Path) -> None:
    one, other = (folder / "rollouts" / f"night-part{number}.jsonl" for number in (1, 2))
    (folder / "rollouts" / "night0.jsonl").rename(one)
    for extra, published in (("source", True), ("line", False)):
        (folder / "pipeline.toml").write_text(PIPELINE.replace('recipe = "dpo"', f'recipe = "dpo"\nextra = ["{extra}"]'))
        assert refreshed(folder).published
        one.rename(other)
        assert refreshed(folder).published is published
        other.rename(one)
        assert refreshed(folder).published is published
    one.rename(other)
    said = run("refresh", "pipeline.toml", folder=folder).stderr.splitlines()
    assert (said[0], said[-1]) == (f"new          {other.relative_to(folder)}", "nothing new; current is version 4")


@pytest.mark.parametrize(
    ("place", "inputs"),
    [("g*", ["rollouts/*.jsonl"]), ("run[1]", ["rollouts/*.jsonl", "more/**/*.jsonl"]), ("dt=2026-01-01", ["rollouts/*.jsonl"]), ("dt=1", ["rollouts"])],
)
def test_the_name_of_the_folder_is_no_glob_and_no_name(tmp_path: Path, place: str, inputs: list[str]) -> None:
    inner = tmp_path / place
    (inner / "more" / "deep").mkdir(parents=True)
    laid_out(inner, PIPELINE.replace('inputs = ["rollouts"]', f"inputs = {json.dumps(inputs)}"))
    (inner / "more" / "deep" / "night1.jsonl").write_bytes(lines(1))
    (tmp_path / "gXX").mkdir()
    done = run("refresh", f"{place}/pipeline.toml", "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads((inner / "training" / "current" / "version.json").read_text())
    assert [Path(source["path"]).parts[:2] for source in record["inputs"]] == [(place, Path(one).parts[0]) for one in inputs]
    assert not any(source["namespace"].startswith("dt=") for source in record["inputs"])


def test_files_of_options_are_seen_from_the_pipeline_file_alone(folder: Path) -> None:
    inner = folder / "inner"
    inner.mkdir()
    text = PIPELINE.replace('inputs = ["rollouts"]', 'inputs = ["../rollouts"]').replace("max-bad-fraction = 0.2", 'max-bad-fraction = 0.2\nexclude-prompts = "benchmark.txt"')
    (inner / "pipeline.toml").write_text(text)
    (folder / "benchmark.txt").write_text("question 0-1\n")
    done = run("refresh", "inner/pipeline.toml", folder=folder)
    assert done.returncode == 2 and "inner/benchmark.txt" in done.stderr
    (inner / "benchmark.txt").write_text("nothing\n")
    (inner / "pipeline.toml").write_text(text.replace("[[output]]", '[[output]]\ntemp-dir = "scratch"', 1))
    assert run("refresh", "inner/pipeline.toml", folder=folder).returncode == 0
    assert not (folder / "scratch").exists()


def test_init_keeps_names_and_writes_toml(folder: Path) -> None:
    (folder / "sub").mkdir()
    done = run("init", "math=rollouts/night0.jsonl", "-o", "sub/p.toml", "--publish", "a\nb\x7f", folder=folder)
    assert done.returncode == 0, done.stderr
    found = load(folder / "sub" / "p.toml")
    assert (found.inputs, found.publish) == (("math=../rollouts/night0.jsonl",), folder / "sub" / "a\nb\x7f")


def test_cards_are_yaml(folder: Path) -> None:
    yaml = pytest.importorskip("yaml")
    names = ["a: b.jsonl", "# x.jsonl", "null.jsonl", "1.jsonl", "ä.jsonl"]
    outputs = "".join(f'[[output]]\nfile = "{name}"\nrecipe = "sft"\nreward-threshold = 0.5\n' for name in names)
    (folder / "pipeline.toml").write_text(f'inputs = ["rollouts"]\npublish = "training"\n{outputs}')
    refreshed(folder)
    head = (folder / "training" / "current" / "README.md").read_text().split("---\n")[1]
    found = yaml.safe_load(head)["configs"]
    assert [one["config_name"] for one in found] == [name.removesuffix(".jsonl") for name in names]
    assert [one["data_files"] for one in found] == [[{"split": "train", "path": name}] for name in names]
