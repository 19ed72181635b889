"""Time a refresh with one more night against a full rebuild, and a refresh with nothing new, in one session.

    python benchmarks/refresh.py --size 2GB --nights 40

The history lies in nightly files; the further night brings 1 per cent new prompts, and late rollouts for a few old ones. The
pipeline makes SFT, DPO and GRPO files in shards. All are whole processes. A rebuild makes everything from the lines; without the
store (as where `deltalake` is not installed) it keeps nothing for the next refresh.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from generate import Text, group, parse_size

PIPELINE = """
inputs = ["rollouts"]
publish = "training"

[options]
shard-rows = {shard_rows}

[[output]]
file = "sft.jsonl"
recipe = "sft"
target = "trl"
reward-threshold = 0.5

[[output]]
file = "dpo.jsonl"
recipe = "dpo"

[[output]]
file = "grpo.jsonl"
recipe = "grpo"
"""


def line(rollout: object) -> bytes:
    return json.dumps(rollout, ensure_ascii=False).encode() + b"\n"


def history(folder: Path, size: int, nights: int, late: int) -> int:
    """Write the nights, and the further one to `folder`/further.jsonl; the number of prompts of the history."""
    text, tasks, old = Text(random.Random(0)), itertools.count(), []
    (folder / "rollouts").mkdir()
    for night in range(nights):
        with (folder / "rollouts" / f"rollouts-part{night:04}.jsonl").open("wb", buffering=1 << 20) as file:
            while file.tell() < size / nights:
                made = [line(rollout) for rollout in group(text, next(tasks), "short", 8)]
                # The last attempts at some prompts come late.
                if len(old) < late * (night + 1) / nights:
                    old.append(made.pop())
                file.writelines(made)
    prompts = next(tasks)
    with (folder / "further.jsonl").open("wb") as file:
        for task in range(prompts, prompts + max(1, prompts // 100)):
            file.writelines(map(line, group(text, task, "short", 8)))
        file.writelines(old)
    return prompts


def seconds(folder: Path, *arguments: str, before: str = "") -> float:
    """Seconds of a whole process; `before` is Python that it runs first."""
    start = time.perf_counter()
    program = f"{before}; from rollout_etl.cli.main import main; main()".lstrip("; ")
    subprocess.run([sys.executable, "-c", program, *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def digests(published: Path) -> dict[str, str]:
    """SHA-256 of the training files of the current version."""
    current = (published / "current").resolve()
    found = sorted(path for path in current.rglob("part-*") if path.is_file())
    return {str(path.relative_to(current)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=parse_size, default="2GB", help="bytes of the history (default 2GB)")
    parser.add_argument("--nights", type=int, default=40, help="files of the history (default 40)")
    parser.add_argument("--late", type=int, default=4, help="old prompts that get late rollouts (default 4)")
    parser.add_argument("--shard-rows", type=int, default=2000, help="examples of a shard (default 2000)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        prompts = history(folder, options.size, options.nights, options.late)
        (folder / "pipeline.toml").write_text(PIPELINE.format(shard_rows=options.shard_rows))
        start = seconds(folder, "--help")
        first = seconds(folder, "refresh", "pipeline.toml", "-q")
        (folder / "further.jsonl").rename(folder / "rollouts" / f"rollouts-part{options.nights:04}.jsonl")
        further = seconds(folder, "refresh", "pipeline.toml", "-q")
        nothing = seconds(folder, "refresh", "pipeline.toml", "-q")
        (folder / "training").rename(folder / "training.by-and-by")
        rebuild = seconds(folder, "refresh", "pipeline.toml", "-q")
        same = digests(folder / "training") == digests(folder / "training.by-and-by")
        shutil.rmtree(folder / "training")
        plain = seconds(folder, "refresh", "pipeline.toml", "-q", before="import sys; sys.modules['deltalake'] = None")
        same = same and digests(folder / "training") == digests(folder / "training.by-and-by")
    print(f"history {options.size / 1e6:,.0f} MB in {options.nights} files, {prompts:,} prompts; {options.late} of them get late rollouts")
    print(f"{'program start':24}{start:8.2f} s")
    print(f"{'first refresh':24}{first:8.2f} s")
    print(f"{'one more night':24}{further:8.2f} s  {further / rebuild:.1%} of a rebuild, {further / plain:.1%} of one without the store")
    print(f"{'nothing new':24}{nothing:8.2f} s")
    print(f"{'rebuild from nothing':24}{rebuild:8.2f} s  {'the same bytes' if same else 'OTHER BYTES'}")
    print(f"{'... without the store':24}{plain:8.2f} s")


if __name__ == "__main__":
    main()
