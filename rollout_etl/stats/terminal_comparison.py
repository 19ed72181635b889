"""A comparison with earlier rollouts as text, at 80 columns."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from rollout_etl.plain_text import plain
from rollout_etl.stats.terminal import heading, number, say, say_more, share, table

SHARES = ("success_rate", "no_spread", "truncated")
"""Measures that are shown as percentages."""
LABELS = {
    "mean": "mean reward", "std": "std of rewards", "success_rate": "success rate", "no_spread": "groups of equal rewards", "turns": "turns",
    "completion_chars": "completion, characters",
}
"""How measures are labelled; the others keep their name."""
_NAMES = 15


def show_comparison(console: Console, found: dict[str, Any]) -> None:
    """Print `comparison` and, of several earlier ones, `trend` of a profile."""
    compared = found["comparison"]
    heading(console, f"Compared with {', '.join(plain(path) for path in compared['inputs'][:2])} ({compared['rollouts']:,} rollouts)")
    rows = table("", "before", "now", "change")
    for name, row in compared["overall"].items():
        if row["change"] is not None:
            rows.add_row(LABELS.get(name, name), *cells(name, row))
    console.print(rows)
    for title in ("tasks", "agents"):
        part = compared[title]["both"]
        if len(part) > 1:
            _by_name(console, title.removesuffix("s"), part)
    _prompts(console, compared["prompts"])
    if len(found["trend"]) > 2:
        _trend(console, found["trend"])


def cells(measure: str, row: dict[str, float | None]) -> list[str]:
    """Before, now and change of a measure."""
    shown = share if measure in SHARES else number
    change = row["change"]
    return [shown(row["before"]), shown(row["now"]), "-" if change is None else "0" if change == 0 else f"{'+' if change > 0 else ''}{shown(change)}"]


def _by_name(console: Console, title: str, part: list[dict[str, Any]]) -> None:
    console.print()
    rows = table(title, "mean before", "now", "change", "success before", "now")
    rows.columns[0].max_width = 22
    for row in part[:_NAMES]:
        rows.add_row(plain(row["name"] or "(none)"), *cells("mean", row["mean"]), *cells("success_rate", row["success_rate"])[:2])
    console.print(rows)
    say_more(console, len(part) - _NAMES)


def _prompts(console: Console, prompts: dict[str, Any]) -> None:
    console.print()
    apart = f"{prompts['only_now']:,} new, {prompts['only_before']:,} gone"
    if not prompts["both"]:
        say(console, f"no prompt is in both ({apart}): the means are of different tasks", 2)
        return
    error = "" if prompts["error"] is None else f" (standard error {prompts['error']:.3f})"
    say(console, f"{prompts['both']:,} prompts in both ({apart}): {prompts['better']:,} better, {prompts['worse']:,} worse, {prompts['same']:,} the same; "
                 f"mean change {prompts['mean_change']:+.3f}{error}", 2)
    if prompts["fell"] or prompts["rose"]:
        rows = table("moved most (show --group)", "before", "now", "change")
        for row in [*prompts["fell"], *reversed(prompts["rose"])]:
            rows.add_row(row["prompt"], *cells("mean", row))
        console.print(rows)


def _trend(console: Console, trend: list[dict[str, Any]]) -> None:
    heading(console, "Trend")
    rows = table("", "rollouts", "mean", "std", "success", "pass@1", "equal")
    rows.columns[0].max_width = 26
    for row in trend:
        rows.add_row(plain(row["inputs"][0]) if row["inputs"] else "-", f"{row['rollouts']:,}", number(row["mean"]), number(row["std"]),
                     share(row["success_rate"]), number(row["pass@1"]), share(row["no_spread"]))
    console.print(rows)
