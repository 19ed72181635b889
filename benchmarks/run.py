"""Time each recipe as a whole process against a plain-Python script and against the bare DuckDB scan, in one run.

    python benchmarks/run.py --size 1GB --shape short --repeat 3

Prints medians of the repeats, which are interleaved; what counts are the ratios, machines differ. `pyarrow NAME` is pyarrow reading
the Parquet file that NAME wrote and writing the same rows again.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent
RECIPES = {
    "sft openai": ["sft"],
    "sft simple": ["sft", "--format", "simple"],
    "dpo binary": ["dpo"],
    "dpo preference": ["dpo", "--format", "preference"],
    "grpo response": ["grpo"],
    "sft trl": ["sft", "--target", "trl"],
    "grpo verl": ["grpo", "--target", "verl"],
    "dpo openrlhf": ["dpo", "--target", "openrlhf"],
    "sft custom": ["sft", "--target", "custom", "--map", "prompt=input", "--map", "completion=output", "--map", "score=reward"],
}
PARQUET = ("sft trl", "grpo verl")
"""Recipes that write Parquet, which these trainers prefer or demand."""
REWRITE = "import sys, pyarrow.parquet as pq; pq.write_table(pq.read_table(sys.argv[1]), sys.argv[2], compression='zstd')"
"""pyarrow reads such a file and writes the same rows."""


def measured(command: list[str]) -> tuple[float, float]:
    """Seconds and peak megabytes of a process. Exit code 1, nothing to write, is a result as well."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if os.waitstatus_to_exitcode(status) not in (0, 1):
        sys.exit(f"failed: {' '.join(command)}")
    return seconds, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="1GB")
    parser.add_argument("--shape", choices=("short", "agent", "mixed"), default="short")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--data", type=Path, help="rollouts to use instead of generated ones")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data, output = options.data or Path(folder, "rollouts.jsonl"), Path(folder, "output.jsonl")
        if options.data is None:
            subprocess.run([sys.executable, HERE / "generate.py", "--size", options.size, "--shape", options.shape, "-o", data], check=True)
        ours = [sys.executable, "-m", "rollout_etl.cli.main"]
        script = [sys.executable, str(HERE / "baselines.py")]
        runs: dict[str, list[tuple[float, float]]] = {}
        for repeat in range(options.repeat):
            runs.setdefault("scan", []).append(measured([*script, "scan", str(data), str(output)]))
            runs.setdefault("stats", []).append(measured([*ours, "stats", str(data), "-q"]))
            for name, recipe in RECIPES.items():
                path = output.with_suffix(".parquet" if name in PARQUET else ".jsonl")
                runs.setdefault(name, []).append(measured([*ours, *recipe, str(data), "-o", str(path), "-q"]))
                if name in PARQUET:
                    runs.setdefault(f"pyarrow {name}", []).append(measured([sys.executable, "-c", REWRITE, str(path), f"{path}.again"]))
            for recipe_name in ("sft", "dpo", "grpo") if repeat == 0 else ():
                runs[recipe_name] = [measured([*script, recipe_name, str(data), str(output)])]
        megabytes = data.stat().st_size / 1e6
        seconds = {name: median(run[0] for run in found) for name, found in runs.items()}
        print(f"{'':18}{'seconds':>9}{'MB/s':>8}{'x script':>10}{'of scan':>9}{'peak MB':>9}")
        for name, found in runs.items():
            script_ratio = f"{seconds[name.split()[0]] / seconds[name]:.1f}" if name in RECIPES else ""
            scan_ratio = f"{seconds['scan'] / seconds[name]:.2f}"
            label = name if name in (*RECIPES, "stats") or name.startswith("pyarrow") else f"script {name}" if name != "scan" else "bare DuckDB scan"
            print(f"{label:18}{seconds[name]:9.2f}{megabytes / seconds[name]:8.0f}{script_ratio:>10}{scan_ratio:>9}{max(m for _, m in found):9.0f}")


if __name__ == "__main__":
    main()
