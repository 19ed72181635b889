"""The summary of a run, on standard error."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from rollout_etl.plain_text import counted, plain, plural

if TYPE_CHECKING:
    from rollout_etl.publish.files import Written
    from rollout_etl.run.report import Report


def show(report: Report) -> None:
    """Print the summary of a run: indented counts add up to the line above them."""
    from rollout_etl.run.report import by_count

    width = max(shutil.get_terminal_size((100, 24)).columns, 40)
    files = len(report.inputs)
    lines = [_count("read", report.read, f"{plural(report.read, 'line')} of {counted(files, 'file')}")]
    lines += [_count("  quarantined", count, reason) for reason, count in report.quarantine_reasons.items()]
    lines += [_count("  dropped", count, rule) for rule, count in by_count(report.dropped).items()]
    grouped = "" if report.groups is None else f" in {counted(report.groups, 'group')}"
    lines += [_count("  kept", report.kept, plural(report.kept, "rollout") + grouped)]
    lines += [_count("examples", report.built, f"for {report.recipe}")]
    lines += [_count("  dropped", count, rule) for rule, count in by_count(report.examples_dropped).items()]
    lines += [_count("  written", report.written)]
    lines += [_count(f"  {name}", count) for name, count in report.parts.items()]
    lines += [_count("clamped", report.clamped, f"{plural(report.clamped, 'reward')} outside --reward-scale")] if report.clamped else []
    lines += [_count("repaired", count, f"{plural(count, 'line')} with {damage}") for damage, count in by_count(report.repaired).items()]
    lines += _statistics(report.statistics)
    lines += [line for note in [*report.notes, *report.remarks] for line in _wrapped("note", note, width)]
    lines += [line for warning in report.warnings for line in _wrapped("warning", warning, width)]
    lines += [f"output       {named}" for named in _outputs(report.outputs)]
    # Not wrapped, so that the command can be copied.
    lines += [f"launch       {report.launch}"] if report.launch else []
    print("\n".join(plain(line) for line in lines), file=sys.stderr)


def _outputs(outputs: Sequence[Written]) -> Iterator[str]:
    """Files one by one, shards folder by folder."""
    from rollout_etl.publish.folders import SHARD

    for folder, files in groupby(outputs, lambda file: os.path.dirname(file.path) if SHARD.fullmatch(os.path.basename(file.path)) else None):
        found = list(files)
        if folder is None:
            yield from (f"{file.path} ({file.bytes:,} bytes)" for file in found)
        else:
            yield f"{folder}/ ({counted(len(found), 'shard')}, {sum(file.bytes for file in found):,} bytes)"


def _statistics(found: dict[str, float]) -> list[str]:
    if "label_true" in found:
        weights = f"desirable_weight {found['desirable_weight']:g}, undesirable_weight {found['undesirable_weight']:g}"
        return [f"labels       {found['label_true']:,} true, {found['label_false']:,} false: {weights}"]
    means = ", ".join(f"{name.removesuffix('_reward').replace('_', ' ')} {found[name]:.3f}" for name in found if name.startswith("mean_"))
    lines = [f"rewards      {means}"] if means else []
    if "longer_chosen" in found:
        lines.append(f"lengths      chosen by rejected {found['median_length_ratio']:.2f} (median), longer in {found['longer_chosen']:.0%} of the pairs")
    return lines


def _count(label: str, count: int, of: str = "") -> str:
    return f"{label:<13}{count:>10,} {of}".rstrip()


def _wrapped(label: str, text: str, width: int) -> list[str]:
    return textwrap.wrap(plain(text), width, initial_indent=f"{label:<13}", subsequent_indent=" " * 13, break_long_words=False, break_on_hyphens=False)
