"""Curation in whole runs: what adds up, what does not depend on the order of files, what real rollouts become."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import rollout_etl
from rollout_etl import Curation, DpoOptions, GrpoOptions, SftOptions
from rollout_etl.errors import UsageError
from rollout_etl.publish.outputs import Sharding
from rollout_etl.read.scan import Rollouts
from rollout_etl.recipes.options import AnyOptions
from rollout_etl.run.execute import Run, execute
from rollout_etl.run.report import Report
from tests.command import COMMAND, ROOT

REAL = (ROOT.parent / "shared" / "rollouts").resolve()


def rollout(task: int, attempt: int, *, agent: str, question: str | None = None, **fields: Any) -> dict[str, Any]:
    """An attempt whose reward and length depend on its numbers, with copies and ties among them."""
    text = f"answer {attempt % 4} to {task} " + "and so on " * (attempt % 3)
    return {
        "responses_create_params": {"input": [{"role": "user", "content": question or f"question {task}?"}]},
        "response": {"id": f"r{task}-{attempt}", "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}]},
        "reward": ((task * 7 + attempt * 3) % 5) / 4, "accuracy": (attempt % 3) / 2, "expected_answer": "4", "agent_ref": {"name": agent},
        "task_name": agent.split()[0], "_ng_task_index": task, "_ng_rollout_index": attempt, **fields,
    }


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two files of 25 tasks with 6 attempts each; the last rollouts of the first stand there twice, one in nine is masked."""
    folder = tmp_path_factory.mktemp("rollouts")
    paths = []
    for number, agent in enumerate(("math agent", "code agent")):
        rows = [rollout(task, attempt, agent=agent, mask_sample=(task + attempt) % 9 == 0) for task in range(25) for attempt in range(6)]
        rows += rows[-10:] if number == 0 else []
        paths.append(folder / f"{agent.split()[0]}.jsonl")
        paths[-1].write_text("".join(json.dumps(row) + "\n" for row in rows))
    return paths


CASES: dict[str, tuple[AnyOptions, Curation]] = {
    "filters": (SftOptions(reward_threshold=0.2), Curation(where="metrics.accuracy > 0.2", where_group="has_spread and n >= 5 and pass_at_2 > 0.5")),
    "copies": (SftOptions(reward_threshold=0), Curation(dedup=("rollout", "response", "prompt"))),
    "selection": (SftOptions(reward_threshold=0), Curation(select="shortest-correct", per_group=2, shuffle=4)),
    "balance": (SftOptions(reward_threshold=0), Curation(cap=("agent_name=70", "task_name=60"), mix="math=0.7,code=0.3", sample="50%")),
    "upsampling": (SftOptions(reward_threshold=0), Curation(mix="math=0.8,code=0.2", upsample=True, shuffle=1)),
    "even sample": (SftOptions(reward_threshold=0), Curation(sample="23", evenly=True)),
    "even sample of pairs": (DpoOptions(strategy="all"), Curation(sample="10%", evenly=True)),
    "split": (SftOptions(reward_threshold=0), Curation(split="train=0.6,val=0.2,test=0.2", shuffle=2)),
    "stratified split": (GrpoOptions(), Curation(split="train=0.8,val=0.2", stratify=True)),
    "pairs": (
        DpoOptions(strategy="all", pairs_per_group=3, max_uses=2, match_length=2.0, min_distance=0.05),
        Curation(where_group="solved_by_some", split="train=0.7,val=0.3", sample="40", shuffle=9, cap=("task_name=30",)),
    ),
    "pairs of a stratified split": (DpoOptions(strategy="ranked"), Curation(split="train=0.7,val=0.3", stratify=True, select="best-n=4")),
    "prompts": (GrpoOptions(), Curation(where_group="medium", sample="7", mix="math=0.5,code=0.5")),
    "rewards": (SftOptions(reward_threshold=0.5), Curation(reward="0.5*accuracy + 0.5*reward", reward_scale=("math=0,0.5:0,1",))),
}


def run(files: list[Path], output: Path, options: AnyOptions, curation: Curation, **others: Any) -> Report:
    return execute(Run(inputs=[str(path) for path in files], output=output, options=options, curation=curation, config=False, **others))


def texts(folder: Path) -> dict[str, list[str]]:
    """Lines of all outputs of a folder."""
    return {path.name: path.read_text().splitlines() for path in sorted(folder.glob("*.jsonl"))}


@pytest.mark.parametrize("name", CASES)
def test_runs(name: str, files: list[Path], tmp_path: Path) -> None:
    options, curation = CASES[name]
    outputs, reports = [], []
    for number, inputs in enumerate((files, files[::-1])):
        folder = tmp_path / str(number)
        report = run(inputs, folder / "out.jsonl", options, curation)
        assert report.read == report.quarantined + sum(report.dropped.values()) + report.kept
        assert report.built == sum(report.examples_dropped.values()) + report.written
        outputs.append(texts(folder))
        reports.append(report)
        assert report.written == sum(len(lines) for lines in outputs[-1].values()) > 0
        assert report.dropped["masked"] or isinstance(options, GrpoOptions)
        assert {path.name.removesuffix(".manifest.json") for path in folder.glob("*.manifest.json")} == set(outputs[-1])
    assert {part: sorted(lines) for part, lines in outputs[0].items()} == {part: sorted(lines) for part, lines in outputs[1].items()}
    dry = run(files, tmp_path / "dry" / "out.jsonl", options, curation, dry_run=True)
    assert not (tmp_path / "dry").exists()
    counted = ("read", "dropped", "kept", "built", "examples_dropped", "written", "statistics", "parts")
    assert {count: getattr(dry, count) for count in counted} == {count: getattr(reports[0], count) for count in counted}


@pytest.mark.parametrize("curation", [Curation(sample="3"), Curation(cap=("prompt_key=1",)), Curation(mix="math=1,code=1"), Curation(sample="3", evenly=True)])
@pytest.mark.parametrize("options", [SftOptions(reward_threshold=0), GrpoOptions(all_rollouts=True)], ids=["sft", "grpo"])
def test_draws_among_copies_do_not_depend_on_the_order_of_files(options: AnyOptions, curation: Curation, tmp_path: Path) -> None:
    """Without an attempt, rollouts that say the same have the same number, whatever their rewards."""
    for number, source in enumerate(("math", "math", "code")):
        rows = [rollout(0, 0, agent="agent", question="one question?", task_name=source, reward=0.3 * number + 0.1 * place) for place in range(3)]
        kept = [{name: value for name, value in row.items() if not name.startswith("_ng")} for row in rows[: 3 - number]]
        (tmp_path / f"{number}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    inputs, found = sorted(tmp_path.glob("*.jsonl")), []
    for given in (inputs, inputs[::-1]):
        run(given, tmp_path / "out" / "out.jsonl", options, curation, target="custom", mapping=["source=source", "line=line"])
        found.append(sorted((tmp_path / "out" / "out.jsonl").read_text().splitlines()))
    assert found[0] == found[1]


def test_no_prompt_on_two_sides_and_none_moves(files: list[Path], tmp_path: Path) -> None:
    options, curation = CASES["split"]
    sides: list[dict[str, str]] = []
    grown = tmp_path / "grown.jsonl"
    grown.write_text("".join(json.dumps(rollout(task, attempt, agent="new agent", question=f"new {task}?")) + "\n" for task in range(5) for attempt in range(4)))
    for number, inputs in enumerate((files, [grown, *files])):
        folder = tmp_path / str(number)
        run(inputs, folder / "out.jsonl", options, curation)
        found = {name: {json.loads(line)["messages"][0]["content"] for line in lines} for name, lines in texts(folder).items()}
        assert sum(map(len, found.values())) == len(set.union(*found.values()))
        sides.append({question: name for name, questions in found.items() for question in questions})
    assert sides[0].items() <= sides[1].items()
    for name, lines in texts(tmp_path / "0").items():
        later = texts(tmp_path / "1")[name]
        assert [line for line in later if line in set(lines)] == lines


def test_masked_members_do_not_vote(tmp_path: Path) -> None:
    path = tmp_path / "rollouts.jsonl"
    rows = [rollout(0, attempt, agent="a", reward=1.0, mask_sample=False) for attempt in range(3)] + [rollout(0, 3, agent="a", reward=0.0, mask_sample=True)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = run([path], tmp_path / "out.jsonl", SftOptions(), Curation(where_group="solved_by_all and n = 3"))
    assert (report.written, dict(report.dropped)) == (3, {"masked": 1})
    rollout_etl.write(path, tmp_path / "trl.jsonl", recipe="sft", target="trl", curation=Curation(advantage="rloo"), extra=["advantage"])
    assert [json.loads(line)["advantage"] for line in (tmp_path / "trl.jsonl").read_text().splitlines()] == [0.0] * 3


def test_the_threshold_does_not_change_who_votes(files: list[Path], tmp_path: Path) -> None:
    """Rewards under the threshold are dropped, and still say that a task is hard."""
    loose = run(files, tmp_path / "loose.jsonl", SftOptions(reward_threshold=0.0), Curation(where_group="pass_rate < 0.7"))
    strict = run(files, tmp_path / "strict.jsonl", SftOptions(reward_threshold=1.0), Curation(where_group="pass_rate < 0.7"))
    assert 0 < strict.written < loose.written
    assert set((tmp_path / "strict.jsonl").read_text().splitlines()) <= set((tmp_path / "loose.jsonl").read_text().splitlines())


@pytest.mark.parametrize("options", [SftOptions(reward_threshold=0), DpoOptions(), GrpoOptions()], ids=["sft", "dpo", "grpo"])
def test_a_part_without_examples_is_not_written(files: list[Path], tmp_path: Path, options: AnyOptions) -> None:
    report = run(files, tmp_path / "out.jsonl", options, Curation(split="train=0.9999999,val=0.0000001"))
    assert report.warnings[0] == "no examples for val: too few prompts for this split"
    assert sorted(path.name for path in tmp_path.glob("*.jsonl")) == ["out.jsonl"]


@pytest.mark.parametrize("output", ["out.jsonl", "out.parquet", "out"])
def test_a_part_that_stays_empty_does_not_leave_the_old_one(output: str, files: list[Path], tmp_path: Path) -> None:
    """What an earlier run put there to validate with may be trained on now."""
    sharding = None if "." in output else Sharding(count=2)
    path, options = tmp_path / output, SftOptions(reward_threshold=0, format="simple")
    val = path.with_name(f"out.val{path.suffix}")
    manifest = Path(f"{val}.manifest.json")

    def again(text: str | None) -> list[str]:
        return run(files, path, options, Curation(split=text), sharding=sharding).warnings

    again("train=0.7,val=0.3")
    assert val.exists()
    assert again(None) == [f"{val} is from an earlier run, and its prompts may be trained on now: remove it, or give the output another name"]
    assert val.exists() and manifest.exists()
    removed = f"removed {val}, which an earlier run wrote: its prompts may be trained on now"
    assert removed in again("train=0.9999999,val=0.0000001")
    assert not val.exists() and not manifest.exists()
    assert json.loads(Path(f"{path}.manifest.json").read_text())["warnings"][1] == removed
    assert not again(None)


@pytest.mark.parametrize("changed", [True, False])
def test_a_part_that_somebody_else_wrote_stays(changed: bool, files: list[Path], tmp_path: Path) -> None:
    output, val = tmp_path / "out.jsonl", tmp_path / "out.val.jsonl"
    if changed:
        run(files, output, SftOptions(reward_threshold=0), Curation(split="train=0.7,val=0.3"))
    val.write_text("mine\n")
    (tmp_path / "out.other.jsonl").write_text("mine\n")
    warnings = run(files, output, SftOptions(reward_threshold=0), Curation(split="train=0.9999999,val=0.0000001")).warnings
    assert [warning for warning in warnings if "out." in warning] == [
        f"{val} is from an earlier run, and its prompts may be trained on now: remove it, or give the output another name"
    ]
    assert val.read_text() == "mine\n"


def test_run_file_names_the_validation_file(files: list[Path], tmp_path: Path) -> None:
    report = rollout_etl.write(files, tmp_path / "out.jsonl", recipe="sft", options=SftOptions(reward_threshold=0), curation=Curation(split="train=0.8,val=0.2"))
    text = (tmp_path / "out.jsonl.nemo-rl.yaml").read_text()
    assert "out.val.jsonl" in text
    assert report["examples"]["parts"] == {"train": len((tmp_path / "out.jsonl").read_text().splitlines()), "val": len((tmp_path / "out.val.jsonl").read_text().splitlines())}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--where", "rewrd > 1"], "--where names 'rewrd', which is not a column; did you mean reward"),
        (["--val", "1.5"], "--val 1.5 must be a share"),
        (["--val", "0.1", "--split", "train=1"], "--val and --split cannot be combined"),
        (["--advantage", "grpo"], "--extra advantage"),
        (["--exclude-prompts", "nope.txt"], "no such file: nope.txt"),
        (["--split", "train=0.000001,val=0.999999"], "too few prompts for this split"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_errors(arguments: list[str], said: str, files: list[Path], tmp_path: Path) -> None:
    command = [COMMAND, "sft", *map(str, files), "-o", "out.jsonl", "--reward-threshold", "0", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert said in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_part_is_never_written_over_an_input(files: list[Path], tmp_path: Path) -> None:
    copy = tmp_path / "out.val.jsonl"
    copy.write_bytes(files[0].read_bytes())
    with pytest.raises(UsageError, match=r"out\.val\.jsonl is an input"):
        run([copy], tmp_path / "out.jsonl", SftOptions(), Curation(split="train=0.5,val=0.5"))


def groups(paths: list[str]) -> set[frozenset[tuple[Any, ...]]]:
    found: dict[Any, set[tuple[Any, ...]]] = {}
    for frame in Rollouts(paths).batches(("task_key", "prompt_key", "task_name", "attempt", "response_key", "reward")):
        for task, prompt, *others in frame.iter_rows():
            found.setdefault((task, prompt), set()).add(tuple(others))
    return {frozenset(members) for members in found.values()}


def test_named_inputs_and_merge(tmp_path: Path) -> None:
    """Runs of two servers count their tasks from 0, ask the same questions, and must not be mixed."""
    for name in ("a", "b"):
        rows = [rollout(task, attempt, agent="agent", reward=0.25 * attempt * (1 if name == "a" else 8)) for task in range(3) for attempt in range(2)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    named = [f"math={tmp_path / 'a.jsonl'}", f"code={tmp_path / 'b.jsonl'}"]
    done = rollout_etl.merge(named, tmp_path / "all.jsonl")
    assert done.rollouts == {"code": 6, "math": 6}
    assert groups(named) == groups([str(tmp_path / "all.jsonl")])
    assert len(groups(named)) == 6
    merged = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    first = json.loads((tmp_path / "a.jsonl").read_text().splitlines()[0])
    assert merged[0] == {**first, "task_name": "math"}
    assert [row["_ng_task_index"] for row in merged[::2]] == [0, 1, 2, 3, 4, 5]
    scaled = rollout_etl.merge(named, tmp_path / "scaled.jsonl", reward_scale=["code=0,1:0,10"])
    rewards = Counter((row["task_name"], row["reward"]) for row in map(json.loads, (tmp_path / "scaled.jsonl").read_text().splitlines()))
    assert rewards == {("math", 0.0): 3, ("math", 0.25): 3, ("code", 0.0): 3, ("code", 10.0): 3}
    assert scaled.clamped == 3
    with pytest.raises(UsageError, match="is an input"):
        rollout_etl.merge(named, tmp_path / "a.jsonl")


def test_merging_nothing_leaves_the_old_output(files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    command = [COMMAND, "merge", "a=empty.jsonl", "-o", "all.jsonl"]
    for state in ("was not created", "is unchanged"):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.endswith(f"\nrollout-etl: nothing to write; all.jsonl {state}\n")
        assert (tmp_path / "all.jsonl").exists() == (state == "is unchanged")
        rollout_etl.merge(files, tmp_path / "all.jsonl")
    assert len((tmp_path / "all.jsonl").read_text().splitlines()) == 310


@pytest.mark.skipif(not REAL.is_dir(), reason="../shared/rollouts is absent")
def test_real_groups(tmp_path: Path) -> None:
    """newton_bench asks one question for several hidden tasks, blackjack several for one task: neither makes a pair, anyswe does."""
    options = DpoOptions(format="preference", min_gap=0.05)
    made = {}
    for name in ("newton_bench", "blackjack", "anyswe"):
        found = sorted(path for path in REAL.rglob("*.jsonl") if name in str(path))
        assert found, name
        for strategy in ("best-worst", "all"):
            chosen = replace(options, strategy=strategy)
            report = execute(Run(inputs=list(map(str, found)), output=tmp_path / f"{name}.jsonl", options=chosen, config=False, max_bad_fraction=1.0, dry_run=True))
            made[name, strategy] = report.written
    assert [made[name, strategy] for name in ("newton_bench", "blackjack") for strategy in ("best-worst", "all")] == [0] * 4
    assert made["anyswe", "best-worst"] >= 1 and made["anyswe", "all"] > made["anyswe", "best-worst"]
