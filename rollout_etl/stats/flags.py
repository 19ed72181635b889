"""Red flags: named checks of rollouts against what an algorithm needs, each with its threshold, its source, and what to do.

Thresholds are those of the NeMo Gym docs where they state one; the other checks name their source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rollout_etl.curate.rules import TOLERANCE

Severity = Literal["warning", "error"]
ALGORITHMS = ("sft", "dpo", "grpo", "ppo", "kto")
Facts = dict[str, Any]
"""`overall` (see `summary`), `candidates` (see `candidates`), `mixed_groups`, `copies` (rollouts that repeat another of their group),
`comparison` (see `comparison`, null without earlier rollouts)."""


@dataclass(frozen=True)
class Check:
    """A named check. `look` returns what was seen if the check fails, and None if it passes."""

    name: str
    severity: Severity
    algorithms: tuple[str, ...]
    threshold: str
    source: str
    look: Callable[[Facts], str | None]
    remedy: str


@dataclass(frozen=True)
class Flag:
    """A check that failed."""

    name: str
    severity: Severity
    algorithms: tuple[str, ...]
    saw: str
    threshold: str
    source: str
    remedy: str

    def to_json(self) -> dict[str, Any]:
        """The flag as JSON values."""
        return {**asdict(self), "algorithms": list(self.algorithms)}


def _reward(facts: Facts) -> dict[str, Any] | None:
    found: dict[str, Any] | None = facts["overall"]["reward"]
    return found


def _on_rewards(look: Callable[[dict[str, Any]], str | None]) -> Callable[[Facts], str | None]:
    """A check of rewards, if there are any; if there are none, another flag is raised already."""
    return lambda facts: None if _reward(facts) is None else look(facts["overall"]["reward"])


def _share(name: str, limit: float, what: str) -> Callable[[Facts], str | None]:
    """A check of the share of rollouts that a count of `overall` makes up."""

    def look(facts: Facts) -> str | None:
        count, total = facts["overall"][name], facts["overall"]["rollouts"]
        return f"{count:,} of {total:,} rollouts ({count / total:.1%}) {what}" if total and count > limit * total else None

    return look


def _identical(value: Callable[[float], bool]) -> Callable[[Facts], str | None]:
    return _on_rewards(
        lambda r: f"all {r['count']:,} rewards are {r['min']:g}" if r["count"] > 1 and r["max"] - r["min"] <= TOLERANCE and value(r["min"]) else None
    )


def _spread(reward: dict[str, Any]) -> str | None:
    high, low = reward["over_0.7"], reward["under_0.5"]
    return f"{high:.0%} of the rewards are over 0.7, {low:.0%} under 0.5" if min(high, low) < 0.2 - TOLERANCE else None


def _no_spread(facts: Facts) -> str | None:
    groups = facts["overall"]["groups"]
    if groups is None or not groups["several"] or groups["no_spread"] * 2 <= groups["several"]:
        return None
    return f"{groups['no_spread']:,} of {groups['several']:,} groups have equal rewards ({groups['solved_by_all']:,} solved by all, {groups['solved_by_none']:,} by none)"


def _lone(facts: Facts) -> str | None:
    groups = facts["overall"]["groups"]
    return f"none of {groups['groups']:,} groups has two attempts" if groups is not None and not groups["several"] else None


def _length(facts: Facts) -> str | None:
    found = facts["overall"]["length"]["correlation"]
    return f"correlation of reward and length is {found:+.2f}" if found is not None and abs(found) >= 0.5 else None


def _length_gap(facts: Facts) -> str | None:
    pairs = facts["overall"]["length"]["pairs"]
    if pairs is None or pairs["pairs"] < 10 or 0.2 < pairs["chosen_longer"] < 0.8:
        return None
    return f"the chosen side is the longer one in {pairs['chosen_longer']:.0%} of {pairs['pairs']:,} pairs ({pairs['chosen_chars']:.0f} characters against {pairs['rejected_chars']:.0f})"


def _outside(low: float, high: float) -> Callable[[Facts], str | None]:
    return _on_rewards(lambda r: f"rewards from {r['min']:g} to {r['max']:g}" if r["min"] < low - TOLERANCE or r["max"] > high + TOLERANCE else None)


def _truth(facts: Facts) -> str | None:
    found = facts["candidates"]["grpo"]
    return f"none of {found['prompts']:,} prompts has a ground truth" if found["prompts"] and not found["with_ground_truth"] else None


def _small_gaps(facts: Facts) -> str | None:
    mean = facts["candidates"]["dpo"]["mean_gap"]
    return f"the mean gap between best and worst is {mean:.3f}" if mean is not None and mean < 0.2 - TOLERANCE else None


def _gap_share(name: str, limit: float, what: str) -> Callable[[Facts], str | None]:
    def look(facts: Facts) -> str | None:
        share = facts["candidates"]["dpo"][name]
        return f"{share:.0%} of the gaps are {what}" if share is not None and share > limit else None

    return look


def _few_sft(facts: Facts) -> str | None:
    count = facts["candidates"]["sft"]["examples"]
    return f"{count:,} rollouts reach 0.95" if count < 100 else None


def _one_label(facts: Facts) -> str | None:
    found = facts["candidates"]["kto"]
    return f"{found['true']:,} true, {found['false']:,} false" if not (found["true"] and found["false"]) else None


def _falling(facts: Facts) -> str | None:
    compared = facts["comparison"]
    if compared is None or not compared["mean_error"]:
        return None
    mean = compared["overall"]["mean"]
    fell = mean["change"] < -2 * compared["mean_error"]
    return f"mean reward {mean['now']:.3f} after {mean['before']:.3f} (standard error of the change {compared['mean_error']:.3f})" if fell else None


ALL = ALGORITHMS
_ONLINE = ("grpo", "ppo")
_PREPARE, _QUALITY, _SCALE, _OURS = "docs: prepare-for-training", "docs: data-quality", "docs: production-scale", "a limit of ours"
CHECKS: tuple[Check, ...] = (
    Check("no_rewards", "error", ALL, "at least one sound reward", _QUALITY,
          lambda f: f"none of {f['overall']['rollouts']:,} rollouts has a sound reward" if _reward(f) is None else None,
          "check the verifier and the collection: rewards are missing, masked, or from failed rollouts"),
    Check("all_zero", "error", ALL, "smallest reward < largest", _QUALITY, _identical(lambda value: value == 0),
          "the verifier may be broken or not know the answer format, the ground truth may be missing, or the tasks may be too hard: read some with `show --best`"),
    Check("all_one", "error", ("dpo", "grpo", "ppo", "kto"), "smallest reward < largest", _QUALITY, _identical(lambda value: value == 1),
          "the tasks are too easy, or the verifier accepts everything; for sft alone this is fine"),
    Check("identical_rewards", "error", ALL, "smallest reward < largest", _QUALITY, _identical(lambda value: value not in (0, 1)),
          "verification may be broken: it gives every answer the same reward"),
    Check("low_mean", "warning", ALL, "mean reward >= 0.3", _QUALITY, _on_rewards(lambda r: f"mean reward {r['mean']:.3f}" if r["mean"] < 0.3 - TOLERANCE else None),
          "the tasks may be too hard for this model: mix in easier ones, or use a stronger model"),
    Check("mostly_failing", "warning", ALL, "at most 80% of the rewards under 0.3", _QUALITY,
          _on_rewards(lambda r: f"{r['failure_rate']:.0%} of the rewards are under 0.3" if r["failure_rate"] > 0.8 else None),
          "read some of them with `show --worst`: check prompt, answer format and verifier"),
    Check("sft_few", "warning", ("sft",), "at least 100 examples with a reward of 0.95", _PREPARE, _few_sft,
          "lower --reward-threshold (0.9 balanced, 0.85 permissive), or collect more rollouts; aim for 1,000"),
    Check("sft_weak", "warning", ("sft",), "mean reward >= 0.90", _PREPARE, _on_rewards(lambda r: f"mean reward {r['mean']:.3f}" if r["mean"] < 0.9 - TOLERANCE else None),
          "do not train on all of them: `rollout-etl sft` keeps those that reach 0.95"),
    Check("dpo_spread", "error", ("dpo",), "at least 20% of the rewards over 0.7, and 20% under 0.5", _QUALITY, _on_rewards(_spread),
          "insufficient quality spread for DPO: collect at a higher temperature, or add harder and easier tasks"),
    Check("dpo_no_pairs", "error", ("dpo",), "at least one pair with a gap of 0.2", "docs: dpo",
          lambda f: f"no pair among {f['candidates']['dpo']['groups_of_several']:,} groups with several attempts" if not f["candidates"]["dpo"]["pairs"]["0.2"] else None,
          "collect several rollouts of each prompt at a temperature of 0.7 or more, or lower --min-gap"),
    Check("dpo_small_gaps", "warning", ("dpo",), "mean gap >= 0.2", _PREPARE, _small_gaps, "the preference is ambiguous: raise the temperature, or use a finer verifier"),
    Check("dpo_tiny_gaps", "warning", ("dpo",), "at most half of the gaps under 0.1", "docs: prepare-for-training, many gaps under 0.1; half is a limit of ours", _gap_share("share_under_0.1", 0.5, "under 0.1"),
          "keep --min-gap at 0.2: such pairs teach noise"),
    Check("dpo_binary_gaps", "warning", ("dpo",), "some gaps other than 1", _PREPARE, _gap_share("share_of_gap_1", 1 - 1e-12, "exactly 1"),
          "rewards are binary: pairs only say right or wrong; grpo may suit better"),
    Check("ppo_clustered", "error", ("ppo",), "std >= 0.10", _PREPARE,
          _on_rewards(lambda r: f"std {r['std']:.3f} around {r['mean']:.3f}" if r["std"] is not None and r["std"] < 0.10 - TOLERANCE and r["max"] - r["min"] > TOLERANCE else None),
          "rewards are clustered, so the verifier may be noisy: make it distinguish answers better"),
    Check("ppo_low_std", "warning", ("ppo",), "std > 0.15", _PREPARE, _on_rewards(lambda r: f"std {r['std']:.3f}" if r["std"] is not None and 0.10 - TOLERANCE <= r["std"] <= 0.15 else None),
          "there is little to learn from each step: add tasks of different difficulty"),
    Check("ppo_all_good", "error", ("ppo",), "some rewards <= 0.9", _PREPARE, _on_rewards(lambda r: f"smallest reward {r['min']:g}" if r["min"] > 0.9 + TOLERANCE else None),
          "there is no signal left: use harder tasks"),
    Check("ppo_all_bad", "error", ("ppo",), "some rewards >= 0.3", _PREPARE, _on_rewards(lambda r: f"largest reward {r['max']:g}" if r["max"] < 0.3 - TOLERANCE else None),
          "the tasks are too hard: use easier ones, or start from sft"),
    Check("success_rate", "warning", _ONLINE, "success rate of 30% to 70%", _QUALITY,
          _on_rewards(lambda r: f"success rate {r['success_rate']:.0%}" if not 0.3 - TOLERANCE <= r["success_rate"] <= 0.7 + TOLERANCE else None),
          "tasks that are always or never solved teach nothing: change the mix"),
    Check("no_spread", "warning", ("grpo", "dpo"), "at most half of the groups with equal rewards", "a limit of ours; GRPO's advantage is the reward minus the mean of its group", _no_spread,
          "drop tasks that all or none of their attempts solve, or collect more attempts"),
    Check("lone_rollouts", "warning", ("grpo", "dpo"), "several attempts at a task", "docs: dpo, 2+ rollouts per prompt", _lone,
          "collect with num_repeats of 4 or more: pass rates and pairs need several attempts"),
    Check("grpo_no_truth", "error", ("grpo",), "prompts with a ground truth", "docs: GRPO rewards all 0.0", _truth,
          "training would give 0 to every answer: name the field with --ground-truth-field, or the tasks with --task-inputs"),
    Check("kto_one_label", "error", ("kto",), "both labels", "KTO paper, section 4.2", _one_label, "set --reward-threshold between good and bad rewards"),
    Check("range", "warning", ALL, "rewards within 0..1", "docs: validate-integration", _outside(0, 1),
          "the default thresholds of 0.95, 0.7 and 0.4 assume 0..1: set your own, or scale the rewards"),
    Check("extreme_range", "error", ALL, "rewards within -10..10", _SCALE, _outside(-10, 10), "broken rollouts: look at them with `show --where 'reward < -10 or reward > 10'`"),
    Check("missing_rewards", "warning", ALL, "at most 5% without a reward", _OURS, _share("missing", 0.05, "have no reward"), "the verifier did not run, or did not write a number"),
    Check("nonfinite_rewards", "warning", ALL, "no NaN", _OURS, _share("nonfinite", 0, "have a reward of NaN or infinity"), "the verifier divides by zero somewhere"),
    Check("failed", "warning", ALL, "at most 5% failed", _OURS, _share("failed", 0.05, "failed in the infrastructure"), "collect them again: they say nothing about the model"),
    Check("truncated", "warning", ALL, "at most 5% truncated", _OURS, _share("truncated", 0.05, "were cut off"), "raise max_output_tokens"),
    Check("empty_answers", "warning", ALL, "at most 1% empty", "docs: production-scale names empty responses; 1% is a limit of ours", _share("empty", 0.01, "end without an answer"), "check the model server and the collection"),
    Check("error_texts", "warning", ALL, "at most 1% error messages", "docs: production-scale names ERROR and FAILED; 1% is a limit of ours", _share("error_texts", 0.01, "end in an error message"), "they look like answers: find them with `show --where says_error`"),
    Check("unanswered_calls", "warning", ALL, "at most 1% with unanswered calls", _OURS, _share("unanswered", 0.01, "have tool calls without a result"), "the agent lost results of tools"),
    Check("length_bias", "warning", ("dpo", "grpo", "ppo", "kto"), "|correlation| < 0.5", "a limit of ours; see Singhal et al. 2023, arXiv:2310.03716", _length,
          "the model may learn length instead of quality: check the verifier, or cut long answers"),
    Check("length_gap", "warning", ("dpo",), "chosen longer in 20% to 80% of the pairs", "a limit of ours; see Park et al. 2024, arXiv:2403.19159", _length_gap,
          "DPO would learn length: use a length-controlled loss, or balance the pairs"),
    Check("copies", "warning", ALL, "at most 10% copies within their group", "a limit of ours; docs: parameterization expects 85% or more different answers at temperature 0.9, 30% at 0.2",
          lambda f: f"{f['copies']:,} of {f['overall']['rollouts']:,} rollouts repeat another of their group word for word" if f["copies"] > 0.1 * f["overall"]["rollouts"] else None,
          "a file may be given twice, or the temperature may be too low"),
    Check("falling_rewards", "warning", ALL, "mean reward at most two standard errors below that of --compare", "docs: validation, RL rewards rise from iteration to iteration; two standard errors are a limit of ours", _falling,
          "see which prompts fell and read them with `show --group`; if the tasks have changed, compare by task name"),
    Check("mixed_groups", "warning", ALL, "one task per group", "rollouts of a group share their task fields",
          lambda f: f"{f['mixed_groups']:,} groups hold rollouts whose task fields differ" if f["mixed_groups"] else None, "name the fields that identify a task with --group-by"),
)
"""All checks, in the order of display."""


def raised(facts: Facts, algorithm: str | None = None) -> list[Flag]:
    """The checks that failed, errors first; with `algorithm`, only those that matter for it."""
    return sorted(_raised(facts, algorithm), key=lambda flag: flag.severity != "error")


def _raised(facts: Facts, algorithm: str | None) -> Iterator[Flag]:
    for check in CHECKS:
        if algorithm is None or algorithm in check.algorithms:
            saw = check.look(facts)
            if saw is not None:
                yield Flag(check.name, check.severity, check.algorithms, saw, check.threshold, check.source, check.remedy)
