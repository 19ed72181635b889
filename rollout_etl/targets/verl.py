"""verl: RLHFDataset for its PPO and GRPO trainer, MultiTurnSFTDataset for SFT, RMDataset for pairs of texts. Parquet only.

| recipe | dataset class | columns |
|---|---|---|
| grpo, ppo | RLHFDataset | `data_source`, `prompt`, `ability`, `reward_model {style, ground_truth}`, `extra_info {...}` |
| sft | RolloutSFTDataset, written next to the file | `messages`, `tools`: JSON text |
| sft --as messages | MultiTurnSFTDataset | `messages`: role and content |
| rm | RMDataset | `prompt`, `chosen`, `rejected`: texts |

`extra_info` has `index`, `split`, `task_key`, `tools` and what `--extra` names; with `--with-responses` also `response` and `reward`.
verl does not decode JSON in SFT columns, and its own columns cannot hold arguments that differ from row to row, so a dataset class is
needed. No trainer of verl reads the rows of `rm`; RMDataset can be used in a trainer of your own.

Tested: verl 0.9.1 with transformers 5.9.0. Source: `verl/utils/dataset/*.py`, `verl/trainer/config`.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

import polars as pl

from rollout_etl.curate.split import TRAIN
from rollout_etl.errors import UsageError
from rollout_etl.publish.rows import Field
from rollout_etl.read.canonical import Style
from rollout_etl.recipes.dpo import identical_sides
from rollout_etl.recipes.options import GrpoOptions
from rollout_etl.targets.columns import extras, refuse_names
from rollout_etl.targets.messages import joined
from rollout_etl.targets.paths import as_glob, quoted_path, refuse_interpolation, run_file_of
from rollout_etl.targets.target import Job, Loader, Missing, Rows, Settings, companion

TITLE = "verl"
VERSIONS = "0.9.1"
VARIANTS: dict[str, Sequence[Mapping[str, object]]] = {
    "sft": ({}, {"form": "messages"}),
    "grpo": ({},),
    "ppo": ({"with_responses": True},),
    "rm": ({},),
}
RUN_SUFFIX = ".verl.yaml"
_NONE = "verl has no {} trainer; {} has: --target {}"
LOADERS: dict[str, Loader | Missing] = {
    "sft": Loader("MultiTurnSFTDataset", (".parquet",)),
    "dpo": Missing(_NONE.format("DPO", "TRL", "trl") + ", or openrlhf"),
    "grpo": Loader("RLHFDataset", (".parquet",), ("max_rollout_turns",), needs_validation=True),
    "kto": Missing(_NONE.format("KTO", "TRL", "trl")),
    "rm": Loader("RMDataset", (".parquet",)),
    "ppo": Loader("RLHFDataset", (".parquet",), ("max_rollout_turns",), needs_validation=True),
}
RESERVED = ("index", "split", "need_tools_kwargs", "tools_kwargs", "interaction_kwargs", "tool_selection", "messages", "enable_thinking", "images", "videos")
_CLASS_SUFFIX = ".verl.py"
_BATCH = {"sft": 256, "grpo": 1024, "ppo": 1024}


def check(job: Job) -> None:
    """Raise `UsageError` for a job that verl cannot load."""
    if job.recipe == "rm" and job.form not in (None, "text"):
        raise UsageError("verl's RMDataset takes texts only; leave --as out")
    if job.recipe == "sft" and job.form == "text":
        raise UsageError("verl's SFT dataset takes messages; use --as messages, or leave --as out for JSON text")
    if job.recipe in ("grpo", "ppo") and job.form not in (None, "messages"):
        raise UsageError("verl's RLHFDataset takes messages; leave --as out")
    refuse_names(extras(job), [member.name for field in _fields(job) for member in (field, *field.members)], RESERVED, "verl")


def check_path(data: Path) -> str | None:
    """Raise `UsageError` for data that Hydra would look for under another name."""
    refuse_interpolation(data, "verl")
    return None


def style_of(job: Job) -> Style:
    """Arguments as objects; the dataset class decodes them."""
    return Style(think=job.think, arguments=job.arguments or "object", developer="system")


def rows(job: Job, longer_prompts: bool) -> Rows:
    """The rows of a job."""
    fields = _fields(job, extras(job))
    if job.recipe == "rm":
        return Rows([*fields, *extras(job)], ("flattened_completion", "tool_prompt"), [identical_sides("response_text")], flat=True)
    if job.recipe == "sft":
        plain = ("tool_prompt", "tool_completion", "tool_schemas", "reasoning")
        return Rows([*fields, *extras(job)], plain if job.form == "messages" else ("earlier_reasoning",))
    return Rows(fields, ("tool_prompt", "reasoning_prompt", "answered_prompt"), prepare=_with_part, prepared_from={"part": ()})


def _with_part(frame: pl.DataFrame) -> pl.DataFrame:
    """Without a split, everything is for training."""
    return frame if "part" in frame.columns else frame.with_columns(part=pl.lit(TRAIN))


def _fields(job: Job, more: Sequence[Field] = ()) -> list[Field]:
    """The columns; for RL, `more` goes into `extra_info`."""
    if job.recipe == "rm":
        texts = {"prompt": "chosen_prompt_text", "chosen": "chosen_response_text", "rejected": "rejected_response_text"}
        return [*(Field(name, "text", pl.col(column)) for name, column in texts.items()), Field("margin", "number", pl.col("reward_gap"))]
    messages = joined(pl.col("prompt"), pl.col("completion"))
    if job.recipe == "sft":
        if job.form == "messages":
            return [Field("messages", "chat", messages)]
        return [Field("messages", "text", messages), Field("tools", "text", pl.col("tools"))]
    assert isinstance(job.options, GrpoOptions)
    task = pl.coalesce("task_name", "agent_name", pl.lit("rollouts"))
    # A reward function is chosen by source and gets the ground truth unchanged, so neither may be null.
    truth = pl.lit("") if job.options.no_ground_truth else pl.col("ground_truth_text").fill_null("")
    about = [
        Field("index", "integer", pl.col("row")),
        Field("split", "text", pl.col("part")),
        Field("task_key", "text", pl.col("task_key")),
        Field("tools", "text", pl.col("tools").fill_null("[]")),
    ]
    if job.per == "rollout":
        about += [Field("response", "text", pl.col("completion")), Field("reward", "number", pl.col("reward"))]
    return [
        Field("data_source", "text", pl.concat_str(pl.lit("nemo_gym/"), task)),
        Field("prompt", "chat", pl.col("prompt")),
        Field("ability", "text", task),
        Field("reward_model", "struct", members=(Field("style", "text", pl.lit("rule")), Field("ground_truth", "text", truth))),
        Field("extra_info", "struct", members=(*about, *more)),
    ]


def dataset_class() -> str:
    """Source of the dataset class that is written next to the data."""
    return files("rollout_etl.targets").joinpath("verl_dataset.py").read_text(encoding="utf-8")


def beside(job: Job) -> dict[str, str]:
    """The dataset class, if columns hold JSON text."""
    return {_CLASS_SUFFIX: dataset_class()} if job.recipe == "sft" and job.form != "messages" else {}


def _files(settings: Settings, data: Path, escaped: bool = False) -> str:
    """The names of the files, because verl does not accept patterns. They are `escaped` for a dataset that takes them for globs all the same."""
    quoted = [quoted_path(as_glob(path) if escaped else path) for path in settings.files_of(data)]
    return quoted[0] if data not in settings.shards else f"[{', '.join(quoted)}]"


def run_files(job: Job, settings: Settings) -> dict[Path, str]:
    """A Hydra configuration on top of verl's own; none for `rm`, which no trainer of verl reads."""
    if job.recipe == "rm":
        return {}
    if settings.run_file.suffix != ".yaml":
        raise UsageError(f"Hydra finds files that end with .yaml only: give {settings.run_file} another name")
    base = "sft_trainer_engine" if job.recipe == "sft" else "ppo_trainer"
    note = "" if settings.model else " Set the model's path."
    head = f"{run_file_of(settings.train)}, on top of verl's {base}.{note}\nhydra: {{searchpath: ['pkg://verl.trainer.config']}}\n"
    head += f"defaults: [{base}, _self_]\n"
    body = _sft(job, settings) if job.recipe == "sft" else _rl(job, settings)
    return {settings.run_file: head + body}


def _sft(job: Job, settings: Settings) -> str:
    custom = ""
    if job.form != "messages":
        custom = f"  custom_cls: {{path: {quoted_path(companion(settings.train, _CLASS_SUFFIX))}, name: RolloutSFTDataset}}\n"
    return f"""model: {{path: {json.dumps(settings.model or "Qwen/Qwen3-0.6B")}}}
data:
  train_files: {_files(settings, settings.train)}
  val_files: {"null" if settings.validation is None else _files(settings, settings.validation)}
  train_batch_size: {settings.batch_of(_BATCH["sft"])}
  max_length: 16384  # a longer row is an error
  messages_key: messages
  tools_key: tools
{custom}  ignore_input_ids_mismatch: false  # true for templates that render a turn by what follows it
trainer: {{logger: [console]{"" if settings.validation is None else ", test_freq: 10"}}}
"""


def _rl(job: Job, settings: Settings) -> str:
    batch = settings.batch_of(_BATCH[job.recipe])
    model = json.dumps(settings.model or "Qwen/Qwen3-0.6B")
    grpo = job.recipe == "grpo"
    check = "val_before_train: false, test_freq: -1" if settings.validation is None else "test_freq: 10"
    critic = "" if grpo else f"critic: {{model: {{path: {model}}}, ppo_mini_batch_size: {batch}, ppo_micro_batch_size_per_gpu: 1}}\n"
    turns = settings.max_rollout_turns
    multi = "" if turns is None else f"\n    multi_turn: {{enable: true, max_assistant_turns: {turns}}}  # tool_config_path names your tools"
    note = "  # verl always loads one; validation is off" if settings.validation is None else ""
    return f"""data:
  train_files: {_files(settings, settings.train, escaped=True)}
  val_files: {_files(settings, settings.validation or settings.train, escaped=True)}{note}
  train_batch_size: {batch}
  max_prompt_length: 4096
  max_response_length: 4096
algorithm: {{adv_estimator: {"grpo" if grpo else "gae"}}}
actor_rollout_ref:
  model: {{path: {model}}}
  actor: {{ppo_mini_batch_size: {batch}, ppo_micro_batch_size_per_gpu: 1}}
  rollout:
    name: vllm
    n: {8 if grpo else 1}
    log_prob_micro_batch_size_per_gpu: 1{multi}
  ref: {{log_prob_micro_batch_size_per_gpu: 1}}
{critic}# No built-in reward function knows the data_source nemo_gym/...: name the file that holds your compute_score.
reward: {{custom_reward_function: {{path: null, name: compute_score}}}}
trainer: {{logger: [console], {check}}}
"""


def launch(job: Job, settings: Settings) -> str:
    """The command that starts the training."""
    folder, name = settings.run_file.resolve().parent, settings.run_file.name.removesuffix(".yaml")
    where = shlex.join(["--config-path", str(folder), *([f"--config-name={name}"] if name.startswith("-") else ["--config-name", name])])
    if job.recipe == "sft":
        return f"torchrun --nproc_per_node 1 -m verl.trainer.sft_trainer {where}"
    return f"python3 -m verl.trainer.main_ppo {where}"
