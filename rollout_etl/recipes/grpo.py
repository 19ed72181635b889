"""Group relative policy optimisation: prompts with the ground truth that answers are verified against.

GRPO samples its own answers and scores them with its own environment, so prompts and ground truth matter; recorded answers
and rewards do not. Prompts of failed rollouts are used too.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from rollout_etl.curate.groups import GROUP
from rollout_etl.curate.rules import SOUND, Rule, below_threshold, chosen_rules, verdict
from rollout_etl.curate.select import TIES
from rollout_etl.recipes.options import GrpoOptions, PpoOptions, options_of

NARROW = ("row", *GROUP, "reward", *TIES)
"""Canonical columns that decide which rollout represents its group."""
COLUMNS = {
    "response": ("prompt_text", "response_text", "ground_truth_text"),
    "gym": ("gym_row", "agent_name"),
}
PROMPT_ELSEWHERE = ("no_input", "no_prompt", "messages", "response_only")
"""Shapes of rollouts whose prompt is not in `responses_create_params`, but elsewhere or nowhere."""
_MISSING_AGENT = Rule("missing_agent", pl.col("agent_name").is_null(), "agent_ref.name is missing, and --agent-name is not given")
_WITHOUT_TEXT = Rule("empty_answer", pl.col("response_text").fill_null("").str.strip_chars(" \t\r\n") == "", "there is no answer text for the output field")


def rules(options: GrpoOptions, cannot_hold: Sequence[str] | None = None) -> list[Rule]:
    """The rules that drop rollouts. Problems of the completion do not count, unless rewards are used.

    `cannot_hold` names the rules for what the target's rows cannot hold, and such rows hold text; without it, those of the format apply.
    """
    extra, defaults, fixed = [], ["failure_row", *(cannot_hold or ())], ["missing_agent"]
    if options.reward_threshold is not None:
        defaults += SOUND
        extra.append(below_threshold(options.reward_threshold))
    if options.format == "response" or cannot_hold is not None:
        defaults += ["media", "empty_prompt"]
        if not options.no_ground_truth:
            defaults.append("missing_ground_truth")
            fixed.append("missing_ground_truth")
    else:
        extra.append(Rule("missing_input", pl.col("shape").str.contains("|".join(("empty_input", *PROMPT_ELSEWHERE))),
                          "responses_create_params.input is missing or empty"))
        if options.agent_name is None:
            extra.append(_MISSING_AGENT)
    return chosen_rules(defaults, options.keep, options.drop, extra, fixed)


def stand_ins(kept: pl.DataFrame, options: GrpoOptions) -> pl.DataFrame:
    """The rollout that represents each group: the best reward, with ties broken by attempt, content, file and line. In input order."""
    if options.all_rollouts:
        return kept.sort("row")
    best_first = kept.sort("reward", *TIES, descending=[True, *[False] * len(TIES)], nulls_last=True)
    first = best_first.unique(GROUP, keep="first", maintain_order=True)
    return first.sort("row")


def example_rules(options: GrpoOptions) -> list[Rule]:
    """Rules for examples: the response format has an output field, and the loaders reject an empty one."""
    return [_WITHOUT_TEXT] if options.format == "response" and "empty_answer" not in options.keep else []


def grpo_prompts(rollouts: pl.LazyFrame, options: GrpoOptions | None = None) -> pl.LazyFrame:
    """Prompts for GRPO, one for each group (each rollout with `all_rollouts`).

    `rollouts` is the canonical table. The result has `prompt_text`, `response_text` and `ground_truth_text` for the format
    `response`, `gym_row` (JSON text) and `agent_name` for `gym`.
    """
    options = options_of(options, GrpoOptions, PpoOptions)
    kept = rollouts.filter(verdict(rules(options)).is_null())
    rows = stand_ins(kept.select(NARROW).collect(), options)["row"]
    examples = kept.filter(pl.col("row").is_in(rows.implode())).select(COLUMNS[options.format])
    return examples.filter(verdict(example_rules(options)).is_null())
