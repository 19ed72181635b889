"""Peak memory and time of runs with a memory limit, at 1, 4 and 16 times an input size.

    python benchmarks/memory.py --size 1GB --limit 2GB --times 1 4

For each recipe: seconds and peak resident megabytes of the process and its children, and how they grow. `dpo` keeps every payload: each
rollout of a group is paired with the next. Memory that files take in the page cache does not count. At the first size each run is held
against one without a limit: `same` says whether the bytes are equal.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from generate import parse_size
from run import HERE

COMMANDS = {
    "sft": ["sft", "--reward-threshold", "-1e9"],
    "dpo": ["dpo", "--strategy", "adjacent", "--min-gap", "0", "--keep", "flattened_completion"],
    "grpo": ["grpo"],
    "stats": ["stats", "--json"],
}


def resident(process: int) -> int:
    """Bytes that a process and its children hold; pages of files do not count, the system takes them back when it likes."""
    total = 0
    for found in (process, *children(process)):
        try:
            fields = dict(line.split(":", 1) for line in Path(f"/proc/{found}/status").read_text().splitlines())
        except OSError:
            continue
        total += sum(int(fields[name].split()[0]) for name in ("RssAnon", "RssShmem") if name in fields) * 1024
    return total


def children(process: int) -> list[int]:
    try:
        own = [int(child) for task in Path(f"/proc/{process}/task").iterdir() for child in (task / "children").read_text().split()]
    except OSError:
        return []
    return [each for child in own for each in (child, *children(child))]


def measured(command: list[str], output: Path) -> tuple[float, float, float]:
    """Seconds, peak megabytes that the process and its children hold, and the peak of the process with the files it has mapped.

    Statistics are printed, and go to `output` from there.
    """
    start, peak, done = time.perf_counter(), 0, threading.Event()
    printed = output if "stats" in command else Path(os.devnull)
    with printed.open("wb") as stdout:
        process = subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE)

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.02):
            peak = max(peak, resident(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert process.stderr is not None
    said = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    done.set()
    watcher.join()
    if os.waitstatus_to_exitcode(status) not in (0, 1):
        sys.exit(f"failed: {' '.join(command)}\n{said}")
    return time.perf_counter() - start, peak / 1e6, usage.ru_maxrss * 1024 / 1e6


def command_of(name: str, data: Path, limit: str, output: Path) -> list[str]:
    command = [sys.executable, "-m", "rollout_etl.cli.main", *COMMANDS[name], str(data), "--memory-limit", limit]
    return command if name == "stats" else [*command, "-o", str(output)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=parse_size, default="1GB")
    parser.add_argument("--limit", default="2GB")
    parser.add_argument("--times", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--shape", choices=("short", "agent", "mixed"), default="short")
    parser.add_argument("--only", nargs="+", choices=tuple(COMMANDS), default=list(COMMANDS))
    parser.add_argument("--folder", type=Path, help="where to put rollouts and outputs; several times the size of the input")
    options = parser.parse_args()
    print(f"{'':8}{'MB':>8}{'seconds':>9}{'x time':>8}{'held MB':>9}{'peak MB':>9}{'x peak':>8}{'same':>6}")
    first: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for times in options.times:
            data = Path(folder, "rollouts.jsonl")
            size = options.size * times
            subprocess.run([sys.executable, HERE / "generate.py", "--size", f"{size / 1e6}MB", "--shape", options.shape, "-o", data], check=True)
            for name in options.only:
                output = Path(folder, "output.jsonl")
                seconds, held, peak = measured(command_of(name, data, options.limit, output), output)
                one = first.setdefault(name, (seconds, peak))
                same = ""
                if times == options.times[0]:
                    whole = Path(folder, "whole.jsonl")
                    measured(command_of(name, data, "1TB", whole), whole)
                    same = "yes" if filecmp.cmp(output, whole, shallow=False) else "NO"
                print(f"{name:8}{size / 1e6:8.0f}{seconds:9.1f}{seconds / one[0]:8.2f}{held:9.0f}{peak:9.0f}{peak / one[1]:8.2f}{same:>6}", flush=True)


if __name__ == "__main__":
    main()
