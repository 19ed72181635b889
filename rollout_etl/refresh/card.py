"""The README of a version, which is a dataset card for the Hugging Face hub."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

CARD = "README.md"
_PLAIN = re.compile(r"[A-Za-z_][\w./-]*(?:/part-\*)?")
_WORDS = re.compile(r"true|false|null|yes|no|on|off|y|n", re.IGNORECASE)


def card(record: Mapping[str, Any]) -> str:
    """Text of the card: a YAML head with a configuration for each file that has rows, then a description."""
    files = {name: entry for name, entry in record["outputs"].items() if entry["rows"]}
    rows = max((entry["rows"] for entry in files.values()), default=0)
    head = ["---", "configs:"]
    for name, entry in files.items():
        head += [f"- config_name: {_scalar(name.removesuffix('.jsonl').removesuffix('.parquet'))}", "  data_files:"]
        for part, path in _parts(name, entry["files"]):
            head += [f"  - split: {_scalar(part)}", f"    path: {_scalar(path)}"]
    head += ["size_categories:", f"- {_size(rows)}", "---", ""]
    body = [f"# Training data, version {record['version']}", "", f"Made by rollout-etl {record['software']} on {record['created']}.", ""]
    body += ["| file | recipe | trainer | rows | rollouts read | dropped |", "|---|---|---|---:|---:|---|"]
    for name, entry in record["outputs"].items():
        dropped = ", ".join(f"{rule} {count:,}" for rule, count in entry["rollouts"]["dropped"].items()) or "none"
        shown = name.replace("|", r"\|")
        body.append(f"| {shown} | {entry['recipe']} | {entry['target']} | {entry['rows']:,} | {entry['rollouts']['read']:,} | {dropped} |")
    body += ["", f"{len(record['inputs'])} input(s); `version.json` names each with its SHA-256, and every option.", ""]
    return "\n".join([*head, *body])


def _scalar(text: str) -> str:
    """A text as YAML, quoted if it would mean something else otherwise."""
    return text if _PLAIN.fullmatch(text) and not _WORDS.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def _parts(name: str, files: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Names of the splits of an output, and their files: `sft.val.jsonl` next to `sft.jsonl`, `sft.val/part-*` next to `sft/part-*`."""
    output = Path(name)
    pattern = re.compile(rf"{re.escape(output.stem)}(?:\.(\w+))?{re.escape(output.suffix)}")
    found: dict[str, str] = {}
    for path in files:
        data, _, shard = path.partition("/")
        if match := pattern.fullmatch(data):
            found.setdefault(match[1] or "train", f"{data}/part-*" if shard else data)
    yield from found.items()


def _size(rows: int) -> str:
    """The hub's size category for a number of rows."""
    if rows < 1000:
        return "n<1K"
    steps = [(10**3, "1K"), (10**4, "10K"), (10**5, "100K"), (10**6, "1M"), (10**7, "10M"), (10**8, "100M"), (10**9, "1B")]
    for (low, name), (_, above) in pairwise(steps):
        if rows < low * 10:
            return f"{name}<n<{above}"
    return "n>1B" if rows >= 10**9 else "1B<n<10B"
