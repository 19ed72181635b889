"""Time one question over JSONL and over the same rollouts ingested: as a whole process, from opening a session, and in an open one.

    python benchmarks/questions.py --rollouts 1000000

The rollouts are short (one question, one answer, some 0.6 KB), in `--tasks` task families. Prints medians and ratios, and how many
bytes of the Parquet files belong to the columns that each question reads. A whole process begins with some 0.2 s of imports.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

QUESTION = "SELECT task_name, avg(reward), count(*) FROM rollouts GROUP BY task_name ORDER BY task_name"
TEXT = "SELECT role, avg(length(text)) FROM messages GROUP BY role ORDER BY role"
COMMAND = [sys.executable, "-m", "rollout_etl.cli.main"]


def write_rollouts(path: Path, rollouts: int, tasks: int) -> None:
    """Eight attempts at each prompt; prompts of a task follow one another."""
    rng = random.Random(0)
    words = "the sum of each side equals a constant therefore we may write integrate over both terms and check".split()  # noqa: SIM905
    with path.open("w", encoding="utf-8") as file:
        for number in range(0, rollouts, 8):
            question = f"Problem {number}: " + " ".join(rng.choices(words, k=20))
            for attempt in range(8):
                answer = [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": " ".join(rng.choices(words, k=30))}]}]
                rollout = {
                    "responses_create_params": {"input": [{"role": "user", "content": question}]},
                    "response": {"output": answer, "usage": {"input_tokens": 30, "output_tokens": rng.randint(30, 60)}},
                    "reward": float(rng.random() < 0.5),
                    "task_name": f"task {number * tasks // rollouts:03}",
                    "expected_answer": str(number),
                    "_ng_task_index": number // 8,
                    "_ng_rollout_index": attempt,
                }
                file.write(json.dumps(rollout) + "\n")


def timed(arguments: list[str]) -> tuple[float, str]:
    """Seconds of the command, and what it printed."""
    start = time.perf_counter()
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=True)
    return time.perf_counter() - start, done.stdout


def opened(path: Path) -> tuple[float, float]:
    """Seconds from opening a session to the answer, and of the same question once more."""
    from rollout_etl.explore.session import Session

    start = time.perf_counter()
    session = Session(path, only_for=QUESTION)
    session.connection.execute(QUESTION).fetchall()
    answered = time.perf_counter()
    session.connection.execute(QUESTION).fetchall()
    end = time.perf_counter()
    session.close()
    return answered - start, end - answered


def bytes_read(folder: Path, question: str) -> tuple[int, int]:
    """Bytes of the columns that the question reads, and of all."""
    import duckdb
    import pyarrow.parquet as pq

    from rollout_etl.explore.canonical_table import needed_columns
    from rollout_etl.explore.safety import statements

    # The number of a row is always read from JSONL, but not from Parquet.
    wanted = set(needed_columns(statements(duckdb, question), {}) or ()) - {"row"}
    chunks = []
    for path in folder.glob("part-*.parquet"):
        metadata = pq.read_metadata(path)
        chunks += [metadata.row_group(group).column(column) for group in range(metadata.num_row_groups) for column in range(metadata.num_columns)]
    return sum(c.total_compressed_size for c in chunks if c.path_in_schema in wanted), sum(c.total_compressed_size for c in chunks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=1_000_000)
    parser.add_argument("--tasks", type=int, default=100)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        data, folder, database = Path(name, "rollouts.jsonl"), Path(name, "ingested"), Path(name, "rollouts.duckdb")
        write_rollouts(data, options.rollouts, options.tasks)
        seconds, _ = timed(["ingest", str(data), "-o", str(folder), "--database", str(database), "-q"])
        print(f"ingest        {seconds:8.2f} s, {data.stat().st_size / 1e6 / seconds:.0f} MB/s")
        # The reader is imported before the clock starts; whole processes count it.
        opened(data)
        runs: dict[str, list[float]] = {}
        answers = set()
        for _ in range(options.repeat):
            for name, path in (("JSONL", data), ("Parquet", folder)):
                seconds, found = timed(["sql", str(path), QUESTION, "-q"])
                answers.add(found)
                for about, value in zip(("process", "opened", "again"), (seconds, *opened(path)), strict=True):
                    runs.setdefault(f"{name} {about}", []).append(value)
        assert len(answers) == 1
        for about, meaning in (("process", "as a process"), ("opened", "from opening"), ("again", "once more")):
            slow, fast = median(runs[f"JSONL {about}"]), median(runs[f"Parquet {about}"])
            print(f"{meaning:13} {slow:8.3f} s over JSONL, {fast:8.3f} s ingested, 1/{slow / fast:.0f} of it")
        for about, question in (("this question", QUESTION), ("message text", TEXT)):
            part, whole = bytes_read(folder, question)
            print(f"{about:13} reads {part / 1e6:,.1f} of {whole / 1e6:,.1f} MB")


if __name__ == "__main__":
    main()
