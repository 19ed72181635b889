"""NeMo RL: the rows that its dataset classes load.

| recipe | format | dataset class | row |
|---|---|---|---|
| sft | openai | openai_format, use_preserving_dataset | `{"messages": [...], "tools": [...]}`, tools only if there are any |
| sft | simple | ResponseDataset | `{"input", "output"}` |
| dpo | binary | BinaryPreferenceDataset | `{"prompt", "chosen", "rejected"}` |
| dpo | preference | PreferenceDataset | `{"context": [...], "completions": [{"rank", "completion"}, {"rank", "completion"}]}` |
| grpo | response | ResponseDataset, math_hf_data_processor | `{"input", "output", "ground_truth"}` |
| grpo | gym | NemoGymDataset | a Gym prompt row |
| rm | as dpo | as dpo | as dpo |
| ppo | as grpo | as grpo | as grpo, `reward` as well with responses |

Source: `nemo_rl/data/datasets` and `nemo_rl/data/processors.py` at commit 7ea279abf (2026-08-22); tested with that checkout.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from rollout_etl.errors import UsageError
from rollout_etl.publish.rows import Field
from rollout_etl.read.canonical import Style
from rollout_etl.recipes import dpo, grpo
from rollout_etl.recipes.options import AnyOptions, DpoOptions, GrpoOptions, PpoOptions, SftOptions
from rollout_etl.targets import nemo_rl_config
from rollout_etl.targets.messages import joined, prompt_with_tools
from rollout_etl.targets.target import Job, Loader, Missing, Rows, Settings

TITLE = "NeMo RL"
VERSIONS = "commit 7ea279abf (2026-08-22)"
RUN_SUFFIX = ".nemo-rl.yaml"
_PAIRS = ({"format": "binary"}, {"format": "preference"})
_RESPONSE = ({"format": "response"}, {"format": "response", "no_ground_truth": True})
VARIANTS: dict[str, Sequence[Mapping[str, object]]] = {
    "sft": ({"format": "openai"}, {"format": "simple"}),
    "dpo": _PAIRS,
    "rm": _PAIRS,
    "grpo": (*_RESPONSE, {"format": "gym", "agent_name": "any"}),
    "ppo": _RESPONSE,
}
_BOTH = (".jsonl", ".parquet")
_ONLINE = ("reward_scale", "max_rollout_turns")
LOADERS: dict[str, Loader | Missing] = {
    "sft": Loader("openai_format, ResponseDataset", _BOTH),
    "dpo": Loader("BinaryPreferenceDataset, PreferenceDataset", _BOTH),
    "grpo": Loader("ResponseDataset, NemoGymDataset", _BOTH, _ONLINE),
    "kto": Missing("NeMo RL has no KTO trainer; use --target trl, or the recipe dpo for NeMo RL"),
    "rm": Loader("BinaryPreferenceDataset, PreferenceDataset", _BOTH),
    "ppo": Loader("ResponseDataset", _BOTH, _ONLINE),
}


def style(options: AnyOptions, think: str, arguments: str | None = None) -> Style:
    """How messages are written for NeMo RL: argument objects, because most templates encode text a second time."""
    flat = isinstance(options, SftOptions) and options.tool_call_style == "flat"
    whole = isinstance(options, GrpoOptions) and options.format == "gym"
    calls = "flat" if flat else "nested"
    return Style(think=think, arguments=arguments or "object", tool_calls=calls, developer="system", whole_rows=whole)  # type: ignore[arg-type]


def style_of(job: Job) -> Style:
    """How messages are written."""
    return style(job.options, job.think, job.arguments)


def check(job: Job) -> None:
    """Raise `UsageError` for a job that NeMo RL cannot load."""
    options = job.options
    is_openai = isinstance(options, SftOptions) and options.format == "openai"
    is_gym = isinstance(options, GrpoOptions) and options.format == "gym"
    if is_openai or is_gym:
        named, or_else = ("the openai format", ", or use --format simple") if is_openai else ("Gym rows", "")
        if job.container == ".parquet":
            raise UsageError(f"NeMo RL loads {named} from JSONL only; name the output .jsonl{or_else}")
        if job.shards:
            raise UsageError(f"NeMo RL loads {named} from a single file: write one file without shards{or_else}")
    if job.form is not None:
        raise UsageError("--as is not for NeMo RL, whose rows are chosen with --format")
    if job.extra:
        raise UsageError("--extra is not for NeMo RL: its datasets take fixed columns; --with-rewards adds the rewards of pairs")
    if isinstance(options, PpoOptions) and options.format == "gym":
        raise UsageError("NeMo RL runs Gym with GRPO only; use the recipe grpo, or --format response")
    if job.recipe == "ppo" and job.layout == "v0.5":
        raise UsageError("NeMo RL 0.5 has no PPO; --nemo-rl-layout current is for releases that have it")


def check_path(data: Path) -> str | None:
    """Raise `UsageError` for data that NeMo RL could not find or name; return a note if it cuts the name short."""
    return nemo_rl_config.check_path(data)


def rows(job: Job, longer_prompts: bool) -> Rows:
    """The rows of a job."""
    options = job.options
    if isinstance(options, SftOptions):
        return Rows(fields(options), cannot_hold=None, reader="dates", flat=options.format == "simple")
    if isinstance(options, DpoOptions):
        as_messages = options.prompt_as == "messages" or (options.prompt_as == "auto" and longer_prompts)
        flat = options.format == "binary" and not as_messages
        return Rows(fields(options, as_messages), cannot_hold=None, reader="dates", example_rules=dpo.example_rules(options), flat=flat)
    assert isinstance(options, GrpoOptions)
    if options.format == "gym":
        # The agent comes from the rollout or from the option, which is not a column.
        return Rows([Field("", "json", gym_row(options.agent_name))], cannot_hold=None, whole_row_has=("responses_create_params", "agent_ref"))
    if isinstance(options, PpoOptions) and options.with_responses:
        answered = [*fields(options), Field("reward", "number", pl.col("reward"))]
        return Rows(answered, cannot_hold=("flattened_completion",), reader="dates", flat=True)
    return Rows(fields(options), cannot_hold=None, reader="dates", example_rules=grpo.example_rules(options), flat=True)


def beside(job: Job) -> dict[str, str]:
    """No further files: NeMo RL loads the rows directly."""
    return {}


def run_files(job: Job, settings: Settings) -> dict[Path, str]:
    """The run file."""
    return {settings.run_file: nemo_rl_config.run_file(job.options, settings, job.layout)}


def launch(job: Job, settings: Settings) -> str:
    """The command that starts the run, from a NeMo RL checkout."""
    return nemo_rl_config.launch_command(job.options, settings.run_file, job.layout)


def fields(options: AnyOptions, prompts_are_messages: bool = False) -> list[Field]:
    """The fields of a row, over the columns of the recipe's examples."""
    if isinstance(options, SftOptions):
        if options.format == "simple":
            return [Field("input", "text", pl.col("prompt_text")), Field("output", "text", pl.col("response_text"))]
        tools = pl.col("tools")
        if options.tool_call_style == "flat":
            tools = tools.str.replace_all('{"type":"function","function":{', "{", literal=True).str.replace_all("}}(,\\{|\\]$)", "}$1")
        return [Field("messages", "json", joined(pl.col("prompt"), pl.col("completion"))), Field("tools", "json", tools, optional=True)]
    if isinstance(options, DpoOptions):
        return _pair_fields(options, prompts_are_messages)
    assert isinstance(options, GrpoOptions)
    truth = [] if options.no_ground_truth else [Field("ground_truth", "text", pl.col("ground_truth_text"))]
    return [Field("input", "text", pl.col("prompt_text")), Field("output", "text", pl.col("response_text")), *truth]


def _pair_fields(options: DpoOptions, prompts_are_messages: bool) -> list[Field]:
    if options.format == "preference":
        context = prompt_with_tools(pl.col("chosen_prompt"), pl.col("chosen_tools"))
        sides = pl.concat_str(
            pl.lit('[{"rank":0,"completion":'), pl.col("chosen_completion"),
            pl.lit('},{"rank":1,"completion":'), pl.col("rejected_completion"), pl.lit("}]"),
        )
        result = [Field("context", "json", context), Field("completions", "json", sides)]
    else:
        prompt = Field("prompt", "json", pl.col("chosen_prompt")) if prompts_are_messages else Field("prompt", "text", pl.col("chosen_prompt_text"))
        result = [prompt, Field("chosen", "text", pl.col("chosen_response_text")), Field("rejected", "text", pl.col("rejected_response_text"))]
    if options.with_rewards:
        result += [Field(name, "number", pl.col(name)) for name in ("reward_gap", "chosen_reward", "rejected_reward")]
    return result


def gym_row(agent_name: str | None) -> pl.Expr:
    """The Gym row, with `agent_ref` added if the rollout names no agent."""
    row = pl.col("gym_row")
    if agent_name is None:
        return row
    reference = pl.lit(f'{{"agent_ref":{{"name":{json.dumps(agent_name, ensure_ascii=False)}}},')
    return pl.when(pl.col("agent_name").is_null()).then(pl.concat_str(reference, row.str.strip_prefix("{"))).otherwise(row)
