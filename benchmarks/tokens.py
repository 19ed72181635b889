"""Time the counting of tokens, with a byte-level BPE that is trained on the spot: nothing is downloaded.

    python benchmarks/tokens.py --size 50MB

Prints tokens and megabytes of text a second, for texts that all differ, and for groups of eight that share a prompt.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import polars as pl
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from rollout_etl.curate.tokens import COLUMNS, TokenCounter
from rollout_etl.read.scan import Rollouts

HERE = Path(__file__).parent


def trained(texts: list[str], vocabulary: int = 8000) -> Tokenizer:
    """A tokenizer of the size of small models' ones."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=vocabulary, show_progress=False))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="50MB")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "rollouts.jsonl")
        subprocess.run([sys.executable, HERE / "generate.py", "--size", options.size, "--shape", "short", "-o", data], check=True)
        frame = pl.concat(list(Rollouts(data).batches(list(COLUMNS))))
    counter = TokenCounter(trained([json.loads(text)[-1]["content"] for text in frame["completion"].head(2000)]))
    different = frame.with_columns(prompt=pl.col("completion"))
    for name, rollouts in (("texts that differ", different), ("groups of eight", frame)):
        counter.tokens, counter.seconds = 0, 0.0
        total = counter.counted(rollouts)["num_tokens"].sum()
        megabytes = sum(rollouts[column].str.len_bytes().sum() for column in COLUMNS) / 1e6
        print(f"{name:18} {total / counter.seconds / 1e6:6.2f} million tokens a second, {megabytes / counter.seconds:6.1f} MB of messages a second")


if __name__ == "__main__":
    main()
