"""Outputs in shards: cut at the same rows whatever the frames, whole or not there, and read by the trainers' own readers."""

from __future__ import annotations

import hashlib
import json
import subprocess
import threading
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout_etl.publish import folders
from rollout_etl.publish.cuts import Cuts
from rollout_etl.publish.outputs import RowsFile, ShardedRows, Sharding
from rollout_etl.publish.rows import Field
from rollout_etl.read.inputs import MANIFEST_SUFFIX, find_inputs
from tests.command import COMMAND


def rollouts(prompts: int = 60, attempts: int = 4) -> str:
    rows: list[dict[str, Any]] = [
        {
            "responses_create_params": {"input": f"Problem {prompt}?"},
            "response": {"output": [{"type": "message", "role": "assistant", "content": f"Answer {prompt}, {attempt}: " + "so " * (prompt % 17 * 9)}]},
            "reward": float(attempt % 2),
            "expected_answer": f"{prompt}",
        }
        for prompt in range(prompts)
        for attempt in range(attempts)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    (folder / "in.jsonl").write_text(rollouts(), encoding="utf-8")
    done = subprocess.run([COMMAND, *arguments], cwd=folder, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stderr


def shards(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def plain_cuts(sizes: list[int], limit: int, rows: int | None) -> list[int]:
    """Number of the stretch of each row, one row at a time."""
    numbers: list[int] = []
    number, held, count = -1, 0, 0
    for size in sizes:
        if number < 0 or held + size > limit or (rows is not None and count == rows):
            number, held, count = number + 1, 0, 0
        numbers.append(number)
        held, count = held + size, count + 1
    return numbers


@given(st.lists(st.integers(0, 30), max_size=60), st.integers(1, 60), st.none() | st.integers(1, 9), st.integers(1, 20))
def test_rows_are_cut_alike_whatever_the_frames(sizes: list[int], limit: int, rows: int | None, frame: int) -> None:
    cuts, found, number = Cuts(limit, rows), [], -1
    for start in range(0, len(sizes), frame):
        covered = 0
        for first, length, begins in cuts.pieces(pl.Series(sizes[start : start + frame], dtype=pl.UInt32)):
            assert first == covered and length > 0
            covered += length
            number += begins
            found += [number] * length
    assert found == plain_cuts(sizes, limit, rows)


@pytest.mark.parametrize("kind", ["text", "json"])
def test_parquet_has_the_same_bytes_whatever_the_frames(tmp_path: Path, kind: Literal["text", "json"]) -> None:
    # Large enough for several pages and a dictionary that is given up.
    texts = [json.dumps([f"{number * 7919} " + "so " * (number % 500)]) for number in range(6000)]
    written = []
    for rows in (6000, 1000, 777):
        frames = [pl.DataFrame({"text": texts[start : start + rows]}) for start in range(0, len(texts), rows)]
        with RowsFile(tmp_path / f"{rows}.parquet", [Field("text", kind, pl.col("text"))]) as file:
            for frame in frames:
                file.append(frame)
            file.finish()
            file.publish()
        written.append((tmp_path / f"{rows}.parquet").read_bytes())
    assert len(written[0]) > 40_000 and len(set(written)) == 1


@pytest.mark.parametrize("arguments", [("sft", "--format", "simple"), ("dpo",), ("grpo",), ("sft", "--target", "trl"), ("kto", "--target", "trl")])
def test_shards_by_size_are_the_file_in_pieces(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert run(tmp_path, *arguments, "in.jsonl", "-o", "whole.jsonl")[0] == 0
    assert run(tmp_path, *arguments, "in.jsonl", "-o", "cut.jsonl", "--shard-size", "4KB")[0] == 0
    found = shards(tmp_path / "cut.jsonl")
    assert [path.name for path in found] == [f"part-{number:05}.jsonl" for number in range(len(found))] and len(found) > 2
    assert b"".join(path.read_bytes() for path in found) == (tmp_path / "whole.jsonl").read_bytes()
    sizes = [path.stat().st_size for path in found]
    lines = (tmp_path / "whole.jsonl").read_bytes().splitlines(keepends=True)
    assert [number for number, path in enumerate(found) for _ in path.read_bytes().splitlines()] == plain_cuts([len(line) for line in lines], 4000, None)
    assert max(sizes) <= 4000


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("threads", ["1", "2"])
def test_shards_by_count_take_rows_in_turn(tmp_path: Path, suffix: str, threads: str) -> None:
    def read(path: Path) -> list[Any]:
        return (pl.read_parquet(path) if suffix == ".parquet" else pl.read_ndjson(path)).to_dicts()

    assert run(tmp_path, "grpo", "in.jsonl", "-o", f"whole{suffix}")[0] == 0
    assert run(tmp_path, "grpo", "in.jsonl", "-o", f"cut{suffix}", "--shards", "7", "--threads", threads)[0] == 0
    rows = read(tmp_path / f"whole{suffix}")
    assert [read(path) for path in shards(tmp_path / f"cut{suffix}")] == [rows[number::7] for number in range(7)]


def test_the_manifest_describes_each_shard(tmp_path: Path) -> None:
    assert run(tmp_path, "sft", "--target", "trl", "in.jsonl", "-o", "out/", "--shard-size", "2KB")[0] == 0
    manifest = json.loads((tmp_path / f"out{MANIFEST_SUFFIX}").read_text())
    described = {row["path"]: row for row in manifest["outputs"] if row["path"].startswith("out/")}
    assert list(described) == [f"out/{path.name}" for path in shards(tmp_path / "out")] and len(described) > 1
    for path in shards(tmp_path / "out"):
        row = described[f"out/{path.name}"]
        data = path.read_bytes()
        assert (row["bytes"], row["sha256"], row["rows"]) == (len(data), hashlib.sha256(data).hexdigest(), len(pl.read_parquet(path)))
    assert sum(row["rows"] for row in described.values()) == manifest["examples"]["written"]
    assert find_inputs([str(tmp_path)])[0] == find_inputs([str(tmp_path / "in.jsonl")])[0], "what a run wrote is left out where a folder is searched"


def test_a_run_replaces_the_whole_folder_and_nothing_else(tmp_path: Path) -> None:
    assert run(tmp_path, "grpo", "in.jsonl", "-o", "out/", "--shards", "5")[0] == 0
    assert run(tmp_path, "grpo", "in.jsonl", "-o", "out/", "--shards", "2", "--split", "train=0.6,val=0.4")[0] == 0
    assert [path.name for path in shards(tmp_path / "out")] == ["part-00000.jsonl", "part-00001.jsonl"]
    assert [path.name for path in shards(tmp_path / "out.val")] == ["part-00000.jsonl", "part-00001.jsonl"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    (tmp_path / "out" / "notes.txt").write_text("mine")
    code, said = run(tmp_path, "grpo", "in.jsonl", "-o", "out/")
    assert (code, said) == (2, "rollout-etl: out holds notes.txt, which is not a shard: a run replaces the whole folder, so name another one\n")


def test_without_a_swap_in_one_step_folders_are_replaced_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "_exchanged", lambda one, other: False)
    for word in ("old", "new"):
        with folders.StagedFolder(tmp_path / "out") as folder:
            (folder.staged / "part-00000.jsonl").write_text(word)
            folder.publish()
    assert (tmp_path / "out" / "part-00000.jsonl").read_text() == "new" and len(list(tmp_path.iterdir())) == 1


def test_full_shards_hold_no_thread(tmp_path: Path) -> None:
    with ShardedRows(tmp_path / "out", [Field("text", "text", pl.col("text"))], Sharding(size=1), ".jsonl") as rows:
        rows.append(pl.DataFrame({"text": [f"row {number}" for number in range(50)]}))
        assert sum(thread.name.startswith("writer") for thread in threading.enumerate()) <= 1
        assert [file.rows for file in rows.finish()] == [1] * 50


def test_a_folder_takes_the_place_of_a_file(tmp_path: Path) -> None:
    assert run(tmp_path, "grpo", "in.jsonl", "-o", "out.jsonl")[0] == 0
    assert run(tmp_path, "grpo", "in.jsonl", "-o", "out.jsonl", "--shards", "2")[0] == 0
    assert len(shards(tmp_path / "out.jsonl")) == 2
    code, said = run(tmp_path, "grpo", "in.jsonl", "-o", "out.jsonl")
    assert code == 2 and said.startswith("rollout-etl: out.jsonl is a folder; name a file")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("sft", "in.jsonl", "-o", "out/"), "NeMo RL loads the openai format from a single file: write one file without shards, or use --format simple"),
        (("grpo", "in.jsonl", "-o", "out/", "--format", "gym", "--agent-name", "a"), "NeMo RL loads Gym rows from a single file: write one file without shards"),
        (("grpo", "in.jsonl", "-o", "out/", "--shards", "2", "--shard-size", "1MB"), "--shards and --shard-size cannot be combined"),
        (("grpo", "in.jsonl", "-o", "out/", "--shard-size", "big"), "--shard-size big is not a size; write it as 256MB or 1.5GB"),
        (("grpo", "in.jsonl", "-o", "out"), "the output out must end with .jsonl or .parquet, or with / for a folder of shards"),
        (("grpo", "cut/part-00000.jsonl", "-o", "cut/"), "cut is an input; give the output another name"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "part-00000.jsonl").write_text(rollouts())
    assert run(tmp_path, *arguments) == (2, f"rollout-etl: {said}\n")


@pytest.mark.parametrize(("target", "recipe"), [("trl", "sft"), ("trl", "dpo"), ("nemo-rl", "dpo"), ("nemo-rl", "grpo"), ("openrlhf", "sft"), ("verl", "grpo")])
@pytest.mark.parametrize("split", [(), ("--split", "train=0.6,val=0.4")])
def test_run_files_name_the_shards_as_loaders_take_them(tmp_path: Path, target: str, recipe: str, split: tuple[str, ...]) -> None:
    datasets = pytest.importorskip("datasets")
    assert run(tmp_path, recipe, "in.jsonl", "-o", "out/", "--target", target, "--shards", "3", *split)[0] == 0
    manifest = json.loads((tmp_path / f"out{MANIFEST_SUFFIX}").read_text())
    parts = manifest["examples"]["parts"] or {"train": manifest["examples"]["written"]}
    text = "".join(path.read_text() for path in (*tmp_path.glob("out.*.yaml"), *tmp_path.glob("out.*.sh")))
    for folder, rows in zip(("out", "out.val"), parts.values(), strict=False):
        found = shards(tmp_path / folder)
        if target == "verl":
            assert f"[{', '.join(json.dumps(str(path)) for path in found)}]" in text
            named: Any = [str(path) for path in found]
        elif target == "trl" and split:
            card = datasets.load_dataset(str(tmp_path / "out.trl.yaml.data"), cache_dir=str(tmp_path / "cache"))
            assert len(card["train" if folder == "out" else "test"]) == rows
            continue
        else:
            named = str(tmp_path / folder / f"part-*{found[0].suffix}")
            assert named in text
        kind = "parquet" if found[0].suffix == ".parquet" else "json"
        assert len(datasets.load_dataset(kind, data_files=named, cache_dir=str(tmp_path / "cache"))["train"]) == rows


@pytest.mark.parametrize(("target", "recipe"), [("trl", "dpo"), ("nemo-rl", "dpo"), ("verl", "grpo"), ("openrlhf", "sft")])
def test_shards_are_validated_and_configured_as_files_are(tmp_path: Path, target: str, recipe: str) -> None:
    assert run(tmp_path, recipe, "in.jsonl", "-o", "out/", "--target", target, "--shards", "3", "--split", "train=0.6,val=0.4")[0] == 0
    assert run(tmp_path, "validate", "out", "--train", "out", "--val", "out.val", "--target", target, "--recipe", recipe)[0] == 0
    (found,) = (path for path in tmp_path.iterdir() if path.name in (f"out.{target}.yaml", f"out.{target}.sh"))
    written = found.read_bytes()
    assert run(tmp_path, "config", recipe, "--train", "out", "--val", "out.val", "--target", target)[0] == 0
    assert found.read_bytes() == written
    leak = subprocess.run(
        [COMMAND, "validate", "--train", "out", "--val", "out", "--target", target, "--recipe", recipe], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert leak.returncode == 4 and leak.stdout.count("the prompt also occurs in out") == 3
    (tmp_path / "empty").mkdir()
    assert run(tmp_path, "validate", "empty", "--recipe", recipe) == (2, "rollout-etl: empty holds no shards: name a file\n")
    if target == "verl":
        sides = {folder: pl.read_parquet(tmp_path / folder)["extra_info"].struct.field("split").unique().to_list() for folder in ("out", "out.val")}
        assert sides == {"out": ["train"], "out.val": ["val"]}


@pytest.mark.parametrize("choice", [("--cap", "source=5"), ("--select", "best"), ("--sample", "9"), ("--val", "0.3", "--split-near")])
def test_shards_by_content_may_hold_the_names_of_files(tmp_path: Path, choice: tuple[str, ...]) -> None:
    code, said = run(tmp_path, "sft", "in.jsonl", "-o", "out/", "--target", "trl", "--shard-rows", "3", "--extra", "source", *choice)
    assert code == 0, said
    assert pl.read_parquet(tmp_path / "out", columns=["source"])["source"].unique().to_list() == ["in.jsonl"]
