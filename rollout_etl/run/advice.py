"""Warnings of a run: options without effect, too few examples, no pairs, and which option to change."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection
from dataclasses import fields

import polars as pl

from rollout_etl.curate.options import Curation
from rollout_etl.recipes import dpo, sft
from rollout_etl.recipes.grpo import PROMPT_ELSEWHERE
from rollout_etl.recipes.options import AnyOptions, DpoOptions, GrpoOptions, PpoOptions, SftOptions
from rollout_etl.recipes.pairing import draws_pairs
from rollout_etl.run.report import Report, by_count
from rollout_etl.targets.target import Job, Rows

FEW_SFT_EXAMPLES = 100
_OF_STRATEGIES = {
    "high_threshold": ("stratified",), "low_threshold": ("stratified",), "top_k": ("top-k-bottom-k",),
    "max_pairs": ("stratified", "all", "top-k-bottom-k"),
    **dict.fromkeys(("pairs_per_group", "max_uses"), ("stratified", "ranked", "adjacent", "all", "top-k-bottom-k")),
}
"""Pairing options that only some strategies use."""


_OF_FORMATS: tuple[tuple[type[AnyOptions], str, str, str], ...] = (
    (SftOptions, "tool_call_style", "--format openai", "simple"), (DpoOptions, "prompt_as", "--format binary", "preference"),
    (GrpoOptions, "agent_name", "--format gym", "response"), (GrpoOptions, "no_ground_truth", "--format response", "gym"),
)
"""Options that only one format uses: options class, field, that format, and the other format."""
_PROMPTS, _ANSWERS = {"prompt", "plain_prompt"}, {"completion", "plain_completion"}
"""Columns of examples that hold messages. An answer may also be `response_text`."""


_NO_TRUTH = "missing_ground_truth"
_WAYS_TO_TRUTH = (
    "name its field with --ground-truth-field, name the dataset the rollouts were made from with --task-inputs, or use --no-ground-truth"
)
_MANY_WITHOUT_TRUTH = 0.25
"""A larger share of rollouts without ground truth gets a warning."""
_KNOBS = {
    "gap_too_small": "lower --min-gap {min_gap:g}", "length_mismatch": "raise --match-length", "too_alike": "lower --min-distance",
    "out_of_mix": "name only existing sources in --mix", "identical_sides": "collect at a higher temperature",
    "missing_reward": "compute it with --reward, or verify the rollouts", "missing_token_ids": "leave --token-ids out",
}
"""How to keep more, by the most frequent reason for drops."""
_WAYS_TO_PROMPTS = {
    "empty_answer": "rows need an answer: collect rollouts that end in one, or write only prompts with --format gym (nemo-rl)",
    "missing_input": "if the environment fills in the prompt itself, add --keep missing_input",
    "missing_agent": "name the agent with --agent-name",
}
_CONVERSATIONS = {"sft": "--format openai", "dpo": "--format preference", "rm": "--format preference"}
"""NeMo RL's formats that hold tool calls and several turns."""


def advise(report: Report, options: AnyOptions) -> None:
    """Add warnings to the report, each once."""
    for warning in [*_warnings(report, options), *_diverging(report), *_unknown(report, options), *_without_input(report, options)]:
        if warning not in report.warnings:
            report.warnings.append(warning)


def _warnings(report: Report, options: AnyOptions) -> list[str]:
    if not report.read:
        return ["the input has no lines"]
    if isinstance(options, SftOptions):
        if report.written < FEW_SFT_EXAMPLES:
            return [_few_examples(report, options)]
    elif isinstance(options, DpoOptions):
        if report.written == 0:
            return [_no_pairs(report, options)]
    elif report.written == 0:
        return [_no_prompts(report, options)] if isinstance(options, GrpoOptions) else ["no answers: no rollout was kept" + _largest(report.dropped, options)]
    if isinstance(options, GrpoOptions) and (empty := report.dropped.get("missing_input", 0)):
        return [f"{empty} of {empty + report.kept} rollouts have no input: {_WAYS_TO_PROMPTS['missing_input']}"]
    missing = report.dropped.get(_NO_TRUTH, 0)
    if missing > _MANY_WITHOUT_TRUTH * (missing + report.kept):
        return [f"{missing} of {missing + report.kept} rollouts have no ground truth: {_WAYS_TO_TRUTH}"]
    return []


def _diverging(report: Report) -> list[str]:
    count = sum(count for shape, count in report.shapes.items() if "+diverging_transitions" in shape)
    return [f"{count} rollouts are lists of transitions that do not repeat the previous ones: only the last transition of each was read"] if count else []


def _unknown(report: Report, options: AnyOptions) -> list[str]:
    # Rows for Gym hold the input as it was recorded, and no completion.
    count = 0 if isinstance(options, GrpoOptions) and options.format == "gym" else report.left_out["unknown"]
    way = "find their rollouts with `show --where 'num_unknown > 0'`"
    return [f"{count} item(s) of unknown types were left out of prompts and completions: {way}"] if count else []


def _without_input(report: Report, options: AnyOptions) -> list[str]:
    if not (isinstance(options, GrpoOptions) and options.format == "gym" and "missing_input" in options.keep):
        return []
    count = sum(count for shape, count in report.shapes.items() if any(place in shape for place in PROMPT_ELSEWHERE))
    return [f"{count} rollouts do not have their prompt in responses_create_params, so rows made from them have no prompt"] if count else []


def _few_examples(report: Report, options: SftOptions) -> str:
    lost = report.dropped + report.examples_dropped
    first = _KNOBS.get(next(iter(by_count(lost)), ""))
    ways = [*([first] if first else []), *(["lower --reward-threshold"] if lost["below_threshold"] else []), "or collect more rollouts"]
    return f"fewer than {FEW_SFT_EXAMPLES} examples ({report.written}): {', '.join(ways).removeprefix('or ')}{_largest(lost, options)}"


def _no_pairs(report: Report, options: DpoOptions) -> str:
    if report.kept == 0:
        return "no pairs: no rollout was kept" + _largest(report.dropped, options)
    if report.built == 0:
        knob = "lower --high-threshold or raise --low-threshold" if options.strategy == "stratified" else "collect several rollouts of each prompt"
        return f"no pairs: {report.kept} rollouts in {report.groups} groups gave no candidates; {knob}" + _largest(report.dropped, options)
    lost = by_count(report.examples_dropped)
    most = next(iter(lost))
    if most == "gap_too_small" and options.min_gap == 0:
        knob = "the rewards of a prompt are all equal: collect harder prompts, or use a higher temperature"
    else:
        knob = _KNOBS.get(most, "").format(min_gap=options.min_gap)
    few = _largest(report.dropped, options) if report.dropped.total() > report.kept else ""
    return f"no pairs: {report.built} candidates, but all were dropped ({_counts(lost)})" + (f"; {knob}" if knob else "") + few


def _no_prompts(report: Report, options: GrpoOptions) -> str:
    lost = report.dropped + report.examples_dropped
    most = next(iter(by_count(lost)), "")
    if most == _NO_TRUTH and len(lost) == 1:
        return f"no prompts: no ground truth was found; {_WAYS_TO_TRUTH}"
    way = {**_KNOBS, _NO_TRUTH: _WAYS_TO_TRUTH, **_WAYS_TO_PROMPTS}.get(most)
    return "no prompts" + _largest(lost, options) + (f"; {way}" if way else "")


def without_effect(job: Job, rows: Rows, curation: Curation, sources: Collection[str] = ()) -> list[str]:
    """Warnings for options that were set but that nothing uses: they would look as if they had worked.

    `rows` are those of the job, and `sources` the columns that are written besides those of the recipe.
    """
    options = job.options
    idle: list[tuple[AnyOptions | Curation, str, str]] = []
    draws = "--sample, --cap or --mix"
    if isinstance(options, DpoOptions):
        draws = "--sample, --cap, --mix or a --strategy that draws pairs"
        idle += [(options, name, f"without --strategy {' or '.join(used)}") for name, used in _OF_STRATEGIES.items() if options.strategy not in used]
    idle += [(options, name, f"without {way}") for of, name, way, other in _OF_FORMATS if isinstance(options, of) and getattr(options, "format", None) == other]
    if not curation.split_near and not any(of.startswith("near-") for of in curation.dedup):
        idle.append((curation, "near", "without --dedup near-response, near-prompt or --split-near"))
    if curation.exclude_prompts is None:
        idle.append((curation, "exclude_ngram", "without --exclude-prompts"))
    counts_successes = any(source.rpartition(".")[2] == "pass_rate" for source in sources)
    if curation.where_group is None and curation.select not in ("shortest-correct", "first-correct") and not counts_successes:
        idle.append((curation, "success", "without --where-group, --select shortest-correct or first-correct, or --extra pass_rate"))
    if not (curation.sample or curation.cap or curation.mix or (isinstance(options, DpoOptions) and draws_pairs(options))):
        idle.append((options, "seed", f"without {draws}"))
    if isinstance(options, PpoOptions) and options.with_responses:
        # Every rollout is a row then anyway.
        idle.append((options, "all_rollouts", "with --with-responses"))
        if job.mapping:
            idle.append((options, "no_ground_truth", "with --with-responses and --map, which names the columns"))
    defaults = {f.name: f.default for of in (options, curation) for f in fields(of)}
    unused = [f"--{name.replace('_', '-')} has no effect {why}" for of, name, why in idle if getattr(of, name) != defaults[name]]
    return unused + _without_effect_on_rows(job, rows)


def _without_effect_on_rows(job: Job, rows: Rows) -> list[str]:
    """Warnings for the style of what the rows do not hold, whatever the rollouts are."""
    said = {name.removeprefix("chosen_").removeprefix("rejected_") for field in rows.fields for name in field.sources}
    of_format = {**sft.CANNOT_HOLD, **dpo.CANNOT_HOLD}.get(getattr(job.options, "format", ""), ()) if rows.cannot_hold is None else rows.cannot_hold
    dropped = {*of_format, *job.options.drop} - {*job.options.keep}
    calls = (said & _PROMPTS and "tool_prompt" not in dropped) or (said & _ANSWERS and not dropped & {"flattened_completion", "tool_completion"})
    found = [] if calls or job.arguments is None else [f"--arguments {job.arguments} has no effect on rows without tool calls"]
    if job.think != "keep" and not said & {*_ANSWERS, "response_text"}:
        found.append(f"--think {job.think} has no effect on rows without answers")
    return found


def _largest(lost: Counter[str], options: AnyOptions) -> str:
    """The most frequent reasons for drops, and the way out if the format is the reason."""
    if not lost:
        return ""
    way = ""
    if next(iter(by_count(lost))) == "flattened_completion":
        formats = [f"{_CONVERSATIONS[options.recipe]} (nemo-rl)"] if options.recipe in _CONVERSATIONS else []
        way = f"; tool calls and several turns need {' or '.join([*formats, '--as messages (other targets)'])}"
    return f" (dropped: {_counts(lost)}){way}"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in list(by_count(counts).items())[:3])


def disagreeing(statics: pl.Series) -> list[str]:
    """Names of the fields that differ within at least one of the groups, each given as a list of JSON objects or nulls."""
    names: list[str] = []
    for group in statics.head(1000).to_list():
        values = [json.loads(value) if value else {} for value in group]
        for name in dict.fromkeys(name for value in values for name in value):
            if name not in names and len({json.dumps(value.get(name)) for value in values}) > 1:
                names.append(name)
    return names
