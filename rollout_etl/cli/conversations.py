"""Rollouts on standard output, in colours on a terminal."""

from __future__ import annotations

import sys

from rollout_etl.plain_text import plain
from rollout_etl.stats.conversation import conversation
from rollout_etl.stats.selection import Picked

_STYLES = {"head": "\x1b[1m", "role": "\x1b[36m", "text": "", "call": "\x1b[2m"}
_RESET = "\x1b[0m"


def print_conversations(picked: Picked, limit: int) -> None:
    """Print the picked rollouts, and on standard error how many there were to pick from."""
    colour = sys.stdout.isatty()
    for position, row in enumerate(picked.rollouts.iter_rows(named=True)):
        if position:
            print()
        for style, text in conversation(row, limit):
            print(f"{_STYLES[style]}{text}{_RESET}" if colour and _STYLES[style] else text)
    sys.stdout.flush()
    for warning in picked.warnings:
        print(f"rollout-etl: {plain(warning)}", file=sys.stderr)
    print(f"{len(picked.rollouts):,} of {picked.matching:,} matching rollouts, {picked.read:,} read", file=sys.stderr)
