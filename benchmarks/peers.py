"""Time what people would use instead, on the same rollouts, in one run: scripts, orjson in processes, datasets, DuckDB by hand.

    python benchmarks/peers.py --size 1GB --repeat 3

Whole processes, interleaved, medians. None of the others looks at shapes, damaged lines, masked or truncated rollouts, or counts what
it drops. `datasets` and `orjson` are skipped where they are not installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from run import HERE, measured

PEERS = {
    "rollout-etl": [sys.executable, "-m", "rollout_etl.cli.main"],
    "plain script": [sys.executable, str(HERE / "baselines.py")],
    "orjson, processes": [sys.executable, str(HERE / "peers" / "orjson_script.py")],
    "datasets": [sys.executable, str(HERE / "peers" / "hf_datasets.py")],
    "DuckDB by hand": [sys.executable, str(HERE / "peers" / "duckdb_by_hand.py")],
}
NEEDS = {"orjson, processes": "orjson", "datasets": "datasets"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="1GB")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--data", type=Path, help="rollouts to use instead of generated ones; one shape, no bad lines")
    options = parser.parse_args()
    missing = [name for name, module in NEEDS.items() if importlib.util.find_spec(module) is None]
    for name in missing:
        print(f"skipped {name}: pip install {NEEDS[name]}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        data, output = options.data or Path(folder, "rollouts.jsonl"), Path(folder, "output.jsonl")
        if options.data is None:
            subprocess.run([sys.executable, HERE / "generate.py", "--size", options.size, "--shape", "short", "-o", data], check=True)
        runs: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for _ in range(options.repeat):
            runs.setdefault(("bare scan", ""), []).append(measured([*PEERS["plain script"], "scan", str(data), str(output)]))
            for recipe in ("sft", "dpo"):
                for name, command in PEERS.items():
                    if name not in missing:
                        last = ["-o", str(output), "-q"] if name == "rollout-etl" else [str(output)]
                        runs.setdefault((name, recipe), []).append(measured([*command, recipe, str(data), *last]))
        megabytes = data.stat().st_size / 1e6
        seconds = {key: median(run[0] for run in found) for key, found in runs.items()}
        print(f"{'':24}{'seconds':>9}{'MB/s':>8}{'of ours':>9}{'peak MB':>9}")
        for (name, recipe), found in sorted(runs.items(), key=lambda item: (item[0][1], seconds[item[0]])):
            ours = seconds.get(("rollout-etl", recipe))
            ratio = f"{ours / seconds[name, recipe]:.2f}" if ours else ""
            print(f"{name + ' ' + recipe:24}{seconds[name, recipe]:9.2f}{megabytes / seconds[name, recipe]:8.0f}{ratio:>9}{max(m for _, m in found):9.0f}")


if __name__ == "__main__":
    main()
