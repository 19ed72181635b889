"""Hostile input: whatever a line holds, a run ends with a documented exit code, accounts for every line, and writes strict JSON."""

from __future__ import annotations

import gzip
import json
import math
import resource
import subprocess
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rollout_etl.curate.rules import RULES
from rollout_etl.read.repair import look_again
from tests.command import COMMAND
from tests.hostile import MUTATIONS, mutated_lines, rollout
from tests.oracle.reading import parsed

LOOSE = [argument for name in RULES if name not in ("empty_answer", "unfinished", "missing_reward", "nonfinite_reward", "missing_ground_truth") for argument in ("--keep", name)]
"""Nothing is dropped that can be kept: hostile rows shall get through to the output."""
LOOSE_TEXT = [argument for name in LOOSE[1::2] if name != "media" for argument in ("--keep", name)]
"""For rows that hold text alone, where media cannot be kept."""
RUNS = {
    "sft openai": ["sft", "--reward-threshold", "-1e300", *LOOSE, "--keep", "missing_reward", "--keep", "nonfinite_reward"],
    "sft flat": ["sft", "--tool-call-style", "flat", "--think", "move"],
    "sft simple": ["sft", "--format", "simple", "--reward-threshold", "-1e300", *LOOSE_TEXT],
    "dpo preference": ["dpo", "--format", "preference", "--min-gap", "0", *LOOSE],
    "dpo stratified": ["dpo", "--strategy", "stratified", "--cross-prompt", "--max-pairs", "300", *LOOSE_TEXT],
    "grpo response": ["grpo", "--group-by", "note"],
    "grpo all": ["grpo", "--all-rollouts", "--no-ground-truth", *LOOSE_TEXT],
    "grpo gym": ["grpo", "--format", "gym", "--agent-name", "adder", "--all-rollouts", *LOOSE],
}


def run(*arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *map(str, arguments)], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", timeout=240)


def check_one_plain_line(done: subprocess.CompletedProcess[str], code: int, said: str) -> None:
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert done.stderr.startswith("rollout-etl: ") and done.stderr.count("\n") == 1, done.stderr
    assert said in done.stderr


def strict(line: bytes) -> Any:
    """JSON as the strictest reader takes it: UTF-8, no half surrogate pair, no number that becomes infinite, no depth beyond reason."""

    def finite(text: str) -> float:
        number = float(text)
        if not math.isfinite(number):
            raise ValueError(f"{text[:20]} is no finite number")
        return number

    value = json.loads(line.decode("utf-8"), parse_int=finite, parse_float=finite, parse_constant=finite)
    json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[bytes]]:
    """Lines by file; `rollouts.jsonl`, `rollouts.jsonl.gz` and `rollouts.jsonl.zst` in the folder `input` hold them."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "input").mkdir()
    lines = list(mutated_lines(16))
    assert len(MUTATIONS) * 16 >= 1_000
    files: dict[str, list[bytes]] = {}
    for number, (name, write) in enumerate({"a.jsonl": bytes, "b.jsonl.gz": gzip.compress, "c.jsonl.zst": lambda data: pa.compress(data, "zstd", asbytes=True)}.items()):
        data = b"\n".join(lines[number::3])
        path = folder / "input" / name
        path.write_bytes(write(data))
        files[str(path)] = data.split(b"\n")
    return files


@pytest.fixture(scope="module")
def refused(hostile: dict[str, list[bytes]]) -> dict[tuple[str, int], str]:
    """What belongs in the quarantine, by the plain Python of the oracle: file and line number, and the text that is kept."""
    return {
        (path, number): line.decode("utf-8", errors="backslashreplace").rstrip("\r\n")
        for path, lines in hostile.items()
        for number, line in enumerate(lines, start=1)
        if line.strip(b" \t\r\n") and parsed(line)[1] is None
    }


@pytest.mark.parametrize("name", RUNS)
def test_every_line_is_accounted_for(name: str, hostile: dict[str, list[bytes]], refused: dict[tuple[str, int], str], tmp_path: Path) -> None:
    folder = Path(next(iter(hostile))).parent
    done = run(*RUNS[name], folder, "-o", "out.jsonl", "--max-bad-fraction", "1", "--quarantine", "bad.jsonl", "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    report = strict(done.stdout.encode())
    rollouts, examples = report["rollouts"], report["examples"]
    assert rollouts["read"] == sum(1 for lines in hostile.values() for line in lines if line.strip(b" \t\r\n"))
    assert rollouts["read"] == rollouts["quarantined"] + sum(rollouts["dropped"].values()) + rollouts["kept"]
    assert examples["built"] == sum(examples["dropped"].values()) + examples["written"]
    if not name.startswith("dpo"):
        assert examples["built"] == rollouts["kept"]

    entries = [strict(line) for line in (tmp_path / "bad.jsonl").read_bytes().split(b"\n")[:-1]]
    assert len(entries) == rollouts["quarantined"] == sum(rollouts["quarantine_reasons"].values())
    found = {(entry["source"], int(entry["line"])): entry for entry in entries}
    assert len(found) == len(entries)
    for place, text in refused.items():
        # What is nested too deep is a matter of where it stands.
        assert place in found or look_again(text.encode()).reason == "nested too deep", text[:200]
    for (path, number), entry in found.items():
        assert refused[path, number] == entry["text"], entry["reason"]

    written = (tmp_path / "out.jsonl").read_bytes()
    assert written.endswith(b"\n")
    rows = [strict(line) for line in written.split(b"\n")[:-1]]
    assert len(rows) == examples["written"] > 0
    assert all(isinstance(row, dict) for row in rows)


@pytest.mark.parametrize("arguments", [["sft", "--format", "simple"], ["dpo", "--format", "preference"]], ids=" ".join)
def test_parquet_of_hostile_lines(arguments: list[str], hostile: dict[str, list[bytes]], tmp_path: Path) -> None:
    folder = Path(next(iter(hostile))).parent
    done = run(*arguments, folder, "-o", "out.parquet", "--max-bad-fraction", "1", "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert pq.read_metadata(tmp_path / "out.parquet").num_rows == json.loads(done.stdout)["examples"]["written"] > 0


SOUND = b"".join(json.dumps(rollout(number)).encode() + b"\n" for number in range(40))
WRONG_TYPES = pa.table({"responses_create_params": [1, 2], "response": [[1.5], None], "reward": ["a", None]})


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("name", "data", "code", "said"),
    [
        ("cut.jsonl.gz", gzip.compress(SOUND, mtime=0)[:-20], 3, "cannot read cut.jsonl.gz"),
        ("text.jsonl.gz", SOUND, 3, "cannot read text.jsonl.gz"),
        ("text.jsonl.zst", SOUND, 3, "cannot read text.jsonl.zst"),
        ("cut.parquet", _parquet(WRONG_TYPES)[:-10], 3, "cannot read cut.parquet"),
        ("zipped.jsonl", gzip.compress(SOUND, mtime=0), 3, "zipped.jsonl"),
        ("text.json", b"no JSON", 3, "cannot read text.json"),
        ("cut.json", b'[{"reward": 1.0}, {"rew', 3, "cannot read cut.json"),
        ("empty.parquet", b"", 3, "cannot read empty.parquet"),
        ("numbers.json", b"[1, 2, 3]", 3, "3 of 3 lines are not rollouts"),
    ],
)
def test_damaged_files(name: str, data: bytes, code: int, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    check_one_plain_line(run("sft", name, "-o", "out.jsonl", folder=tmp_path), code, said)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("empty.jsonl", b""),
        ("blank.jsonl", b"\n \r\n\t\n\n"),
        ("empty.jsonl.gz", gzip.compress(b"", mtime=0)),
        ("empty.json", b"[]"),
        ("nothing.parquet", _parquet(WRONG_TYPES.slice(0, 0))),
        ("wrong.parquet", _parquet(WRONG_TYPES)),
    ],
)
def test_nothing_to_read(name: str, data: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    done = run("sft", name, "-o", "out.jsonl", "--json", folder=tmp_path)
    assert done.returncode == 1, done.stderr
    rollouts = strict(done.stdout.encode())["rollouts"]
    assert rollouts["read"] == sum(rollouts["dropped"].values()) == (2 if name == "wrong.parquet" else 0)
    assert done.stderr.endswith("nothing to write; out.jsonl was not created\n")


def test_cut_zstd_file(tmp_path: Path) -> None:
    (tmp_path / "cut.jsonl.zst").write_bytes(pa.compress(SOUND, "zstd", asbytes=True)[:-20])
    check_one_plain_line(run("sft", "cut.jsonl.zst", "-o", "out.jsonl", folder=tmp_path), 3, "cannot read cut.jsonl.zst")


def test_hundred_megabytes_in_a_line(tmp_path: Path) -> None:
    row = rollout(0)
    row["response"]["output"][0]["content"][0]["text"] = "Long. " * (100_000_000 // 6)
    long = json.dumps(row).encode()
    (tmp_path / "in.jsonl").write_bytes(b"\n".join([SOUND.rstrip(b"\n"), long, long[: len(long) // 2], json.dumps(rollout(4)).encode()]))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run("sft", "in.jsonl", "-o", "out.jsonl", "--max-bad-fraction", "0.1", "--json", folder=tmp_path)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    rollouts = json.loads(done.stdout)["rollouts"]
    assert (rollouts["read"], rollouts["quarantined"]) == (43, 1)
    assert max(map(len, (tmp_path / "out.jsonl").read_bytes().split(b"\n"))) > 99_000_000
    # Processor time and memory of one run, the clock tells how busy the machine is.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 30
    assert after.ru_maxrss < 4_000_000
