"""NeMo RL run files: a whole configuration that its own loader accepts, and the command that starts the run.

Source: `nemo_rl/utils/config.py`, the `MasterConfig` of each algorithm and the set-up functions of `examples/run_*.py` at
commit 7ea279abf (2026-08-22); the older layout is that of v0.5.0.
"""

from __future__ import annotations

import json
from pathlib import Path

from rollout_etl.errors import UsageError
from rollout_etl.recipes.options import AnyOptions, DpoOptions, GrpoOptions, SftOptions

_ROOT = "${oc.env:NEMO_RL_ROOT}"
_BATCH = {"sft": 32, "dpo": 128, "grpo": 32}
"""Examples of a step in NeMo RL's own recipes. The last partial batch is dropped, so a small file needs a smaller batch."""
_GENERATIONS = 8


def recipe_of(options: AnyOptions) -> str:
    """`sft`, `dpo` or `grpo`."""
    return {SftOptions: "sft", DpoOptions: "dpo", GrpoOptions: "grpo"}[type(options)]


def batch_size(recipe: str, rows: int) -> int:
    """The recipe's batch, or the largest power of two that the rows fill."""
    size = _BATCH[recipe]
    while size > max(rows, 1):
        size //= 2
    return size


def check_folder(data: Path) -> str | None:
    """Raise `UsageError` where NeMo RL could not name the task of `data`; a note where the name is cut short.

    It takes the names of folder and file up to the first dot.
    """
    folder = data.resolve().parent
    if folder.name.startswith("."):
        raise UsageError(f"NeMo RL cannot name a task in a folder whose name starts with a dot, {folder}; write elsewhere or use --no-config")
    if "." in folder.name:
        short = folder.name.split(".")[0]
        return f"NeMo RL will call this task {short}: it cuts names at a dot, so do not list this file beside one of another {short}.* folder"
    return None


def run_file(options: AnyOptions, data: Path, rows: int, layout: str = "current") -> str:
    """The text of the run file for `data`."""
    recipe = recipe_of(options)
    path = json.dumps(str(data.resolve()), ensure_ascii=False)
    if layout == "v0.5":
        return _header(data) + _old_layout(recipe, options, path, batch_size(recipe, rows))
    makers = {"sft": _sft, "dpo": _dpo, "grpo": _grpo}
    return _header(data) + makers[recipe](options, path, batch_size(recipe, rows))


def launch_command(options: AnyOptions, config: Path, layout: str = "current") -> str:
    """The command that starts the run, from a NeMo RL checkout."""
    if isinstance(options, GrpoOptions) and options.format == "gym":
        script = "examples/nemo_gym/run_grpo_nemo_gym.py"
    elif isinstance(options, GrpoOptions) and layout == "v0.5":
        script = "examples/run_grpo_math.py"
    else:
        script = f"examples/run_{recipe_of(options)}.py"
    return f"NEMO_RL_ROOT=$PWD uv run {script} --config {config.resolve()}"


def _header(data: Path) -> str:
    return f"# Run file for {data.name}. Set NEMO_RL_ROOT to a checkout of NVIDIA-NeMo/RL; set policy.model_name to your model.\n"


def _data(train: str, *, default: str = "", extra: str = "", workers: int = 1, length: str = "${policy.max_total_sequence_length}") -> str:
    return f"""data:
  _override_: true
  max_input_seq_length: {length}
  shuffle: true
  num_workers: {workers}
{extra}  train:
{train}  validation: null
{default}"""


def _keys(**values: str) -> str:
    return "".join(f"    {key}: {value}\n" for key, value in values.items())


def _sft(options: AnyOptions, path: str, batch: int) -> str:
    assert isinstance(options, SftOptions)
    if options.format == "openai":
        train = _keys(dataset_name="openai_format", data_path=path, chat_key="messages", tool_key="tools", use_preserving_dataset="true")
    else:
        train = _keys(dataset_name="ResponseDataset", data_path=path, input_key="input", output_key="output")
    return f"""defaults: {_ROOT}/examples/configs/sft.yaml
sft: {{val_period: 0, val_at_start: false, val_at_end: false}}
checkpointing: {{metric_name: null}}
policy:
  train_global_batch_size: {batch}
  train_micro_batch_size: 1
  tokenizer: {{chat_template: default}}  # the template of sft.yaml drops tool calls and tool turns
{_data(train, default="  default: {prompt_file: null, system_prompt_file: null, processor: sft_processor}" + chr(10),
       extra="  add_bos: true" + chr(10) + "  add_eos: true" + chr(10) + "  add_generation_prompt: false" + chr(10))}logger: {{wandb_enabled: false, tensorboard_enabled: false}}
"""


def _dpo(options: AnyOptions, path: str, batch: int) -> str:
    assert isinstance(options, DpoOptions)
    if options.format == "binary":
        train = _keys(dataset_name="BinaryPreferenceDataset", data_path=path, prompt_key="prompt", chosen_key="chosen", rejected_key="rejected")
    else:
        train = _keys(dataset_name="PreferenceDataset", data_path=path)
    return f"""defaults: {_ROOT}/examples/configs/dpo.yaml
dpo: {{val_period: 0, val_at_start: false, val_at_end: false}}
checkpointing: {{metric_name: null}}
policy: {{train_global_batch_size: {batch}, train_micro_batch_size: 1}}
{_data(train)}"""


def _grpo(options: AnyOptions, path: str, batch: int) -> str:
    assert isinstance(options, GrpoOptions)
    steps = f"num_prompts_per_step: {batch}, num_generations_per_prompt: {_GENERATIONS}"
    off = "val_period: 0, val_at_start: false, val_at_end: false"
    policy = f"  train_global_batch_size: {batch * _GENERATIONS}  # num_prompts_per_step * num_generations_per_prompt\n"
    dataloader = "  use_multiple_dataloader: false\n"
    if options.format == "gym":
        default = "  default: {env_name: nemo_gym, prompt_file: null, system_prompt_file: null, processor: nemo_gym_data_processor}\n"
        return f"""defaults: {_ROOT}/examples/nemo_gym/grpo_workplace_assistant_nemotron_nano_v2_9b.yaml
grpo: {{{steps}, {off}, max_val_samples: null}}
checkpointing: {{metric_name: null}}
policy:
{policy}  megatron_cfg: {{moe_per_layer_logging: false}}  # required, but missing from the example
# env.nemo_gym.config_paths must list the servers of the agents that the rows name.
{_data(_keys(dataset_name="NemoGymDataset", data_path=path), default=default, extra=dataloader, workers=0, length="null")}"""
    truth = "output" if options.no_ground_truth else "ground_truth"
    default = "  default: {prompt_file: null, system_prompt_file: null, processor: math_hf_data_processor, env_name: math}\n"
    train = _keys(dataset_name="ResponseDataset", data_path=path, input_key="input", output_key=f"{truth}  # what the math environment compares with")
    return f"""defaults: {_ROOT}/examples/configs/grpo_math_1B.yaml
grpo: {{{steps}, max_rollout_turns: 1, {off}}}
checkpointing: {{metric_name: null}}
policy:
{policy}{_data(train, default=default, extra=dataloader)}"""


def _old_layout(recipe: str, options: AnyOptions, path: str, batch: int) -> str:
    """Keys stand directly under `data:`; v0.6.0 and later accept them and read something else."""
    if isinstance(options, GrpoOptions) and options.format == "gym":
        rows = f"  train_jsonl_fpath: {path}\n  validation_jsonl_fpath: null\n"
        return f"defaults: {_ROOT}/examples/nemo_gym/grpo_dapo17k_bytedtsinghua_qwen3_4binstruct_nf.yaml\ndata:\n{rows}"
    base = {"sft": "sft", "dpo": "dpo", "grpo": "grpo_math_1B"}[recipe]
    keys = {"train_data_path": path, "val_data_path": "null"}
    if isinstance(options, SftOptions) and options.format == "openai":
        keys = {"dataset_name": "openai_format", **keys, "chat_key": "messages", "tool_key": "tools", "system_key": "null", "system_prompt": "null",
                "use_preserving_dataset": "true"}
    elif isinstance(options, DpoOptions):
        name = "BinaryPreferenceDataset" if options.format == "binary" else "PreferenceDataset"
        keys = {"dataset_name": name, **keys, "prompt_key": "prompt", "chosen_key": "chosen", "rejected_key": "rejected"}
    else:
        truth = "ground_truth" if isinstance(options, GrpoOptions) and not options.no_ground_truth else "output"
        keys = {"dataset_name": "ResponseDataset", **keys, "input_key": "input", "output_key": truth, "prompt_file": "null", "system_prompt_file": "null"}
    body = "".join(f"  {key}: {value}\n" for key, value in keys.items())
    return f"defaults: {_ROOT}/examples/configs/{base}.yaml\n{recipe}: {{val_period: 0, val_at_start: false}}\npolicy: {{train_global_batch_size: {batch}}}\ndata:\n{body}"
