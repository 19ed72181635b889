"""OpenRLHF: SFTDataset, RewardDataset and PromptDataset, through its `blending_datasets`.

| recipe | dataset class | columns |
|---|---|---|
| sft | SFTDataset, multi-turn | `messages` |
| dpo | RewardDataset | `prompt_messages`, `chosen_messages`, `rejected_messages` |
| rm | RewardDataset | the same and `margin` |
| grpo, ppo | PromptDataset | `input`, `label`, `datasource`; with responses `output` and `reward` |

Its loaders never pass tools to a chat template, so messages have only role and content: schemas are written into the system
message, reasoning and calls into the text (`plain_messages.py`). Columns are not named `prompt`, `chosen` or `rejected`,
because OpenRLHF's own columns of that name would inherit their type. With `--as text` rows hold the last question and the last
answer: `input` and `output`, or `prompt`, `chosen` and `rejected`.

Tested: OpenRLHF 0.11.2 with transformers 5.15.0 and datasets 5.2.0. Source: `openrlhf/datasets/*.py`, `openrlhf/cli/*.py`.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from rollout_etl.curate.rules import Rule
from rollout_etl.errors import UsageError
from rollout_etl.publish.rows import Field
from rollout_etl.read.canonical import Style
from rollout_etl.recipes.dpo import identical_sides
from rollout_etl.recipes.options import GrpoOptions
from rollout_etl.targets.columns import extras, refuse_names
from rollout_etl.targets.messages import joined, prompt_with_tools
from rollout_etl.targets.paths import absolute, refuse_for_datasets, run_file_of
from rollout_etl.targets.plain_messages import TOOLS_TAIL, cut_thinking
from rollout_etl.targets.target import Job, Loader, Missing, Rows, Settings

TITLE = "OpenRLHF"
VERSIONS = "0.11.2"
_FORMS: tuple[dict[str, object], ...] = ({}, {"form": "text"})
VARIANTS: dict[str, Sequence[Mapping[str, object]]] = {
    "sft": _FORMS,
    "dpo": _FORMS,
    "rm": _FORMS,
    "grpo": ({}, {"no_ground_truth": True}),
    "ppo": ({}, {"with_responses": True}, {"no_ground_truth": True}),
}
RUN_SUFFIX = ".openrlhf.sh"
_CONTAINERS = (".jsonl", ".parquet")
LOADERS: dict[str, Loader | Missing] = {
    "sft": Loader("SFTDataset", _CONTAINERS),
    "dpo": Loader("RewardDataset", _CONTAINERS),
    "grpo": Loader("PromptDataset", _CONTAINERS),
    "kto": Missing("OpenRLHF has had no KTO trainer since 0.9.5; TRL has one: --target trl"),
    "rm": Loader("RewardDataset", _CONTAINERS),
    "ppo": Loader("PromptDataset", _CONTAINERS),
}
RESERVED = ("prompt", "chosen", "reject", "rejected", "response", "prompt_ids_len", "response_ranges", "extra", "margin", "images")
_BATCH = {"sft": 128, "dpo": 128, "rm": 128, "grpo": 128, "ppo": 128}
_SCRIPTS = {"sft": "train_sft", "dpo": "train_dpo", "rm": "train_rm", "grpo": "train_ppo_ray", "ppo": "train_ppo_ray"}

_IMAGE_TAG = Rule("image_tag", pl.col("plain_prompt").str.contains("<image>", literal=True), "the prompt holds <image>, which the loader reads as a picture")


def check(job: Job) -> None:
    """Raise `UsageError` for a job that OpenRLHF cannot load."""
    if job.form == "json":
        raise UsageError("--as json is not for OpenRLHF, which wants messages or text")
    if job.arguments == "string":
        raise UsageError("--arguments string is not for OpenRLHF, where calls are written into the text")
    _refuse_splitting(job.output)
    refuse_names(extras(job), [field.name for field in _fields(job)], RESERVED, "OpenRLHF")


def check_path(data: Path) -> str | None:
    """Raise `UsageError` for data that OpenRLHF would look for under another name."""
    _refuse_splitting(data)
    refuse_for_datasets(data, "OpenRLHF")
    return None


def _refuse_splitting(data: Path) -> None:
    if set(str(absolute(data))) & {",", "@"}:
        raise UsageError(f"OpenRLHF splits paths at commas and @ signs: give {data} another name")


def style_of(job: Job) -> Style:
    """Arguments as objects, as in the text of a call."""
    return Style(think=job.think, arguments="object", developer="system")


def rows(job: Job, longer_prompts: bool) -> Rows:
    """The rows of a job."""
    fields = [*_fields(job), *extras(job)]
    pair = job.per == "pair"
    cannot_hold: tuple[str, ...]
    if job.form == "text":
        rules = [identical_sides("response_text")] if pair else []
        cannot_hold = ("tool_prompt",) if job.per == "prompt" else ("flattened_completion", "tool_prompt")
        return Rows(fields, cannot_hold, rules, reader="guesses", flat=True)
    rules = [identical_sides("plain_completion")] if pair else []
    rules += [] if "think_tag" in job.options.keep else [cut_thinking(_said(job))]
    online = isinstance(job.options, GrpoOptions)
    rules += [_IMAGE_TAG] if online else []
    cannot_hold = ("answered_prompt", *(["late_answer"] if job.per != "prompt" else []), "earlier_reasoning")
    return Rows(fields, cannot_hold, rules, reader="guesses")


def _said(job: Job) -> list[str]:
    """Columns of plain messages."""
    if job.per == "pair":
        return ["chosen_plain_prompt", "chosen_plain_completion", "rejected_plain_completion"]
    return ["plain_prompt"] if job.per == "prompt" else ["plain_prompt", "plain_completion"]


def _fields(job: Job) -> list[Field]:
    """The columns without the extra ones."""
    fields = _texts(job) if job.form == "text" else _messages(job)
    if job.recipe == "rm":
        fields.append(Field("margin", "number", pl.col("reward_gap")))
    if isinstance(job.options, GrpoOptions):
        source = pl.concat_str(pl.lit("nemo_gym/"), pl.coalesce("task_name", "agent_name", pl.lit("rollouts")))
        truth = [] if job.options.no_ground_truth else [Field("label", "text", pl.col("ground_truth_text").fill_null(""))]
        fields += [*truth, Field("datasource", "text", source)]
        fields += [Field("reward", "number", pl.col("reward"))] if job.per == "rollout" else []
    return fields


def _texts(job: Job) -> list[Field]:
    if job.per == "pair":
        names = {"prompt": "chosen_prompt_text", "chosen": "chosen_response_text", "rejected": "rejected_response_text"}
    else:
        names = {"input": "prompt_text"} | ({} if job.per == "prompt" else {"output": "response_text"})
    return [Field(name, "text", pl.col(column)) for name, column in names.items()]


def _messages(job: Job) -> list[Field]:
    side = "chosen_" if job.per == "pair" else ""
    prompt = prompt_with_tools(pl.col(f"{side}plain_prompt"), pl.col(f"{side}tools"), TOOLS_TAIL)
    if job.per == "pair":
        sides = {"prompt_messages": prompt, "chosen_messages": pl.col("chosen_plain_completion"), "rejected_messages": pl.col("rejected_plain_completion")}
        return [Field(name, "chat", value) for name, value in sides.items()]
    if job.recipe == "sft":
        return [Field("messages", "chat", joined(prompt, pl.col("plain_completion")))]
    return [Field("input", "chat", prompt), *([Field("output", "chat", pl.col("plain_completion"))] if job.per == "rollout" else [])]


def beside(job: Job) -> dict[str, str]:
    """No further files: the rows are loaded directly."""
    return {}


def _data_flags(job: Job) -> list[str]:
    """OpenRLHF's flags for the names of the columns."""
    text = job.form == "text"
    if isinstance(job.options, GrpoOptions):
        label = [] if job.options.no_ground_truth else ["--data.label_key label"]
        return ["--data.input_key input", *label, "--data.apply_chat_template"]
    if job.recipe == "sft":
        keys = ["--data.input_key input", "--data.output_key output"] if text else ["--data.input_key messages", "--data.multiturn"]
        return [*keys, "--data.apply_chat_template"]
    names = ("prompt", "chosen", "rejected")
    keys = [f"--data.{name}_key {name if text else f'{name}_messages'}" for name in names]
    return keys if text else [*keys, "--data.apply_chat_template"]


def run_files(job: Job, settings: Settings) -> dict[Path, str]:
    """A shell script with OpenRLHF's flags; it passes further arguments on."""
    model = settings.model or "Qwen/Qwen3-0.6B"
    online = isinstance(job.options, GrpoOptions)
    batch, data = settings.batch_of(_BATCH[job.recipe]), shlex.quote(str(settings.pattern_of(settings.train, escaped=True)))
    flags = [f"--{'data.prompt_dataset' if online else 'data.dataset'} {data}", *_data_flags(job)]
    if settings.validation is not None:
        # A file has only the split train, while DPO asks for another by default.
        flags.append(f"--eval.dataset {shlex.quote(str(settings.pattern_of(settings.validation, escaped=True)))} --eval.split train")
    flags += [f"--{'actor' if online else 'model'}.model_name_or_path {shlex.quote(model)}", f"--train.batch_size {batch}", "--data.max_len 16384"]
    micro = "--train.micro_batch_size 1"
    output = f"--ckpt.output_dir {shlex.quote(str((settings.run_file.parent / f'{settings.train.stem}-{job.recipe}').resolve()))}"
    if online:
        # The function returns the rewards of answers: reward_func(queries, prompts, labels).
        flags += [f"--rollout.batch_size {batch}", "--reward.remote_url reward_func.py"]
        flags += ["--algo.advantage.estimator group_norm", "--rollout.n_samples_per_prompt 8"] if job.recipe == "grpo" else ["--algo.advantage.estimator gae"]
    command = "python3 -m" if online else "deepspeed --module"
    lines = " \\\n  ".join([f"{command} openrlhf.cli.{_SCRIPTS[job.recipe]}", *flags, micro, output, '"$@"'])
    notes = f"{run_file_of(settings.train)}, for OpenRLHF." + ("" if settings.model else " Set the model to yours.") + "\n"
    notes += "# Add --model.margin_loss_enable for a loss that takes the margins into account.\n" if job.recipe == "rm" else ""
    notes += "# reward_func.py must define reward_func(queries, prompts, labels).\n" if online else ""
    return {settings.run_file: f"#!/usr/bin/env bash\n{notes}set -euo pipefail\n{lines}\n"}


def launch(job: Job, settings: Settings) -> str:
    """The command that starts the training."""
    return shlex.join(["bash", str(settings.run_file.resolve())])
