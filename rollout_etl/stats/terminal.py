"""Statistics as text that reads well at 80 columns: on a terminal with colours, in a pipe without."""

from __future__ import annotations

import shutil
import sys
import textwrap
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rollout_etl.plain_text import counted, plain

WIDTH, WIDEST = 80, 120
_BAR = 30
_SCOPES = 20
_OUTCOMES = {
    "solved by all": "solved_by_all", "solved by some": "solved_by_some", "solved by none": "solved_by_none",
    "equal rewards: nothing to learn": "no_spread",
}
SIZES = {
    "num_turns": "turns", "num_tool_calls": "tool calls", "prompt_chars": "prompt, characters", "completion_chars": "completion, characters",
    "prompt_tokens": "prompt, tokens", "completion_tokens": "completion, tokens",
}


def show(found: dict[str, Any], console: Console | None = None) -> None:
    """Print a profile (see `profile`). Names that come from rollouts lose their control characters."""
    console = console or _Console(width=_width(), highlight=False, emoji=False, markup=False)
    overall = found["overall"]
    _counts(console, found)
    if overall["reward"] is not None:
        _rewards(console, overall["reward"])
        _groups(console, overall, found["success"])
    for title, scopes in (("task", found["tasks"]), ("agent", found["agents"])):
        if len(scopes) > 1:
            _scopes(console, title, scopes)
    _metrics(console, overall["metrics"])
    _sizes(console, overall)
    _tools(console, overall["tools"])
    if found["comparison"] is not None:
        from rollout_etl.stats.terminal_comparison import show_comparison

        show_comparison(console, found)
    _candidates(console, found)
    _flags(console, found["flags"])


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """A reader of the pipe may stop early, which is not a failure."""
        raise BrokenPipeError


def _width() -> int:
    """That of the terminal, within reason."""
    return max(WIDTH, min(shutil.get_terminal_size((WIDTH, 24)).columns, WIDEST)) if sys.stdout.isatty() else WIDTH


def number(value: float | None) -> str:
    """A number of at most eight characters or so; `-` for none."""
    if value is None:
        return "-"
    if isinstance(value, float) and abs(value) >= 1e9:
        return f"{value:.3g}"
    if isinstance(value, int) or (value == int(value) and abs(value) < 1e15 and abs(value) >= 1000):
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3f}" if abs(value) < 100 else f"{value:.1f}"


def signed(value: float) -> str:
    """A number with its sign; -0.00 is written as +0.00."""
    return f"{round(value, 2) + 0.0:+.2f}"


def share(value: float | None) -> str:
    """A share as a percentage; `-` for none."""
    return "-" if value is None else f"{value:.1%}"


def bar(part: float, whole: float, width: int = _BAR) -> str:
    """A bar of blocks; anything above zero is visible."""
    return "" if not part or not whole else "█" * max(round(width * part / whole), 1)


def say(console: Console, text: str, indent: int = 0, style: str = "") -> None:
    """Print a text, with further lines indented."""
    for part in textwrap.wrap(text, console.width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False):
        console.print(Text(part, style=style), soft_wrap=True)


def say_more(console: Console, left: int) -> None:
    """Say how many rows a table leaves out, if any."""
    if left > 0:
        console.print(f"and {left:,} more; --json shows all", style="dim")


def heading(console: Console, text: str) -> None:
    """A title, after an empty line."""
    console.print()
    console.print(Text(text, style="bold"))


def table(*columns: str, names: int = 1) -> Table:
    """A table without lines: the first `names` columns are names, which shrink if there is little room; the others are numbers."""
    made = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for position, column in enumerate(columns):
        is_name = position < names
        made.add_column(column, justify="left" if is_name else "right", overflow="ellipsis", no_wrap=not is_name)
    return made


def _counts(console: Console, found: dict[str, Any]) -> None:
    overall = found["overall"]
    console.print(f"{counted(overall['rollouts'], 'rollout')} in {counted(overall['all_groups'], 'group')} from {counted(len(found['inputs']), 'file')}")
    notes = {
        "quarantined": found["quarantined"], "failed": overall["failed"], "masked": overall["masked"], "unverified": overall["unverified"],
        "without a reward": overall["missing"], "reward NaN or infinite": overall["nonfinite"], "truncated": overall["truncated"],
        "empty": overall["empty"], "error messages": overall["error_texts"], "copies": found["copies"],
    }
    said = [f"{name} {count:,}" for name, count in notes.items() if count]
    if said:
        console.print(", ".join(said), style="dim")


def _rewards(console: Console, reward: dict[str, Any]) -> None:
    heading(console, f"Rewards ({reward['kind']}{', multi-metric' if reward['multi_metric'] else ''})")
    rows = table("count", "mean", "std", "min", "P25", "median", "P75", "max", names=0)
    rows.add_row(*(number(reward[name]) for name in ("count", "mean", "std", "min", "p25", "median", "p75", "max")))
    console.print(rows)
    console.print()
    values = reward["values"]
    bins = [(f"{row['value']:g}", row["count"]) for row in values] if values is not None and len(values) <= 10 else [
        (f"{row['from']:.3g} to {row['to']:.3g}", row["count"]) for row in reward["histogram"]
    ]
    width, most = max(len(label) for label, _ in bins), max(count for _, count in bins)
    for label, count in bins:
        console.print(Text.assemble(f"{label:>{width}} ", (f"{bar(count, most):<{_BAR}}", "cyan"), f" {count:>9,} {count / reward['count']:>6.1%}"))


def _groups(console: Console, overall: dict[str, Any], success: float) -> None:
    groups = overall["groups"]
    heading(console, f"Groups ({groups['groups']:,}, of {groups['smallest']:,} to {groups['largest']:,} attempts; success is a reward of {success:g})")
    if groups["several"]:
        for label, name in _OUTCOMES.items():
            part = groups["shares"][name]
            console.print(Text.assemble(f"{label:<32}", (f"{bar(part, 1, 20):<20}", "cyan"), f" {groups[name]:>9,} {share(part):>6}"))
        console.print(f"{'different completions':<32}{'':20} {'':>9} {share(groups['unique_ratio']):>6}")
    shown = [k for k in overall["pass_at"] if k in (1, 2, 3, 4, 8, 16) or k == max(overall["pass_at"])][:7]
    rows = table("", *(f"k={k}" for k in shown))
    for label, name in (("pass@k", "pass_at"), ("mean@k", "mean_at")):
        rows.add_row(label, *(number(overall[name][k]) for k in shown))
    console.print(rows)


def _scopes(console: Console, title: str, scopes: list[dict[str, Any]]) -> None:
    heading(console, f"By {title}")
    rows = table(title, "rollouts", "mean", "std", "success", "pass@1", "equal", "turns")
    rows.columns[0].max_width = 26
    for scope in scopes[:_SCOPES]:
        reward = scope["reward"] or {}
        equal = scope["groups"]["shares"]["no_spread"] if scope["groups"] else None
        rows.add_row(
            plain(scope["name"] or "(none)"), f"{scope['rollouts']:,}", number(reward.get("mean")), number(reward.get("std")),
            share(reward.get("success_rate")),
            number(scope["pass_at"].get(1)), share(equal), number(scope["sizes"]["num_turns"]["mean"]),
        )
    console.print(rows)
    say_more(console, len(scopes) - _SCOPES)


def _metrics(console: Console, metrics: dict[str, Any]) -> None:
    if not metrics:
        return
    heading(console, "Metrics")
    rows = table("metric", "count", "mean", "std", "min", "median", "max")
    rows.columns[0].max_width = 26
    for name, row in sorted(metrics.items(), key=lambda item: -item[1]["count"])[:_SCOPES]:
        rows.add_row(plain(name), *(number(row[part]) for part in ("count", "mean", "std", "min", "median", "max")))
    console.print(rows)
    say_more(console, len(metrics) - _SCOPES)


def _sizes(console: Console, overall: dict[str, Any]) -> None:
    heading(console, "Sizes")
    rows = table("", "mean", "min", "P25", "median", "P75", "max")
    for name, label in SIZES.items():
        row = overall["sizes"].get(name)
        if row and row["count"]:
            rows.add_row(label, *(number(row[part]) for part in ("mean", "min", "p25", "median", "p75", "max")))
    console.print(rows)
    if overall["tokens"]:
        console.print(f"{overall['tokens']:,} tokens in total", style="dim")
    correlation, pairs = overall["length"]["correlation"], overall["length"]["pairs"]
    if correlation is not None:
        longer = f"; the chosen side is longer in {pairs['chosen_longer']:.0%} of {pairs['pairs']:,} pairs" if pairs else ""
        say(console, f"length against reward: correlation {signed(correlation)}{longer}", 2)


def _tools(console: Console, tools: list[dict[str, Any]]) -> None:
    if not tools:
        return
    heading(console, "Tools")
    rows = table("tool", "calls", "rollouts")
    rows.columns[0].max_width = 40
    for row in tools[:_SCOPES]:
        rows.add_row(plain(row["tool"]) or "(no name)", f"{row['calls']:,}", f"{row['rollouts']:,}")
    console.print(rows)
    say_more(console, len(tools) - _SCOPES)


def _candidates(console: Console, found: dict[str, Any]) -> None:
    possible, advice = found["candidates"], found["recommendation"]
    heading(console, "What could be made of them")
    pairs = ", ".join(f"{count:,} at gap {gap}" for gap, count in possible["dpo"]["pairs"].items())
    lines = {
        "sft": f"{possible['sft']['examples']:,} examples with a reward of {possible['sft']['threshold']:g}",
        "dpo": f"pairs: {pairs}",
        "kto": f"{possible['kto']['true']:,} true and {possible['kto']['false']:,} false at {possible['kto']['threshold']:g}",
        "grpo": f"{possible['grpo']['prompts']:,} prompts, {possible['grpo']['with_ground_truth']:,} with a ground truth, "
                f"{possible['grpo']['with_spread']:,} with different rewards",
        "advice": f"{advice['algorithm'] or 'none of them'}: {'; '.join(advice['reasons'])}",
    }
    for name, text in lines.items():
        say(console, f"{name:<7}{text}", 7)


def _flags(console: Console, flags: list[dict[str, Any]]) -> None:
    heading(console, f"Red flags ({len(flags)})" if flags else "No red flags")
    for flag in flags:
        matters = ", ".join(flag["algorithms"]) if len(flag["algorithms"]) < 5 else "all"
        say(console, f"{flag['severity']} {flag['name']} ({matters}): {flag['saw']}", 2, "red" if flag["severity"] == "error" else "yellow")
        say(console, f"  wanted: {flag['threshold']} ({flag['source']})", 10, "dim")
        say(console, f"  to do:  {flag['remedy']}", 10, "dim")
