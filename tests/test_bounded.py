"""Runs that go in ranges and buckets on disk: the same bytes and counts as in memory, whatever the input, the recipe and the cut."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from rollout_etl.curate.options import Curation
from rollout_etl.engines.local import Local
from rollout_etl.errors import ExitCode, LockedError, RolloutETLError, UnreadableError, UsageError
from rollout_etl.progress import Stage
from rollout_etl.recipes.options import AnyOptions, DpoOptions, GrpoOptions, KtoOptions, PpoOptions, RmOptions, SftOptions
from rollout_etl.run.execute import Run, execute
from tests.strategies import bad_lines, rollout_groups, rollout_lines
from tests.test_curation_runs import CASES, REAL, rollout

PLENTY = 1 << 40


def written(run: Run) -> dict[str, Any]:
    """The bytes of every file of the output but the manifests, and the report but for how the run went."""
    folder = run.output.parent
    try:
        report = execute(run).to_json()
    except RolloutETLError as error:
        return {"error": str(error)}
    assert [path for path in folder.iterdir() if path.name.startswith(".")] == []
    files = {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith(".manifest.json")}
    bounded = any("on disk" in note for note in report["notes"])
    notes = [note for note in report["notes"] if "on disk" not in note and "in memory" not in note]
    return {"files": files, "report": {**report, "notes": notes, "warnings": sorted(report["warnings"])}, "bounded": bounded}


def check_same(inputs: list[Path], folder: Path, options: AnyOptions, limit: int, threads: int | None = None, **others: Any) -> None:
    folder.mkdir(exist_ok=True)
    suffix = others.pop("suffix", ".jsonl")
    run: dict[str, Any] = {"inputs": [str(path) for path in inputs], "output": folder / f"out{suffix}", "options": options, "max_bad_fraction": 1.0, **others}
    whole = written(Run(**run, memory_limit=PLENTY))
    for path in folder.iterdir():
        path.unlink()
    # A folder for temporary files asks for ranges where rollouts would be streamed.
    cut_up = written(Run(**run, memory_limit=limit, threads=threads, temp_dir=folder))
    for path in folder.iterdir():
        path.unlink()
    assert whole.pop("bounded", False) is False
    assert cut_up.pop("bounded", True) is True
    assert cut_up == whole


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two files of tasks whose attempts are far from one another, with bad and blank lines among them, and tasks beside the second."""
    folder = tmp_path_factory.mktemp("rollouts")
    paths = []
    for number, agent in enumerate(("math agent", "code agent")):
        rows = [rollout(task, attempt, agent=agent, mask_sample=(task + attempt) % 9 == 0) for attempt in range(6) for task in range(25)]
        rows += rows[-10:] if number == 0 else []
        lines = [json.dumps(row) for row in rows]
        lines[20:20] = ["", "not json", " \t"]
        lines[120:120] = ["{}", "", '{"reward": 1.0']
        paths.append(folder / f"{agent.split()[0]}.jsonl")
        paths[-1].write_text("\n".join(lines) + "\n")
    return paths


def test_rollouts_that_fit_several_task_inputs_are_told_of_by_tasks_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that goes to another process takes nothing back but its file."""
    path = tmp_path / "run.jsonl"
    rows = [rollout(task, attempt, agent="math agent") for task in range(20) for attempt in range(3)]
    unsure = [{name: value for name, value in row.items() if name not in ("_ng_task_index", "expected_answer")} for row in rows[:6]]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*unsure, *rows[6:]]))
    tasks = [{"responses_create_params": row["responses_create_params"], "expected_answer": truth} for row in unsure[::3] for truth in ("a", "b")]
    (tmp_path / "run_materialized_inputs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in tasks))
    elsewhere = lambda self, task, arguments: (pickle.loads(pickle.dumps(task))(*each) for each in arguments)  # noqa: E731
    monkeypatch.setattr(Local, "run", elsewhere)
    (tmp_path / "out").mkdir()
    report = execute(Run(inputs=[str(path)], output=tmp_path / "out" / "rows.jsonl", options=GrpoOptions(), memory_limit=10_000, temp_dir=tmp_path / "out"))
    assert [warning for warning in report.warnings if warning.startswith("6 rollout(s) match several task inputs")]


@pytest.mark.parametrize("case", [case for case in CASES if case not in ("copies", "even sample", "split", "balance", "upsampling")])
def test_curation_in_ranges(case: str, files: list[Path], tmp_path: Path) -> None:
    options, curation = CASES[case]
    check_same(files, tmp_path / "out", options, 100_000, curation=curation, config=False)


TARGETS: dict[str, tuple[AnyOptions, dict[str, Any]]] = {
    "sft, trl": (SftOptions(reward_threshold=0.2), {"target": "trl", "extra": ("reward", "line", "pass_rate")}),
    "dpo, openrlhf": (DpoOptions(strategy="all", max_pairs=70, min_gap=0), {"target": "openrlhf", "extra": ("line", "group_size"), "threads": 1}),
    "dpo, top-k": (DpoOptions(strategy="top-k-bottom-k", max_pairs=60, min_gap=0, ties="longer"), {"threads": 2}),
    "dpo, stratified across prompts": (DpoOptions(strategy="stratified", cross_prompt=True, max_pairs=90), {}),
    "grpo, verl": (GrpoOptions(), {"target": "verl", "suffix": ".parquet", "curation": Curation(shuffle=3)}),
    "kto, trl": (KtoOptions(), {"target": "trl"}),
    "rm, openrlhf": (RmOptions(strategy="ranked"), {"target": "openrlhf"}),
    "ppo, openrlhf": (PpoOptions(), {"target": "openrlhf"}),
}


@pytest.mark.parametrize("case", list(TARGETS))
def test_targets_in_ranges(case: str, files: list[Path], tmp_path: Path) -> None:
    options, others = TARGETS[case]
    check_same(files, tmp_path / "out", options, 100_000, quarantine=tmp_path / "out" / "bad.jsonl", **others)


@pytest.mark.skipif(not REAL.is_dir(), reason="../shared/rollouts is absent")
@pytest.mark.parametrize("options", [DpoOptions(strategy="ranked", min_gap=0), GrpoOptions(no_ground_truth=True)], ids=lambda options: options.recipe)
def test_real_rollouts_in_ranges(options: AnyOptions, tmp_path: Path) -> None:
    check_same([REAL], tmp_path / "out", options, 6_000_000, config=False)


# A run takes seconds: what fails is reported as it is found.
@settings(max_examples=3, deadline=None, phases=[Phase.generate])
@given(st.lists(st.lists(rollout_lines | bad_lines | st.just(b"  "), max_size=3) | rollout_groups(), min_size=3, max_size=12), st.integers(2, 4), st.booleans())
def test_random_rollouts_in_ranges(tmp_path_factory: pytest.TempPathFactory, groups: list[list[bytes]], parts: int, last: bool) -> None:
    folder = tmp_path_factory.mktemp("random")
    # Attempts of a group are spread over the file.
    lines = [group[place] for place in range(6) for group in groups if place < len(group)]
    path = folder / "in.jsonl"
    path.write_bytes(b"\n".join(lines) + (b"\n" if last else b""))
    for options in (DpoOptions(strategy="all", max_pairs=10, min_gap=0, keep=("flattened_completion",)), GrpoOptions(format="gym", agent_name="a")):
        check_same([path], folder / "out", options, max(path.stat().st_size // parts, 1), config=False)


def test_a_run_that_fits_stays_in_memory(files: list[Path], tmp_path: Path) -> None:
    report = execute(Run(inputs=[str(files[0])], output=tmp_path / "out.jsonl", options=DpoOptions(), max_bad_fraction=1.0))
    assert not any("on disk" in note for note in report.notes)


def test_another_run_for_the_same_output(files: list[Path], tmp_path: Path) -> None:
    from rollout_etl.bounded.workspace import Workspace

    output = tmp_path / "out.jsonl"
    with Workspace(tmp_path, output, {}), pytest.raises(LockedError, match="another run"):
        execute(Run(inputs=[str(files[0])], output=output, options=GrpoOptions(), temp_dir=tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_no_folder_for_temporary_files(files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(RolloutETLError) as caught:
            execute(Run(inputs=[str(files[0])], output=tmp_path / "out.jsonl", options=GrpoOptions(), temp_dir=place, max_bad_fraction=1.0))
        assert caught.value.exit_code in (ExitCode.USAGE, ExitCode.UNREADABLE)


@pytest.mark.parametrize(("others", "said"), [({"engine": "ray"}, "pip install"), ({"ray_address": "head:6379"}, "is for --engine ray")])
def test_ray_that_is_not_there(others: dict[str, Any], said: str, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=said):
        execute(Run(inputs=[str(files[0])], output=tmp_path / "out.jsonl", options=GrpoOptions(), **others))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("change", ["append", "vanish", "replace", "shorten"])
@pytest.mark.parametrize("limit", [PLENTY, 100_000])
def test_a_file_that_changes_during_the_run_is_named(change: str, limit: int, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "rollouts.jsonl"
    source.write_bytes(files[0].read_bytes() + files[1].read_bytes())
    changed: list[bool] = []
    advance = Stage.advance

    def once(stage: Stage, rows: int = 0, bytes: int = 0) -> None:
        advance(stage, rows, bytes)
        if changed or not rows:
            return
        changed.append(True)
        if change == "append":
            with source.open("ab") as file:
                file.write(b"{}\n")
        elif change == "vanish":
            source.unlink()
        elif change == "shorten":
            source.write_bytes(source.read_bytes()[:5000])
        else:
            (tmp_path / "other").write_bytes(source.read_bytes())
            (tmp_path / "other").replace(source)

    monkeypatch.setattr(Stage, "advance", once)
    with pytest.raises(UnreadableError, match=r"rollouts\.jsonl"):
        execute(Run(inputs=[str(source)], output=tmp_path / "out.jsonl", options=DpoOptions(), max_bad_fraction=1.0, memory_limit=limit))
    assert not (tmp_path / "out.jsonl").exists()
