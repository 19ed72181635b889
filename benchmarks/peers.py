"""Time what people would use instead, on the same rollouts, in one run: scripts, orjson in processes, datasets, DuckDB by hand.

    python benchmarks/peers.py --size 1GB --repeat 3
    python benchmarks/peers.py --size 100MB,400MB,1.6GB --only rollout-etl

Several sizes show how time and memory grow. Whole processes, interleaved, medians. None of the others looks at shapes, damaged lines,
masked or truncated rollouts, or counts what it drops. `split` is SFT with a tenth of the prompts for validation, `stats` is pass rates
by prompt, of which ours says far more. `datasets` and `orjson` are skipped where they are not installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Callable
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
JOBS: dict[str, Callable[[str, str], list[str]]] = {
    "sft": lambda data, output: ["sft", data, "-o", output],
    "dpo": lambda data, output: ["dpo", data, "-o", output],
    "split": lambda data, output: ["sft", data, "-o", output, "--val", "0.1"],
    "stats": lambda data, output: ["stats", data],
}
"""Arguments of ours; the others take a name, the data and the output."""
LIMITS = {
    "reading the bytes": "import sys; file = open(sys.argv[1], 'rb', buffering=0); block = bytearray(1 << 22)\nwhile file.readinto(block): pass",
    "orjson.loads, one core": "import sys, orjson\nfor line in open(sys.argv[1], 'rb'): orjson.loads(line)",
}
"""What no program goes below, beside the bare DuckDB scan."""
NEEDS = {"orjson, processes": "orjson", "datasets": "datasets"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="1GB", help="one, or several with commas between")
    parser.add_argument("--only", choices=PEERS, action="append", help="leave out the others")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--data", type=Path, help="rollouts to use instead of generated ones; one shape, no bad lines")
    options = parser.parse_args()
    peers = {name: command for name, command in PEERS.items() if not options.only or name in options.only}
    for name, module in NEEDS.items():
        if name in peers and importlib.util.find_spec(module) is None:
            print(f"skipped {name}: pip install {module}", file=sys.stderr)
            del peers[name]
    with tempfile.TemporaryDirectory() as folder:
        for size in options.size.split(","):
            data = options.data or Path(folder, "rollouts.jsonl")
            if options.data is None:
                subprocess.run([sys.executable, HERE / "generate.py", "--size", size, "--shape", "short", "-o", data], check=True)
            compare(peers, data, Path(folder, "output.jsonl"), options.repeat)


def compare(peers: dict[str, list[str]], data: Path, output: Path, repeat: int) -> None:
    """Time all on one file, and print a table."""
    runs: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for _ in range(repeat):
        runs.setdefault(("bare scan", ""), []).append(measured([*PEERS["plain script"], "scan", str(data), str(output)]))
        for name, program in LIMITS.items():
            if "orjson" not in name or importlib.util.find_spec("orjson"):
                runs.setdefault((name, ""), []).append(measured([sys.executable, "-c", program, str(data)]))
        for recipe in JOBS:
            for name, command in peers.items():
                arguments = [*JOBS[recipe](str(data), str(output)), "-q"] if name == "rollout-etl" else [recipe, str(data), str(output)]
                runs.setdefault((name, recipe), []).append(measured([*command, *arguments]))
    megabytes = data.stat().st_size / 1e6
    seconds = {key: median(run[0] for run in found) for key, found in runs.items()}
    print(f"{megabytes:.0f} MB".ljust(26) + f"{'seconds':>9}{'MB/s':>8}{'of ours':>9}{'peak MB':>9}")
    for (name, recipe), found in sorted(runs.items(), key=lambda item: (item[0][1], seconds[item[0]])):
        ours = seconds.get(("rollout-etl", recipe))
        ratio = f"{ours / seconds[name, recipe]:.2f}" if ours else ""
        print(f"{name + ' ' + recipe:26}{seconds[name, recipe]:9.2f}{megabytes / seconds[name, recipe]:8.0f}{ratio:>9}{max(m for _, m in found):9.0f}")


if __name__ == "__main__":
    main()
