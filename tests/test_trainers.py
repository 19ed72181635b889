"""The commands for trainers: recipes that they lack, columns, run files for data that is there, refusals."""

from __future__ import annotations

import glob
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from rollout_etl import targets
from rollout_etl.errors import ExitCode
from rollout_etl.targets.target import Missing
from tests.command import ROOT, run

RELAXED = ("--max-bad-fraction", "0.05", "--quiet")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`in.jsonl` with a broken line, `good.jsonl` without."""
    shutil.copy(ROOT / "demo" / "rollouts.jsonl", tmp_path / "in.jsonl")
    lines = (tmp_path / "in.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "good.jsonl").write_bytes(b"".join(line for line in lines if line.endswith(b"}\n")))
    return tmp_path


def said(text: str, reward: float, question: str = "Which day?") -> dict[str, Any]:
    message = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}
    return {"responses_create_params": {"input": question}, "response": {"output": [message]}, "reward": reward, "expected_answer": "2024-01-01", "accuracy": 0.25}


def save(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize(("name", "recipe"), [(n, r) for n in targets.REGISTRY for r, found in targets.load(n).LOADERS.items() if isinstance(found, Missing)])
def test_recipes_that_a_trainer_lacks(name: str, recipe: str, folder: Path) -> None:
    done = run(recipe, "in.jsonl", "-o", "out.parquet", "--target", name, folder=folder)
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")
    assert done.stderr.count("\n") == 1 and "--target" in done.stderr
    assert not (folder / "out.parquet").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["sft", "in.jsonl", "-o", "o.jsonl", "--target", "nope"], 2, "no target 'nope'; targets are nemo-rl, trl, verl, openrlhf, custom"),
        (["sft", "in.jsonl", "-o", "o.jsonl", "--target", "verl"], 2, "verl loads sft from .parquet only; name the output o.parquet"),
        (["sft", "in.jsonl", "-o", "o.jsonl", "--target", "trl", "--format", "simple"], 2, "--format is for --target nemo-rl only"),
        (["dpo", "in.jsonl", "-o", "o.jsonl", "--target", "trl", "--with-rewards"], 2, "use --extra reward"),
        (["sft", "in.jsonl", "-o", "o.jsonl", "--as", "text"], 2, "--as is not for NeMo RL"),
        (["sft", "in.jsonl", "-o", "o.jsonl", "--extra", "reward"], 2, "--extra is not for NeMo RL"),
        (["sft", "in.jsonl", "-o", "o.jsonl", "--map", "a=input"], 2, "--map is for --target custom"),
        (["sft", "in.jsonl", "-o", "o.jsonl", "--target", "trl", "--as", "json"], 2, "--as json is not for TRL"),
        (["sft", "in.jsonl", "-o", "o.jsonl", "--target", "trl", "--extra", "nope"], 2, "no column 'nope'; columns are source"),
        (["sft", "in.jsonl", "-o", "o.jsonl", "--target", "trl", "--extra", "metrics.label"], 2, "cannot write a column named 'label'"),
        (["sft", "in.jsonl", "-o", "o.jsonl", "--target", "trl", "--extra", "metrics.input_ids"], 2, "cannot write a column named 'input_ids'"),
        (["grpo", "in.jsonl", "-o", "o.jsonl", "--target", "openrlhf", "--extra", "metrics.images"], 2, "named 'images'"),
        (["grpo", "in.jsonl", "-o", "o.parquet", "--target", "verl", "--extra", "task_key"], 2, "'task_key', which the rows have already"),
        (["grpo", "in.jsonl", "-o", "o.parquet", "--target", "verl", "--extra", "metrics.tools_kwargs"], 2, "named 'tools_kwargs'"),
        (["sft", "in.jsonl", "-o", "o.jsonl", "--target", "openrlhf", "--keep", "media"], 2, "--keep media: these rows hold only text"),
        (["grpo", "in.jsonl", "-o", "o.jsonl", "--target", "openrlhf", "--keep", "media"], 2, "--keep media: these rows hold only text"),
        (["ppo", "in.jsonl", "-o", "o.parquet", "--target", "verl", "--keep", "media"], 2, "--keep media: these rows hold only text"),
        (["sft", "in.jsonl", "-o", "o.parquet", "--target", "verl", "--as", "messages", "--keep", "media"], 2, "--keep media: these rows hold only text"),
        (["sft", "in.jsonl", "-o", "o.jsonl", "--format", "simple", "--keep", "media"], 2, "--keep media: these rows hold only text"),
        (["grpo", "in.jsonl", "-o", "o.parquet", "--target", "verl", "--keep", "tool_prompt"], 2, "cannot hold such rollouts"),
        (["sft", "in.jsonl", "-o", "o.parquet", "--target", "trl", "--token-ids", "--as", "text"], 2, "leave --as, --think and --arguments out"),
        (["sft", "in.jsonl", "-o", "a,b.jsonl", "--target", "openrlhf"], 2, "splits paths at commas"),
        (["sft", "in.jsonl", "-o", "o.jsonl", "--target", "openrlhf", "--arguments", "string"], 2, "written into the text"),
        (["sft", "in.jsonl", "-o", "o.jsonl", "--target", "custom"], 2, "needs --map FIELD=SOURCE"),
        (["sft", "in.jsonl", "-o", "o.jsonl", "--target", "custom", "--map", "prompt"], 2, "is not FIELD=SOURCE"),
        (["sft", "in.jsonl", "-o", "o.jsonl", "--target", "custom", "--map", "a=nope"], 2, "--map a=nope: no such source"),
        (["sft", "in.jsonl", "-o", "o.jsonl", "--target", "custom", "--map", "a=input", "--map", "a=output"], 2, "the column 'a' twice"),
        (["dpo", "in.jsonl", "-o", "o.jsonl", "--target", "custom", "--map", "a=output"], 2, "use chosen.output or rejected.output"),
        (["sft", "in.jsonl", "-o", "o.jsonl", "--target", "custom", "--as", "text", "--map", "a=messages"], 2, "is not available with --as text"),
        (["kto", "in.jsonl", "-o", "o.jsonl", "--target", "trl", "--low-threshold", "0.5"], 2, "must be less than --reward-threshold"),
        (["kto", "in.jsonl", "-o", "o.jsonl", "--target", "trl", "--max-bad-fraction", "1", "--reward-threshold", "-5"], 4, "labelled true, and KTO needs both"),
        (["kto", "in.jsonl", "-o", "o.jsonl", "--target", "trl", "--max-bad-fraction", "1", "--reward-threshold", "5"], 4, "labelled false, and KTO needs both"),
        (["ppo", "in.jsonl", "-o", "o.jsonl", "--nemo-rl-layout", "v0.5"], 2, "has no PPO"),
        (["sft", "in.jsonl", "-o", "o.jsonl", "--nemo-rl-layout", "v0.5", "--no-config"], 2, "--nemo-rl-layout and --no-config cannot be combined"),
        (["sft", "in.jsonl", "-o", "o.jsonl", "--nemo-rl-layout", "v0.5", "--target", "trl"], 2, "--nemo-rl-layout is for --target nemo-rl only"),
        (["config", "sft", "--train", "good.jsonl", "--target", "trl", "--nemo-rl-layout", "v0.5"], 2, "--nemo-rl-layout is for --target nemo-rl only"),
        (["config", "nope", "--train", "in.jsonl"], 2, "no recipe 'nope'"),
        (["config", "sft", "--train", "nope.jsonl"], 2, "no such file: nope.jsonl"),
        (["config", "sft", "--train", "good.jsonl"], 2, "good.jsonl lacks messages, which NeMo RL's"),
        (["config", "sft", "--train", "in.jsonl"], 3, "cannot read in.jsonl"),
        (["config", "kto", "--train", "in.jsonl"], 2, "NeMo RL has no KTO trainer"),
        (["config", "sft", "--target", "custom", "--train", "good.jsonl"], 2, "no run file for sft with --target custom"),
        (["config", "grpo", "--target", "verl", "--train", "in.parquet"], 2, "a validation file for grpo: name one with --val"),
        (["config", "grpo", "--train", "in.jsonl", "--reward-scale", "0,1:nan,inf"], 2, "--reward-scale 0,1:nan,inf: bounds must be finite"),
        (["config", "grpo", "--train", "in.jsonl", "--reward-scale", "math=0,1:-1,1"], 2, "a run file has one scale for all sources; write 0,1:-1,1"),
        (["config", "sft", "--train", "in.jsonl", "--reward-scale", "0,1:-1,1"], 2, "--reward-scale does not apply to sft"),
        (["config", "ppo", "--target", "openrlhf", "--train", "in.jsonl", "--max-rollout-turns", "3"], 2, "--max-rollout-turns does not apply to ppo"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_errors(arguments: list[str], code: int, words: str, folder: Path) -> None:
    before = sorted(folder.iterdir())
    done = run(*arguments, folder=folder)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert done.stderr.startswith("rollout-etl: ") and done.stderr.count("\n") == 1
    assert words in done.stderr
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("target", ["trl", "openrlhf"])
def test_dates_in_lines_are_refused(target: str, folder: Path) -> None:
    """In texts, and in the content of messages."""
    save(folder / "dates.jsonl", [said("2024-01-01", 1.0), said("2024-01-02", 0.0)])
    done = run("dpo", "dates.jsonl", "-o", "out.jsonl", "--target", target, folder=folder)
    assert done.returncode == ExitCode.USAGE
    assert "looks like a date" in done.stderr and "out.parquet" in done.stderr
    assert run("dpo", "dates.jsonl", "-o", "out.parquet", "--target", target, folder=folder).returncode == ExitCode.DONE


def test_late_types_in_lines_are_refused(folder: Path) -> None:
    """Tool calls after the first 10 MB stop a reader that has guessed its types by then."""
    call = {"type": "function_call", "name": "f", "call_id": "c", "arguments": "{}"}
    late = said("x", 1.0, "Last?")
    late["response"]["output"].insert(0, {"type": "function_call_output", "call_id": "c", "output": "y"})
    late["response"]["output"].insert(0, call)
    save(folder / "long.jsonl", [*(said(f"answer {n}", 1.0, f"{n} " + "x" * 100_000) for n in range(110)), late])
    done = run("sft", "long.jsonl", "-o", "out.jsonl", "--target", "trl", folder=folder)
    assert done.returncode == ExitCode.USAGE
    assert "completion may change type after the first 10 MB" in done.stderr
    save(folder / "long.jsonl", [late, *(said(f"answer {n}", 1.0, f"{n} " + "x" * 100_000) for n in range(110))])
    assert run("sft", "long.jsonl", "-o", "out.jsonl", "--target", "trl", folder=folder).returncode == ExitCode.DONE


def test_extra_columns(folder: Path) -> None:
    rows = [said("a", 1.0), said("b", 0.0), said("c", 0.75), {**said("d", 1.0), "mask_sample": True}]
    save(folder / "four.jsonl", rows)
    names = ["reward", "pass_rate", "mean_reward", "group_size", "metrics.accuracy", "line"]
    extra = [word for name in names for word in ("--extra", name)]
    assert run("sft", "four.jsonl", "-o", "sft.parquet", "--target", "trl", *extra, folder=folder).returncode == 0
    table = pq.read_table(folder / "sft.parquet").select(["reward", "pass_rate", "mean_reward", "group_size", "accuracy", "line"])
    assert table.to_pylist() == [{"reward": 1.0, "pass_rate": 2 / 3, "mean_reward": 1.75 / 3, "group_size": 3, "accuracy": 0.25, "line": 1}]
    assert run("dpo", "four.jsonl", "-o", "dpo.jsonl", "--target", "openrlhf", *extra, folder=folder).returncode == 0
    row = json.loads((folder / "dpo.jsonl").read_text())
    found = {name: value for name, value in row.items() if "messages" not in name}
    shared = {"pass_rate": 2 / 3, "mean_reward": 1.75 / 3, "group_size": 3}
    sides = {f"{side}_{name}": value for name, values in (("reward", (1.0, 0.0)), ("accuracy", (0.25, 0.25)), ("line", (1, 2)))
             for side, value in zip(("chosen", "rejected"), values, strict=True)}
    assert found == {**shared, **sides}


def test_both_labels_and_their_weights(folder: Path) -> None:
    save(folder / "some.jsonl", [said(f"{n}", reward) for n, reward in enumerate((1.0, 0.9, 0.8, 0.6, 0.4, 0.1))])
    done = run("kto", "some.jsonl", "-o", "kto.parquet", "--target", "trl", "--reward-threshold", "0.8", "--low-threshold", "0.1", "--json", folder=folder)
    report = json.loads(done.stdout)
    assert report["rollouts"]["dropped"] == {"between_thresholds": 2}
    assert report["examples"]["statistics"] == {"label_true": 3, "label_false": 1, "desirable_weight": 1.0, "undesirable_weight": 3.0}
    assert pq.read_table(folder / "kto.parquet")["label"].to_pylist() == [True, True, True, False]


def test_sources_of_a_mapping(folder: Path) -> None:
    save(folder / "two.jsonl", [said("a", 1.0), said("b", 0.0)])
    wanted = {"p": "input", "c": "chosen.output", "r": "rejected.response", "m": "margin", "cr": "chosen.reward", "a": "rejected.metrics.accuracy", "g": "ground_truth"}
    maps = [word for name, source in wanted.items() for word in ("--map", f"{name}={source}")]
    run("rm", "two.jsonl", "-o", "out.jsonl", "--target", "custom", *maps, folder=folder)
    answer = {name: [{"role": "assistant", "content": text}] for name, text in (("c", "a"), ("r", "b"))}
    numbers = {"m": 1.0, "cr": 1.0, "a": 0.25, "g": "2024-01-01"}
    assert json.loads((folder / "out.jsonl").read_text()) == {"p": [{"role": "user", "content": "Which day?"}], **answer, **numbers}
    run("rm", "two.jsonl", "-o", "out.jsonl", "--target", "custom", "--as", "text", *maps, folder=folder)
    assert json.loads((folder / "out.jsonl").read_text()) == {"p": "Which day?", "c": "a", "r": "b", **numbers}


@pytest.mark.parametrize(
    ("recipe", "target", "suffix", "more"),
    [
        ("sft", "nemo-rl", ".jsonl", []), ("dpo", "nemo-rl", ".jsonl", []), ("dpo", "nemo-rl", ".jsonl", ["--format", "preference"]),
        ("grpo", "nemo-rl", ".jsonl", []), ("grpo", "nemo-rl", ".jsonl", ["--format", "gym"]), ("ppo", "nemo-rl", ".jsonl", []),
        ("rm", "nemo-rl", ".jsonl", []), ("sft", "trl", ".parquet", []), ("kto", "trl", ".jsonl", []), ("grpo", "trl", ".parquet", ["--no-ground-truth"]),
        ("sft", "verl", ".parquet", []), ("sft", "verl", ".parquet", ["--as", "messages"]), ("sft", "openrlhf", ".jsonl", ["--as", "text"]),
        ("rm", "openrlhf", ".parquet", []), ("ppo", "openrlhf", ".jsonl", ["--with-responses"]),
    ],
)
def test_config_writes_what_the_recipe_wrote(recipe: str, target: str, suffix: str, more: list[str], folder: Path) -> None:
    assert run(recipe, "in.jsonl", "-o", f"out{suffix}", "--target", target, *more, *RELAXED, folder=folder).returncode == 0
    path = folder / f"out{suffix}{targets.load(target).RUN_SUFFIX}"
    written = path.read_text()
    path.unlink()
    done = run("config", recipe, "--target", target, "--train", f"out{suffix}", folder=folder)
    assert done.returncode == 0, done.stderr
    assert path.read_text() == written


def test_config_with_everything(folder: Path) -> None:
    run("grpo", "in.jsonl", "-o", "out.jsonl", *RELAXED, folder=folder)
    (folder / "val.jsonl").write_bytes((folder / "out.jsonl").read_bytes())
    asked = ["--val", "val.jsonl", "--model", "some/model", "--reward-scale", "0,1:-1,1", "--max-rollout-turns", "3", "--batch-size", "4"]
    assert run("config", "grpo", "--train", "out.jsonl", *asked, "-o", "run.yaml", folder=folder).returncode == 0
    text = (folder / "run.yaml").read_text()
    for part in (
        "num_prompts_per_step: 4", "max_rollout_turns: 3", "source_min: 0.0, source_max: 1.0, target_min: -1.0, target_max: 1.0", 'model_name: "some/model"',
        "validation:\n    dataset_name: ResponseDataset", "max_val_samples: 11",
    ):
        assert part in text
    done = run("config", "grpo", "--train", "out.jsonl", "--batch-size", "64", folder=folder)
    assert (done.returncode, "11 row(s), fewer than one batch of 64" in done.stderr) == (2, True)


def test_a_batch_of_one_completion_has_nothing_to_compare(folder: Path) -> None:
    (folder / "prompts.jsonl").write_text('{"prompt": [{"role": "user", "content": "q"}], "solution": "4", "tools": "null"}\n' * 4)
    ask = ("config", "grpo", "--target", "trl", "--train", "prompts.jsonl", "--batch-size")
    done = run(*ask, "1", folder=folder)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1) and "use 2 or more" in done.stderr
    assert run(*ask, "2", folder=folder).returncode == 0


@pytest.mark.parametrize(("target", "suffix"), [("nemo-rl", ".jsonl"), ("trl", ".parquet"), ("verl", ".parquet"), ("openrlhf", ".jsonl")])
def test_a_launch_command_is_one_for_the_shell(target: str, suffix: str, folder: Path) -> None:
    done = run("sft", "in.jsonl", "-o", f"my runs/it's out{suffix}", "--target", target, *RELAXED, "--json", folder=folder)
    words = shlex.split(json.loads(done.stdout)["launch"])
    assert any(word.startswith(f"{folder / 'my runs'}") for word in words)


@pytest.mark.parametrize(("target", "more", "literal"), [("trl", [], False), ("nemo-rl", ["--format", "simple"], False), ("nemo-rl", [], True), ("openrlhf", [], False)])
def test_a_bracket_in_a_path_is_a_name(target: str, more: list[str], literal: bool, folder: Path) -> None:
    """`datasets` takes every path for a glob, where [1] is a choice of one letter."""
    done = run("sft", "in.jsonl", "-o", "run [1]/out.jsonl", "--target", target, *more, *RELAXED, folder=folder)
    assert done.returncode == 0, done.stderr
    text = (folder / "run [1]" / f"out.jsonl{targets.load(target).RUN_SUFFIX}").read_text()
    (named,) = re.findall(r"""(?:data_(?:path|files): "|--data.dataset ')(.*?)["']""", text)
    found = folder / "run [1]" / "out.jsonl"
    assert named == str(found) if literal else glob.glob(named) == [str(found)]
    if target == "nemo-rl":
        assert "FileNotFoundError" not in run("doctor", "run [1]/out.jsonl", folder=folder).stdout


def test_verl_takes_names_of_prompts_for_globs_and_those_of_conversations_as_they_are(folder: Path) -> None:
    for recipe, named in (("grpo", "run [[]1]/out.parquet"), ("sft", "run [1]/out.parquet")):
        done = run(recipe, "in.jsonl", "-o", "run [1]/out.parquet", "--val", "0.4", "--target", "verl", *RELAXED, folder=folder)
        assert done.returncode == 0, done.stderr
        assert f'train_files: "{folder / named}"' in (folder / "run [1]" / "out.parquet.verl.yaml").read_text()


@pytest.mark.parametrize(
    ("target", "name", "words"),
    [
        ("nemo-rl", "${x}/out.jsonl", "a reference to another setting"), ("verl", "${x}/out.parquet", "a reference to another setting"),
        ("trl", "$HOME/out.jsonl", "replaces environment variables"), ("openrlhf", "$HOME/out.jsonl", "replaces environment variables"),
        ("trl", "a::b/out.jsonl", ":: in a path"), ("openrlhf", "a@b/out.jsonl", "splits paths"), ("nemo-rl", ".hidden/out.jsonl", "starts with a dot"),
    ],
)
def test_a_run_file_cannot_name_every_path(target: str, name: str, words: str, folder: Path) -> None:
    done = run("sft", "in.jsonl", "-o", f"here/out{Path(name).suffix}", "--target", target, *RELAXED, folder=folder)
    assert done.returncode == 0, done.stderr
    (folder / name).parent.mkdir()
    shutil.copy(folder / f"here/out{Path(name).suffix}", folder / name)
    for asked in (("sft", "in.jsonl", "-o", name, *RELAXED), ("config", "sft", "--train", name)):
        done = run(*asked, "--target", target, folder=folder)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1) and words in done.stderr
    assert "{x}" in name or run("config", "sft", "--train", f"here/out{Path(name).suffix}", "--val", name, "--target", target, folder=folder).returncode == 2


@pytest.mark.parametrize(("target", "suffix"), [("nemo-rl", ".jsonl"), ("trl", ".parquet"), ("verl", ".parquet"), ("openrlhf", ".jsonl")])
def test_a_name_cannot_write_into_the_run_file(target: str, suffix: str, folder: Path) -> None:
    name = f"a\nexit: 7\u2028b\x7f{suffix}"
    done = run("sft", "in.jsonl", "-o", name, "--target", target, *RELAXED, folder=folder)
    assert done.returncode == 0, done.stderr
    text = (folder / f"{name}{targets.load(target).RUN_SUFFIX}").read_text()
    assert not re.search("# Run file for [^\n]*\nexit", text) and (target == "openrlhf" or not re.search("[\x7f\u2028]", text))


def test_hydra_does_not_take_a_name_for_an_option(folder: Path) -> None:
    assert run("sft", "in.jsonl", "-o", "./-out.parquet", "--target", "verl", *RELAXED, folder=folder).returncode == 0
    done = run("config", "sft", "--train", "./-out.parquet", "--target", "verl", folder=folder)
    assert "--config-name=-out.parquet.verl" in done.stderr


def test_config_names_a_link_by_its_own_name(folder: Path) -> None:
    """What it leads to may have no suffix, by which loaders know the format."""
    run("sft", "in.jsonl", "-o", "blob/out.jsonl", *RELAXED, folder=folder)
    (folder / "blob" / "out.jsonl").rename(folder / "blob" / "0a1b")
    (folder / "out.jsonl").symlink_to("blob/0a1b")
    assert run("config", "sft", "--train", "out.jsonl", "-o", "run.yaml", folder=folder).returncode == 0
    assert f'data_path: "{folder / "out.jsonl"}"' in (folder / "run.yaml").read_text()


def test_config_tells_of_data_that_does_not_fit(folder: Path) -> None:
    run("sft", "in.jsonl", "-o", "sft.jsonl", *RELAXED, folder=folder)
    run("sft", "in.jsonl", "-o", "simple.jsonl", "--format", "simple", *RELAXED, folder=folder)
    run("grpo", "in.jsonl", "-o", "grpo.jsonl", *RELAXED, folder=folder)
    (folder / "again.jsonl").symlink_to("sft.jsonl")
    for asked, words in (
        (("sft", "--train", "sft.jsonl", "--val", "again.jsonl"), "again.jsonl is the training data"),
        (("sft", "--train", "grpo.jsonl"), "grpo.jsonl was written by the recipe grpo"),
        (("sft", "--train", "simple.jsonl", "--val", "grpo.jsonl"), "grpo.jsonl was written by the recipe grpo"),
    ):
        done = run("config", *asked, folder=folder)
        assert done.returncode == 0 and [words in line for line in done.stderr.splitlines() if line.startswith("warning")] == [True], done.stderr
    done = run("config", "sft", "--train", "sft.jsonl", "--target", "verl", folder=folder)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1) and "from .parquet only, not sft.jsonl: write the data again" in done.stderr
    done = run("config", "ppo", "--train", "grpo.jsonl", folder=folder)
    assert done.returncode == 0 and "warning" not in done.stderr


@pytest.mark.parametrize("more", [["-o", "out.parquet"], ["-o", "out.jsonl", "--shard-rows", "5"]])
def test_config_recognises_rows_of_texts_in_what_conversations_do_not_come_in(more: list[str], folder: Path) -> None:
    assert run("sft", "in.jsonl", *more, "--format", "simple", "--no-config", *RELAXED, folder=folder).returncode == 0
    done = run("config", "sft", "--train", more[1], folder=folder)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("recipe", ["sft", "dpo", "rm", "grpo", "ppo"])
def test_openrlhf_finds_the_rows_to_validate_with(recipe: str, folder: Path) -> None:
    """A file has the split train alone, and OpenRLHF's DPO asks for test unless it is told."""
    done = run(recipe, "in.jsonl", "-o", "out.jsonl", "--target", "openrlhf", "--val", "0.4", *RELAXED, folder=folder)
    assert done.returncode == 0, done.stderr
    flags = shlex.split((folder / "out.jsonl.openrlhf.sh").read_text(), comments=True)
    assert flags[flags.index("--eval.dataset") + 1] == str(folder / "out.val.jsonl")
    assert flags[flags.index("--eval.split") + 1] == "train"


def test_targets_as_json(folder: Path) -> None:
    rows = json.loads(run("targets", "--json", folder=folder).stdout)
    assert len(rows) == 6 * len(targets.REGISTRY)
    assert all((row["loader"] is None) == (row["why_not"] is not None) for row in rows)


def test_the_same_bytes_with_any_number_of_threads(folder: Path) -> None:
    for recipe, target, suffix in (("dpo", "trl", ".parquet"), ("grpo", "verl", ".parquet"), ("sft", "openrlhf", ".jsonl")):
        found = []
        for threads in ("1", "2"):
            run(recipe, "in.jsonl", "-o", f"out{suffix}", "--target", target, "--threads", threads, "--extra", "mean_reward", *RELAXED, folder=folder)
            found.append((folder / f"out{suffix}").read_bytes())
        assert found[0] == found[1]
