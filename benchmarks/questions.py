"""Time one question over JSONL, over the same rollouts ingested, and over the DuckDB file, each as a whole process and inside a session.

    python benchmarks/questions.py --rollouts 1000000

The rollouts are short (one question, one answer, some 0.5 KB), in `--tasks` task families. Prints seconds and ratios, and how many
bytes of the Parquet files belong to the columns that each question reads.
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


def timed(arguments: list[str], repeat: int = 1) -> tuple[float, str]:
    """Median seconds of the command, and what it printed."""
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=True)
        seconds.append(time.perf_counter() - start)
    return median(seconds), done.stdout


def inside(path: Path, question: str) -> float:
    """Median seconds of the question once a session is open."""
    from rollout_etl.explore.session import connect

    connection, seconds = connect(path), []
    for _ in range(5):
        start = time.perf_counter()
        connection.execute(question).fetchall()
        seconds.append(time.perf_counter() - start)
    return median(seconds)


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
        first, wanted = timed(["sql", str(data), QUESTION, "-q"])
        print(f"over JSONL    {first:8.2f} s, {data.stat().st_size / 1e6 / first:.0f} MB/s")
        second, found = timed(["sql", str(folder), QUESTION, "-q"], options.repeat)
        assert found == wanted
        print(f"over Parquet  {second:8.2f} s as a process, 1/{first / second:.0f} of it")
        within = inside(folder, QUESTION)
        print(f"              {within:8.3f} s in a session, 1/{first / within:.0f} of it")
        for about, question in (("this question", QUESTION), ("message text", TEXT)):
            part, whole = bytes_read(folder, question)
            print(f"{about:13} reads {part / 1e6:,.1f} of {whole / 1e6:,.1f} MB")


if __name__ == "__main__":
    main()
