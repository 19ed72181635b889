"""What a run's counts tell: too few examples, no pairs, and which knob to turn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from difflib import get_close_matches

import polars as pl

from rollout_etl.recipes.options import AnyOptions, DpoOptions, GrpoOptions, SftOptions
from rollout_etl.report import Report, by_count

FEW_SFT_EXAMPLES = 100


def advise(report: Report, options: AnyOptions) -> None:
    """Add warnings to the report, each once."""
    for warning in _warnings(report, options):
        if warning not in report.warnings:
            report.warnings.append(warning)


def _warnings(report: Report, options: AnyOptions) -> list[str]:
    if isinstance(options, SftOptions):
        if report.written < FEW_SFT_EXAMPLES:
            return [f"fewer than {FEW_SFT_EXAMPLES} examples ({report.written}): lower --reward-threshold, or collect more rollouts" + _largest(report)]
    elif isinstance(options, DpoOptions):
        if report.written == 0:
            return [_no_pairs(report, options)]
    elif report.written == 0:
        return [_no_prompts(report, options)] if isinstance(options, GrpoOptions) else ["no answers: no rollout was kept" + _largest(report)]
    return []


def _no_pairs(report: Report, options: DpoOptions) -> str:
    if report.kept == 0:
        return "no pairs: no rollout was kept" + _largest(report)
    if report.built == 0:
        knob = "lower --high-threshold or raise --low-threshold" if options.strategy == "stratified" else "collect several rollouts of each prompt"
        return f"no pairs: {report.kept} rollouts in {report.groups} groups gave no candidates; {knob}" + _largest(report)
    return f"no pairs: {report.built} candidates, but none is left ({_counts(report.examples_dropped)}); lower --min-gap {options.min_gap:g}"


def _no_prompts(report: Report, options: GrpoOptions) -> str:
    if report.dropped.get("missing_ground_truth"):
        return (
            "no prompts: no ground truth was found; name its field with --ground-truth-field, the dataset the rollouts were made from "
            "with --task-inputs, or do without by --no-ground-truth"
        )
    return "no prompts" + (_largest(report) if options else "")


def _largest(report: Report) -> str:
    return f" (dropped: {_counts(report.dropped)})" if report.dropped else ""


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in list(by_count(counts).items())[:3])


def nearest(path: str, names: Sequence[str]) -> str:
    """The fields that may have been meant."""
    close = get_close_matches(path.partition(".")[0], names, n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(close)}?" if close and path.partition(".")[0] not in names else ""


def disagreeing(statics: pl.Series) -> list[str]:
    """Names of the fields that differ inside at least one of the groups, each a list of JSON objects or nulls."""
    names: list[str] = []
    for group in statics.head(1000).to_list():
        values = [json.loads(value) if value else {} for value in group]
        for name in dict.fromkeys(name for value in values for name in value):
            if name not in names and len({json.dumps(value.get(name)) for value in values}) > 1:
                names.append(name)
    return names
