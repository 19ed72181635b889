"""TRL: SFTTrainer, DPOTrainer, KTOTrainer, RewardTrainer and GRPOTrainer, through `datasets.load_dataset` and TRL's own scripts.

| recipe | trainer | columns |
|---|---|---|
| sft | SFTTrainer, prompt-completion | `prompt`, `completion`, `tools` |
| dpo | DPOTrainer, explicit prompt | `prompt`, `chosen`, `rejected`, `tools` |
| sft --token-ids | SFTTrainer, tokenised | `input_ids`, `labels`: the sampled tokens (`token_ids.py`) |
| kto | KTOTrainer | `prompt`, `completion`, `label`, `tools` |
| rm | RewardTrainer | `prompt`, `chosen`, `rejected`, `margin`, `tools` |
| grpo | GRPOTrainer | `prompt`, `solution`, `tools`; all but the prompt go to the reward functions |

Messages are lists of `arrow.json` in Parquet, so no argument is filled with nulls and no float is cut; `tools` is JSON text, the only
form that every trainer decodes. In JSON lines every row has every key. With `--as text` prompts and answers are strings and there are no
tools.

Tested: TRL 1.16.0 with transformers 5.23.0 and datasets 5.2.0. Source: `trl/data_utils.py`, `trl/trainer/*_trainer.py`,
`trl/scripts/utils.py`.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from rollout_etl.errors import UsageError
from rollout_etl.publish.rows import Field
from rollout_etl.read.canonical import Style
from rollout_etl.recipes.dpo import identical_sides
from rollout_etl.recipes.options import GrpoOptions
from rollout_etl.targets import token_ids
from rollout_etl.targets.columns import extras, refuse_names
from rollout_etl.targets.paths import quoted_path, refuse_for_datasets, run_file_of
from rollout_etl.targets.target import Job, Loader, Missing, Rows, Settings

TITLE = "TRL"
VERSIONS = "1.16.0"
VARIANTS: dict[str, Sequence[Mapping[str, object]]] = {
    "sft": ({}, {"token_ids": True}),
    **{recipe: ({},) for recipe in ("dpo", "kto", "rm")},
    "grpo": ({}, {"no_ground_truth": True}),
}
RUN_SUFFIX = ".trl.yaml"
_CONTAINERS = (".parquet", ".jsonl")
LOADERS: dict[str, Loader | Missing] = {
    "sft": Loader("SFTTrainer", _CONTAINERS),
    "dpo": Loader("DPOTrainer", _CONTAINERS),
    "grpo": Loader("GRPOTrainer", _CONTAINERS, ("max_rollout_turns",)),
    "kto": Loader("KTOTrainer", _CONTAINERS),
    "rm": Loader("RewardTrainer", _CONTAINERS),
    "ppo": Missing("TRL has had no PPO trainer since 1.12.0; use --target verl, openrlhf or nemo-rl, or the recipe grpo for TRL's GRPO and RLOO"),
}
RESERVED = (
    "text", "messages", "prompt", "completion", "chosen", "rejected", "label", "labels", "assistant_masks", "completion_mask", "seq_lengths", "image",
    "images", "conversations", "tools", "chat_template_kwargs", "margin", "prompts", "completions", "trainer_state", "log_extra", "log_metric",
    "environment", "environments", "ref_chosen_logps", "ref_rejected_logps", "length",
)
_BATCH = 8
_SCRIPTS = {"sft": "sft", "dpo": "dpo", "grpo": "grpo", "kto": "kto", "rm": "reward"}


def check(job: Job) -> None:
    """Raise `UsageError` for a job that TRL cannot load."""
    if job.form == "json":
        raise UsageError("--as json is not for TRL, whose trainers want messages or text")
    if job.token_ids and (job.form is not None or job.think != "keep" or job.arguments is not None):
        raise UsageError("--token-ids writes the tokens as sampled: leave --as, --think and --arguments out")
    refuse_names(extras(job), [field.name for field in _fields(job)], RESERVED, "TRL")


def check_path(data: Path) -> str | None:
    """Raise `UsageError` for data that TRL would look for under another name."""
    refuse_for_datasets(data, "TRL")
    return None


def style_of(job: Job) -> Style:
    """Arguments as objects, which most templates expect; no developer role, which many templates drop."""
    return Style(think=job.think, arguments=job.arguments or "object", developer="system")


def rows(job: Job, longer_prompts: bool) -> Rows:
    """The rows of a job."""
    if job.token_ids:
        made = dict.fromkeys(token_ids.COLUMNS, ("token_calls",))
        return Rows([*_fields(job), *extras(job)], (), token_ids.RULES, token_ids.with_token_ids, made, reader="guesses")
    text, lines = job.form == "text", job.container == ".jsonl"
    pair, prompt = job.per == "pair", job.per == "prompt"
    cannot_hold: tuple[str, ...]
    if text:
        cannot_hold = ("tool_prompt",) if prompt else ("flattened_completion", "tool_prompt")
    else:
        cannot_hold = ("answered_prompt", "invalid_prompt_call" if prompt else "late_answer")
        cannot_hold += (("inexact_prompt_number" if prompt else "inexact_number"),) if lines else ()
    rules = [identical_sides("response_text" if text else "completion")] if pair else []
    counts = {"trajectories": pl.col("completion").str.contains('"role":"(tool|user|system)"')} if job.recipe == "sft" and not text else {}
    return Rows([*_fields(job), *extras(job)], cannot_hold, rules, reader="guesses", counts=counts, flat=text)


def _fields(job: Job) -> list[Field]:
    """The columns without the extra ones."""
    if job.token_ids:
        return [Field(name, "integers", pl.col(name)) for name in ("input_ids", "labels")]
    text, side = job.form == "text", "chosen_" if job.per == "pair" else ""

    def said(name: str, column: str, prefix: str = "") -> Field:
        if text:
            return Field(name, "text", pl.col(prefix + {"prompt": "prompt_text", "completion": "response_text"}[column]))
        return Field(name, "json", pl.col(prefix + column))

    fields = [said("prompt", "prompt", side)]
    if job.per == "pair":
        fields += [said("chosen", "completion", "chosen_"), said("rejected", "completion", "rejected_")]
    elif job.per == "rollout":
        fields += [said("completion", "completion")]
    if job.recipe == "kto":
        fields += [Field("label", "flag", pl.col("label"))]
    if job.recipe == "rm":
        fields += [Field("margin", "number", pl.col("reward_gap"))]
    if isinstance(job.options, GrpoOptions) and not job.options.no_ground_truth:
        fields += [Field("solution", "text", pl.col("ground_truth_text"))]
    if not text:
        # JSON readers that guess types fail if a null column later holds text; "null" is decoded to None.
        tools = pl.col(f"{side}tools")
        fields += [Field("tools", "text", tools.fill_null("null") if job.container == ".jsonl" else tools)]
    return fields


def beside(job: Job) -> dict[str, str]:
    """No further files: the rows are loaded directly."""
    return {}


def _data(settings: Settings) -> str:
    """How TRL's scripts find the data: `datasets` for one file; with validation, a dataset card that names both files."""
    if settings.validation is not None:
        return (
            f"dataset_name: {quoted_path(_card(settings).parent)}\ndataset_train_split: train\ndataset_test_split: test\n"
            "eval_strategy: steps\neval_steps: 100\n"
        )
    kind = "parquet" if settings.container == ".parquet" else "json"
    return f"datasets:\n  - path: {kind}\n    data_files: {quoted_path(settings.pattern_of(settings.train, escaped=True))}\n    split: train\n"


def _card(settings: Settings) -> Path:
    return settings.run_file.with_name(settings.run_file.name + ".data") / "README.md"


def run_files(job: Job, settings: Settings) -> dict[Path, str]:
    """YAML for `trl RECIPE --config`; with validation also the dataset card that it names."""
    if job.recipe == "grpo" and settings.batch == 1:
        raise UsageError("--batch-size 1 is too small for TRL's GRPO, whose batch consists of completions that are compared: use 2 or more")
    # A few prompts fill a batch of completions.
    batch = settings.batch or _BATCH if job.recipe == "grpo" else settings.batch_of(_BATCH)
    lines = [
        f"{run_file_of(settings.train)}, for TRL's {LOADERS[job.recipe].name}." + ("" if settings.model else " Set model_name_or_path to your model."),  # type: ignore[union-attr]
        f"model_name_or_path: {json.dumps(settings.model or 'Qwen/Qwen3-0.6B')}",
        _data(settings).rstrip("\n"),
        f"output_dir: {quoted_path(settings.run_file.parent / f'{settings.train.stem}-{job.recipe}')}",
        f"per_device_train_batch_size: {batch}",
        "report_to: none",
    ]
    if job.recipe != "grpo":
        lines.append("max_length: null  # rows are not cut; set a limit where memory asks for one")
    if job.recipe == "sft" and settings.statistics.get("trajectories"):
        lines.append("assistant_only_loss: true  # tool results and user turns of a completion stay out of the loss")
    if job.recipe == "kto":
        weights = {name: settings.statistics[name] for name in ("desirable_weight", "undesirable_weight") if name in settings.statistics}
        lines += [f"{name}: {value!r}  # makes both labels count the same" for name, value in weights.items()]
    if job.recipe == "grpo":
        lines += [
            f"num_generations: {batch}",
            *([] if settings.max_rollout_turns is None else [f"max_tool_calling_iterations: {settings.max_rollout_turns}"]),
            "reward_funcs: [accuracy_reward]  # compares with the column solution; or the dotted path of your own function",
        ]
    files = {settings.run_file: "\n".join(lines) + "\n"}
    if settings.validation is not None:
        named = {"train": settings.train, "test": settings.validation}
        splits = "".join(f"      - split: {name}\n        path: {quoted_path(settings.pattern_of(path, escaped=True))}\n" for name, path in named.items())
        files[_card(settings)] = f"---\nconfigs:\n  - config_name: default\n    data_files:\n{splits}---\n"
    return files


def launch(job: Job, settings: Settings) -> str:
    """The command that starts the training."""
    return shlex.join(["trl", _SCRIPTS[job.recipe], "--config", str(settings.run_file.resolve())])
