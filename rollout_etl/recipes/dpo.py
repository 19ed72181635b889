"""Direct preference optimisation: pairs of rollouts of the same group whose rewards differ enough.

Rollouts are paired by keys and rewards alone; messages are fetched afterwards, only for the pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import polars as pl

from rollout_etl.curate.rules import SOUND, TOLERANCE, TRAINABLE, Rule, chosen_rules, verdict
from rollout_etl.recipes.options import DpoOptions, RmOptions, options_of
from rollout_etl.recipes.pairing import NARROW, pair_rollouts

COLUMNS = {
    "binary": ("prompt", "prompt_text", "prompt_kinds", "response_text"),
    "preference": ("prompt", "completion", "tools"),
}
CANNOT_HOLD = {"binary": ("flattened_completion", "tool_prompt"), "preference": ("inexact_number",)}
"""Rules for what the rows of each format cannot hold: a single text cannot hold a trajectory, and the loader of the preference
format reads numbers with a JSON reader that is not exact."""
_ID = r'"(?:[^"\\]|\\.)*"'
_CALL = rf'\{{"id":{_ID},("type":"function","function":\{{"name":)'
_RESULT = rf',"tool_call_id":{_ID}\}}(,\{{"role":|\]$)'
"""The ids of calls and results, distinguished from arguments of the same names by the fields next to them."""
_FRAME = r'"role":"[a-z]+"|"type":"function"|"(?:content|reasoning_content|tool_calls|function|name|arguments)":'
"""What messages hold besides their texts."""


def rules(options: DpoOptions, cannot_hold: Sequence[str] | None = None) -> list[Rule]:
    """The rules that drop rollouts. `cannot_hold` names the rules for what the target's rows cannot hold; without it, those of the format apply."""
    rows = CANNOT_HOLD[options.format] if cannot_hold is None else cannot_hold
    return chosen_rules([*SOUND, *TRAINABLE, *rows], options.keep, options.drop, fixed=("missing_reward", "nonfinite_reward", "unfinished", "empty_answer"))


def example_rules(options: DpoOptions) -> list[Rule]:
    """The rules that drop pairs."""
    return [identical_sides("response_text" if options.format == "binary" else "completion")]


def identical_sides(said: str) -> Rule:
    """The rule for pairs whose sides are equal in the canonical column `said`. Ids of calls do not count."""
    chosen, rejected = (pl.col(f"{side}_{said}") for side in ("chosen", "rejected"))
    same = without_ids(chosen) == without_ids(rejected) if said == "completion" else chosen == rejected
    return Rule("identical_sides", same, "both sides say the same")


def without_ids(messages: pl.Expr) -> pl.Expr:
    """JSON messages without the ids of calls, which templates do not show to a model."""
    return messages.str.replace_all(_CALL, "{${1}").str.replace_all(_RESULT, "}${1}")


def pair_rules(options: DpoOptions) -> list[Rule]:
    """The rules that drop pairs before their messages are fetched; a rollout is never paired with itself."""
    too_close = pl.col("reward_gap") < options.min_gap - TOLERANCE
    rules = [Rule("gap_too_small", too_close | (pl.col("chosen_row") == pl.col("rejected_row")), f"the rewards differ by less than {options.min_gap:g}")]
    if options.match_length is not None:
        chosen, rejected = (pl.col(f"{side}_chars").clip(1) for side in ("chosen", "rejected"))
        apart = pl.max_horizontal(chosen, rejected) > options.match_length * pl.min_horizontal(chosen, rejected) + TOLERANCE
        rules.append(Rule("length_mismatch", apart, f"one side is more than {options.match_length:g} times as long as the other"))
    return [*rules, Rule("overused", pl.col("is_overused"), "a side is already in as many pairs as --max-uses allows")]


def distance_rules(options: DpoOptions) -> list[Rule]:
    """The rule that drops pairs whose sides use nearly the same words, if --min-distance is given. Needs `completion` of both sides."""
    if options.min_distance is None:
        return []
    words = [_spoken(pl.col(f"{side}_completion")).str.to_lowercase().str.extract_all(r"\w+").list.unique() for side in ("chosen", "rejected")]
    shared, together = words[0].list.set_intersection(words[1]).list.len(), words[0].list.set_union(words[1]).list.len()
    # Lengths are unsigned.
    distance = 1 - shared.cast(pl.Float64) / together.clip(1)
    return [Rule("too_alike", distance < options.min_distance - TOLERANCE, f"the Jaccard distance of both sides is below {options.min_distance:g}")]


def _spoken(messages: pl.Expr) -> pl.Expr:
    """The texts of JSON messages, without field names, roles, ids and escapes."""
    return without_ids(messages).str.replace_all(_FRAME, " ").str.replace_all(r"\\(?:u[0-9a-fA-F]{4}|.)", " ")


MEASURED = ("reward_gap", "chosen_reward", "rejected_reward", "chosen_completion_chars", "rejected_completion_chars")
"""Columns of pairs that `measures` uses."""


def measures(pairs: pl.DataFrame) -> dict[str, float]:
    """Measures of the resulting pairs: mean gap and rewards, the length ratio of the sides, how often the chosen side is longer."""
    chosen, rejected = pl.col("chosen_completion_chars"), pl.col("rejected_completion_chars")
    found = pairs.select(
        pl.col("reward_gap", "chosen_reward", "rejected_reward").mean().name.prefix("mean_"),
        median_length_ratio=(chosen.clip(1) / rejected.clip(1)).median(), longer_chosen=(chosen > rejected).mean(),
    )
    # The mean of huge rewards overflows a double, and JSON has no infinity.
    return {name: round(value, 6) for name, value in found.row(0, named=True).items() if value is not None and isfinite(value)}


def with_sides(pairs: pl.DataFrame, said: pl.DataFrame) -> pl.DataFrame:
    """`pairs` with the columns of `said` (matched by `row`) for both sides, prefixed `chosen_` and `rejected_`."""
    for side in ("chosen", "rejected"):
        pairs = pairs.join(said.select(pl.all().name.prefix(f"{side}_")), on=f"{side}_row", how="inner", maintain_order="left")
    return pairs


def preference_pairs(rollouts: pl.LazyFrame, options: DpoOptions | None = None) -> pl.LazyFrame:
    """Preference pairs: a better and a worse rollout of the same group.

    `rollouts` is the canonical table; its keys and rewards are read immediately, its texts when the result is collected. The
    result has `reward_gap` (Float64), `is_overused` (Boolean, always false here), and for both sides, prefixed `chosen_` and
    `rejected_`: `row` (Int64), `reward` (Float64), `chars` (the length of the completion) and the columns of the format.
    """
    options = options_of(options, DpoOptions, RmOptions)
    kept = rollouts.filter(verdict(rules(options)).is_null())
    pairs, _ = pair_rollouts(kept.select(NARROW).collect(), options)
    lazy = pairs.filter(verdict(pair_rules(options)).is_null()).lazy()
    said = dict.fromkeys((*COLUMNS[options.format], "completion"))
    for side in ("chosen", "rejected"):
        renamed = kept.select("row", *said).select(pl.all().name.prefix(f"{side}_"))
        lazy = lazy.join(renamed, on=f"{side}_row", how="inner", maintain_order="left")
    apart = lazy.filter(verdict([*example_rules(options), *distance_rules(options)]).is_null())
    return apart if "completion" in COLUMNS[options.format] else apart.drop("chosen_completion", "rejected_completion")
