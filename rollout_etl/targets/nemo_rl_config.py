"""NeMo RL run files: a whole configuration that its own loader accepts, and the command that starts the run.

Source: `nemo_rl/utils/config.py`, the `MasterConfig` of each algorithm and the set-up functions of `examples/run_*.py` at
commit 7ea279abf (2026-08-22); the older layout is that of v0.5.0.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from rollout_etl.errors import UsageError
from rollout_etl.recipes.options import AnyOptions, DpoOptions, GrpoOptions, SftOptions
from rollout_etl.targets.paths import quoted_path, refuse_interpolation, run_file_of
from rollout_etl.targets.target import Settings

_ROOT = "${oc.env:NEMO_RL_ROOT}"
BATCH = {"sft": 32, "dpo": 128, "rm": 128, "grpo": 32, "ppo": 32}
"""Examples per step in NeMo RL's own recipes. The last partial batch is dropped, so a small file needs a smaller batch."""
_GENERATIONS = 8
_OFF = "val_period: 0, val_at_start: false, val_at_end: false"
_ON = "val_period: 10, val_at_start: false, val_at_end: false"


def check_path(data: Path) -> str | None:
    """Raise `UsageError` if NeMo RL could not find `data` or name its task; return a note if the name is cut short.

    NeMo RL uses the names of folder and file up to the first dot.
    """
    refuse_interpolation(data, "NeMo RL")
    folder = data.resolve().parent
    if folder.name.startswith("."):
        raise UsageError(f"NeMo RL cannot name a task in a folder whose name starts with a dot, {folder}: use another one, or do without a run file (--no-config)")
    if "." in folder.name:
        short = folder.name.split(".")[0]
        return f"NeMo RL will call this task {short}: it cuts names at a dot, so do not list this file beside one of another {short}.* folder"
    return None


def run_file(options: AnyOptions, settings: Settings, layout: str = "current") -> str:
    """The text of the run file."""
    batch = settings.batch_of(BATCH[options.recipe])
    if layout == "v0.5":
        return _header(settings) + _old_layout(options, settings, batch)
    makers = {"sft": _sft, "dpo": _pairs, "rm": _pairs, "grpo": _prompts, "ppo": _prompts}
    return _header(settings) + makers[options.recipe](options, settings, batch)


def launch_command(options: AnyOptions, config: Path, layout: str = "current") -> str:
    """The command that starts the run, from a NeMo RL checkout."""
    if isinstance(options, GrpoOptions) and options.format == "gym":
        script = "examples/nemo_gym/run_grpo_nemo_gym.py"
    elif options.recipe == "grpo" and layout == "v0.5":
        script = "examples/run_grpo_math.py"
    else:
        script = f"examples/run_{options.recipe}.py"
    return f"NEMO_RL_ROOT=$PWD uv run {script} --config {shlex.quote(str(config.resolve()))}"


def _header(settings: Settings) -> str:
    model = "" if settings.model else "; set policy.model_name to your model"
    return f"{run_file_of(settings.train)}. Set NEMO_RL_ROOT to a checkout of NVIDIA-NeMo/RL{model}.\n"


def _data(settings: Settings, keys: dict[str, str], *, default: str = "", extra: str = "", workers: int = 1, length: str = "${policy.max_total_sequence_length}") -> str:
    """The whole `data:` section; `keys` are the settings for both files."""
    # Only these classes open the path as it is; the others take it for a glob.
    escaped = keys["dataset_name"] not in ("openai_format", "NemoGymDataset")
    train = _keys(keys, settings.pattern_of(settings.train, escaped))
    validation = "  validation: null\n" if settings.validation is None else f"  validation:\n{_keys(keys, settings.pattern_of(settings.validation, escaped))}"
    return f"""data:
  _override_: true
  max_input_seq_length: {length}
  shuffle: true
  num_workers: {workers}
{extra}  train:
{train}{validation}{default}"""


def _keys(keys: dict[str, str], data: Path) -> str:
    (name, dataset), *others = keys.items()
    pairs = [(name, dataset), ("data_path", quoted_path(data)), *others]
    return "".join(f"    {key}: {value}\n" for key, value in pairs)


def _validation(settings: Settings, extra: Sequence[str] = ()) -> str:
    """Keys of the algorithm that switch validation on or off."""
    return _OFF if settings.validation is None else ", ".join([_ON, *extra])


def _checkpointing(settings: Settings) -> str:
    """Without validation there is no metric for choosing checkpoints."""
    return "checkpointing: {metric_name: null}\n" if settings.validation is None else ""


def _model(settings: Settings) -> str:
    return f"  model_name: {json.dumps(settings.model)}\n" if settings.model else ""


def _sft(options: AnyOptions, settings: Settings, batch: int) -> str:
    assert isinstance(options, SftOptions)
    if options.format == "openai":
        keys = {"dataset_name": "openai_format", "chat_key": "messages", "tool_key": "tools", "use_preserving_dataset": "true"}
    else:
        keys = {"dataset_name": "ResponseDataset", "input_key": "input", "output_key": "output"}
    default = "  default: {prompt_file: null, system_prompt_file: null, processor: sft_processor}\n"
    return f"""defaults: {_ROOT}/examples/configs/sft.yaml
sft: {{{_validation(settings)}}}
{_checkpointing(settings)}policy:
{_model(settings)}  train_global_batch_size: {batch}
  train_micro_batch_size: 1
  tokenizer: {{chat_template: default}}  # the template of sft.yaml drops tool calls and tool turns
{_data(settings, keys, default=default, extra="  add_bos: true" + chr(10) + "  add_eos: true" + chr(10) + "  add_generation_prompt: false" + chr(10))}logger: {{wandb_enabled: false, tensorboard_enabled: false}}
"""


def _pairs(options: AnyOptions, settings: Settings, batch: int) -> str:
    assert isinstance(options, DpoOptions)
    keys = {"dataset_name": "PreferenceDataset"}
    if options.format == "binary":
        keys = {"dataset_name": "BinaryPreferenceDataset", "prompt_key": "prompt", "chosen_key": "chosen", "rejected_key": "rejected"}
    model = f"model_name: {json.dumps(settings.model)}, " if settings.model else ""
    logger = "logger: {wandb_enabled: false, tensorboard_enabled: false}\n" if options.recipe == "rm" else ""
    return f"""defaults: {_ROOT}/examples/configs/{options.recipe}.yaml
{options.recipe}: {{{_validation(settings)}}}
{_checkpointing(settings)}policy: {{{model}train_global_batch_size: {batch}, train_micro_batch_size: 1}}
{_data(settings, keys)}{logger}"""


def _prompts(options: AnyOptions, settings: Settings, batch: int) -> str:
    assert isinstance(options, GrpoOptions)
    name = options.recipe
    gym = options.format == "gym"
    steps = f"num_prompts_per_step: {batch}, num_generations_per_prompt: {_GENERATIONS}"
    turns = settings.max_rollout_turns
    samples = [] if gym else [f"max_val_samples: {settings.validation_rows}, val_batch_size: {settings.validation_rows}"]
    when = _validation(settings, samples)
    if settings.reward_scale is not None:
        bounds = zip(("source_min", "source_max", "target_min", "target_max"), settings.reward_scale, strict=True)
        when += ", reward_scaling: {enabled: true, " + ", ".join(f"{key}: {value!r}" for key, value in bounds) + "}"
    policy = f"{_model(settings)}  train_global_batch_size: {batch * _GENERATIONS}  # num_prompts_per_step * num_generations_per_prompt\n"
    dataloader = "  use_multiple_dataloader: false\n"
    if gym:
        default = "  default: {env_name: nemo_gym, prompt_file: null, system_prompt_file: null, processor: nemo_gym_data_processor}\n"
        limit = "" if turns is None else f"max_rollout_turns: {turns}, "
        return f"""defaults: {_ROOT}/examples/nemo_gym/grpo_workplace_assistant_nemotron_nano_v2_9b.yaml
grpo: {{{steps}, {limit}{when}, max_val_samples: null}}
{_checkpointing(settings)}policy:
{policy}  megatron_cfg: {{moe_per_layer_logging: false}}  # required, but missing from the example
# env.nemo_gym.config_paths must list the servers of the agents that the rows name.
{_data(settings, {"dataset_name": "NemoGymDataset"}, default=default, extra=dataloader, workers=0, length="null")}"""
    truth = "output" if options.no_ground_truth else "ground_truth"
    default = "  default: {prompt_file: null, system_prompt_file: null, processor: math_hf_data_processor, env_name: math}\n"
    keys = {"dataset_name": "ResponseDataset", "input_key": "input", "output_key": f"{truth}  # what the math environment compares with"}
    return f"""defaults: {_ROOT}/examples/configs/{name}_math_1B.yaml
{name}: {{{steps}, max_rollout_turns: {turns or 1}, {when}}}
{_checkpointing(settings)}policy:
{policy}{_data(settings, keys, default=default, extra=dataloader)}"""


def _old_layout(options: AnyOptions, settings: Settings, batch: int) -> str:
    """The old layout has its keys directly under `data:`; v0.6.0 and later accept them but load other data."""
    recipe, path = options.recipe, quoted_path(settings.pattern_of(settings.train))
    validation = "null" if settings.validation is None else quoted_path(settings.pattern_of(settings.validation))
    if isinstance(options, GrpoOptions) and options.format == "gym":
        rows = f"  train_jsonl_fpath: {path}\n  validation_jsonl_fpath: {validation}\n"
        return f"defaults: {_ROOT}/examples/nemo_gym/grpo_dapo17k_bytedtsinghua_qwen3_4binstruct_nf.yaml\ndata:\n{rows}"
    base = {"grpo": "grpo_math_1B"}.get(recipe, recipe)
    keys = {"train_data_path": path, "val_data_path": validation}
    if isinstance(options, SftOptions) and options.format == "openai":
        keys = {"dataset_name": "openai_format", **keys, "chat_key": "messages", "tool_key": "tools", "system_key": "null", "system_prompt": "null",
                "use_preserving_dataset": "true"}
    elif isinstance(options, DpoOptions):
        name = "BinaryPreferenceDataset" if options.format == "binary" else "PreferenceDataset"
        keys = {"dataset_name": name, **keys, "prompt_key": "prompt", "chosen_key": "chosen", "rejected_key": "rejected"}
    else:
        truth = "ground_truth" if isinstance(options, GrpoOptions) and not options.no_ground_truth else "output"
        keys = {"dataset_name": "ResponseDataset", **keys, "input_key": "input", "output_key": truth, "prompt_file": "null", "system_prompt_file": "null"}
    model = f"model_name: {json.dumps(settings.model)}, " if settings.model else ""
    body = "".join(f"  {key}: {value}\n" for key, value in keys.items())
    return f"defaults: {_ROOT}/examples/configs/{base}.yaml\n{recipe}: {{val_period: {0 if settings.validation is None else 10}, val_at_start: false}}\npolicy: {{{model}train_global_batch_size: {batch}}}\ndata:\n{body}"
