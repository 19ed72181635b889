"""Named reasons to drop a rollout. Each is a boolean expression over the canonical table; a rollout is counted under the first that is true."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl

from rollout_etl.errors import UsageError
from rollout_etl.nearest import meant_or_all

TOLERANCE = 1e-9
"""Tolerance when rewards are compared: verifiers write 0.9999999999999998 and mean 1."""


@dataclass(frozen=True)
class Rule:
    """A named reason to drop a rollout."""

    name: str
    drops: pl.Expr
    meaning: str

    @property
    def columns(self) -> list[str]:
        """Canonical columns that the rule uses."""
        return self.drops.meta.root_names()


_LAST_TURN = pl.col("completion_kinds").str.extract("([RrACcEX]*)$")
_SAID_SOMETHING = _LAST_TURN.str.contains("[ACc]")
_ENDS_BY_ASSISTANT = _LAST_TURN.str.contains("[RrACcE]") | (pl.col("completion_kinds") == "")

RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule("failure_row", pl.col("is_failure"), "the infrastructure failed, not the model"),
        Rule("masked", pl.col("is_masked"), "mask_sample is set: the agent excludes it from the loss"),
        Rule("verification_skipped", pl.col("is_unverified"), "the reward is a constant, not a score"),
        Rule("nonfinite_reward", pl.col("is_nonfinite"), "the reward is NaN or infinite"),
        Rule("missing_reward", pl.col("reward").is_null() & ~pl.col("is_nonfinite"), "the reward is missing, null or not a number"),
        Rule("truncated", pl.col("is_truncated"), "cut off: token limit, context overflow, or a `<think>` that never closes"),
        Rule("media", pl.col("has_media"), "holds images, audio, video or files, which text formats lose"),
        Rule("empty_prompt", pl.col("is_prompt_empty"), "the prompt has no user message with text"),
        Rule("unfinished", ~_ENDS_BY_ASSISTANT, "does not end in an assistant message"),
        Rule("empty_answer", _ENDS_BY_ASSISTANT & ~_SAID_SOMETHING, "the last assistant message has neither text nor tool calls"),
        Rule("invalid_tool_call", pl.concat_str("prompt_kinds", "completion_kinds").str.contains("c", literal=True),
             "a tool call has no name, or its arguments are not a JSON object"),
        Rule("unanswered_tool_call", pl.col("num_unanswered") > 0, "a tool call before the last turn has no result"),
        Rule("orphan_tool_result", pl.col("num_orphans") > 0, "a tool result belongs to no call"),
        Rule("flattened_prompt", pl.col("num_messages") > 1, "the format holds one question: system text and earlier turns are lost"),
        Rule("flattened_completion", pl.col("completion_kinds").str.contains("[CcOUSDM]"),
             "the format holds one text: tool calls and other messages are lost"),
        Rule("tool_prompt", pl.col("prompt_kinds").str.contains("[CcO]"), "the prompt holds tool calls, but the format holds only roles and texts"),
        Rule("tool_completion", pl.col("completion_kinds").str.contains("[CcO]"), "the completion holds tool calls, but the format holds only roles and texts"),
        Rule("tool_schemas", pl.col("tools").is_not_null(), "tools were offered, but the format has no place for their schemas"),
        Rule("reasoning", pl.concat_str("prompt_kinds", "completion_kinds").str.contains("R", literal=True),
             "holds reasoning separate from the text, but the format has no place for it"),
        Rule("reasoning_prompt", pl.col("prompt_kinds").str.contains("R", literal=True),
             "the prompt holds reasoning separate from the text, but the format has no place for it"),
        Rule("invalid_prompt_call", pl.col("prompt_kinds").str.contains("c", literal=True),
             "a tool call of the prompt has no name, or its arguments are not a JSON object"),
        Rule("answered_prompt", pl.col("prompt_kinds").str.contains("[RACc][ErX]*$"), "the prompt ends in an assistant message"),
        Rule("late_answer", pl.col("completion_kinds").str.contains("^[ErX]*[OUSDM]"), "the completion does not begin with an assistant message"),
        Rule("parallel_tool_calls", pl.concat_str("prompt_kinds", pl.lit("|"), "completion_kinds").str.contains("[Cc][RAErX]*[Cc]"),
             "a message holds several tool calls, which the templates of Llama 3 reject"),
        Rule("earlier_reasoning", pl.col("has_earlier_reasoning"),
             "a turn before a later question holds reasoning, which templates such as Qwen3's leave out"),
        Rule("text_with_call", pl.concat_str("prompt_kinds", pl.lit("|"), "completion_kinds").str.contains("A[RAErX]*[Cc]|[Cc][RCcErX]*A"),
             "a message holds both text and a tool call, and the templates of Llama 3 show only the call"),
        Rule("inexact_number", pl.col("has_inexact_number"),
             "tool arguments hold a fraction or a huge integer, whose last digits the loader's JSON reader changes"),
        # The column covers prompt and completion: a rollout too many is dropped if only its completion holds such a number.
        Rule("inexact_prompt_number", pl.col("has_inexact_number") & pl.col("prompt_kinds").str.contains("C", literal=True),
             "the same, where the prompt holds tool calls"),
        Rule("missing_ground_truth", pl.col("ground_truth").is_null(), "there is no ground truth to verify an answer against"),
    )
}
"""All rules, in the order in which they are checked."""

SOUND = ("failure_row", "masked", "verification_skipped", "nonfinite_reward", "missing_reward")
"""The reward says something about the model."""
TRAINABLE = ("truncated", "media", "empty_prompt", "unfinished", "empty_answer", "invalid_tool_call", "unanswered_tool_call", "orphan_tool_result")
"""The completion is fit for training."""

OF_EXAMPLES = ("think_tag",)
"""Rules that a target applies to examples; `--keep` can turn them off as well."""


def below_threshold(threshold: float) -> Rule:
    """The rule for rewards under a threshold; the threshold itself is good enough."""
    return Rule("below_threshold", pl.col("reward") < threshold - TOLERANCE, f"the reward is under {threshold:g}")


def chosen_rules(defaults: Iterable[str], keep: Sequence[str], drop: Sequence[str], extra: Iterable[Rule] = (), fixed: Sequence[str] = ()) -> list[Rule]:
    """The default rules without `keep` and with `drop`, in their order, then `extra`. Rules in `fixed` cannot be turned off.

    Raises `UsageError` for a name that is not a rule, or that is both kept and dropped.
    """
    extras = list(extra)
    names = [*RULES, *(rule.name for rule in extras)]
    for name in [*keep, *drop]:
        if name not in names and not (name in OF_EXAMPLES and name in keep):
            raise UsageError(f"no rule '{name}'{meant_or_all(name, [*names, *OF_EXAMPLES], 'rules')}")
    if both := [name for name in keep if name in drop]:
        raise UsageError(f"--keep {both[0]} and --drop {both[0]} cannot be combined")
    for name in keep:
        if name in fixed:
            raise UsageError(f"--keep {name}: this format cannot hold such rollouts")
    wanted = (set(defaults) | set(drop)) - set(keep)
    return [rule for rule in RULES.values() if rule.name in wanted] + [rule for rule in extras if rule.name not in keep]


def verdict(rules: Sequence[Rule]) -> pl.Expr:
    """The name of the first rule that drops a rollout, null for those that are kept. Column `rule`, String."""
    if not rules:
        return pl.lit(None, dtype=pl.String).alias("rule")
    return pl.coalesce(pl.when(rule.drops).then(pl.lit(rule.name)) for rule in rules).alias("rule")


def columns_of(rules: Iterable[Rule]) -> list[str]:
    """Canonical columns that a set of rules uses, each once."""
    return list(dict.fromkeys(name for rule in rules for name in rule.columns))
