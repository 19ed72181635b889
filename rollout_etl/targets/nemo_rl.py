"""NeMo RL: the rows that its dataset classes load.

| recipe | format | dataset class | row |
|---|---|---|---|
| sft | openai | openai_format, use_preserving_dataset | `{"messages": [...], "tools": [...]}`, tools only where there are any |
| sft | simple | ResponseDataset | `{"input", "output"}` |
| dpo | binary | BinaryPreferenceDataset | `{"prompt", "chosen", "rejected"}` |
| dpo | preference | PreferenceDataset | `{"context": [...], "completions": [{"rank", "completion"}, {"rank", "completion"}]}` |
| grpo | response | ResponseDataset, math_hf_data_processor | `{"input", "output", "ground_truth"}` |
| grpo | gym | NemoGymDataset | a Gym prompt row |

Source: `nemo_rl/data/datasets` and `nemo_rl/data/processors.py` at commit 7ea279abf (2026-08-22); run with that checkout.
"""

from __future__ import annotations

import json

import polars as pl

from rollout_etl.errors import UsageError
from rollout_etl.publish.rows import Field
from rollout_etl.read.canonical import Style
from rollout_etl.recipes.options import AnyOptions, DpoOptions, GrpoOptions, SftOptions

_TOOLS_HEAD = "# Tools\n\nYou may call these functions. Each is given by its JSON schema:\n<tools>\n"
_TOOLS_TAIL = "\n</tools>"


def style(options: AnyOptions, think: str) -> Style:
    """How messages are written for NeMo RL: argument objects, because most templates encode text a second time."""
    flat = isinstance(options, SftOptions) and options.tool_call_style == "flat"
    whole = isinstance(options, GrpoOptions) and options.format == "gym"
    return Style(think=think, tool_calls="flat" if flat else "nested", developer="system", whole_rows=whole)  # type: ignore[arg-type]


def check(options: AnyOptions, container: str) -> None:
    """Raise `UsageError` for containers that NeMo RL cannot load."""
    if container == ".parquet":
        if isinstance(options, SftOptions) and options.format == "openai":
            raise UsageError("NeMo RL loads the openai format from JSONL only; name the output .jsonl, or use --format simple")
        if isinstance(options, GrpoOptions) and options.format == "gym":
            raise UsageError("NeMo RL loads Gym rows from JSONL only; name the output .jsonl")


def joined(first: pl.Expr, second: pl.Expr) -> pl.Expr:
    """Two JSON lists of messages as one."""
    comma = pl.when((first == "[]") | (second == "[]")).then(pl.lit("")).otherwise(pl.lit(","))
    return pl.concat_str(first.str.strip_suffix("]"), comma, second.str.strip_prefix("["))


def prompt_with_tools(prompt: pl.Expr, tools: pl.Expr) -> pl.Expr:
    """The prompt with the tools in its system message: preference rows have no other place for them."""
    text = pl.concat_str(pl.lit(_TOOLS_HEAD), tools, pl.lit(_TOOLS_TAIL))
    encoded = pl.struct(text.alias("t")).struct.json_encode().str.strip_prefix('{"t":"').str.strip_suffix('"}')
    head = '[{"role":"system","content":"'
    merged = pl.concat_str(pl.lit(head), encoded, pl.lit("\\n\\n"), prompt.str.strip_prefix(head))
    added = pl.concat_str(pl.lit(head), encoded, pl.lit('"},'), prompt.str.strip_prefix("["))
    return pl.when(tools.is_null()).then(prompt).when(prompt.str.starts_with(head)).then(merged).otherwise(added)


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
    if options.format == "gym":
        return [Field("", "json", pl.col("gym_row"))]
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
    """The Gym row, with `agent_ref` where the rollout names no agent."""
    row = pl.col("gym_row")
    if agent_name is None:
        return row
    reference = pl.lit(f'{{"agent_ref":{{"name":{json.dumps(agent_name, ensure_ascii=False)}}},')
    return pl.when(pl.col("agent_name").is_null()).then(pl.concat_str(reference, row.str.strip_prefix("{"))).otherwise(row)
