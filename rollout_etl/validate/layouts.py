"""What the rows of each trainer look like: columns and their kinds. Sources are those of `rollout_etl/targets/<trainer>.py`.

A trainer may accept several layouts for a recipe; a file is checked against the first one whose columns it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "said", "messages", "json_messages", "tools_text", "tools", "any_tools", "flag", "number", "truth", "verified", "label", "margin", "numbers", "texts", "flags", "completions", "object", "any"]
Part = Literal["", "conversation", "prompt", "completion", "context"]


@dataclass(frozen=True)
class Column:
    """A column of a layout."""

    name: str
    kind: Kind
    """`text`: text that is not blank; `truth`: text; `verified`: text that answers are verified against; `said`: text or messages, the same in all such columns of a row; `messages`: a list of
    messages; `json_messages`: the same as JSON text; `tools`, `tools_text`: a list of tools, or one as JSON text; `any_tools`: either, or null; `completions`:
    NeMo RL's two ranked completions; `label`: true, false or a number; `texts`, `flags`, `numbers`: a list of them; `flag`, `number`,
    `object`, `any`; `margin`: a number in every row."""
    part: Part = ""
    """For messages: a whole conversation ends with the assistant, a prompt does not, a completion begins and ends with the assistant; in a
    context only roles are checked."""
    required: bool = True


@dataclass(frozen=True)
class Layout:
    """The columns of a row, and further requirements."""

    name: str
    columns: Sequence[Column]
    sides: tuple[str, str] | None = None
    """Columns that must differ."""
    shared_start: Literal["", "first", "all"] = ""
    """Both sides are whole conversations that share the first message, or all but the last."""
    refused: Sequence[str] = ()
    """Names that further columns must not have."""
    objects_only: bool = False
    """Arguments of calls must be objects: templates encode text a second time."""
    guessed: Literal["", "dates", "json"] = ""
    """How a reader that guesses types reads JSON lines: texts like dates change, and with `json` numbers lose digits as well."""
    typed_by_file: Sequence[str] = ()
    """Columns that the loader makes and whose type it takes from a column of the file with that name."""
    splits_images: bool = False
    """The prompt is split at <image>."""
    passes_all: bool = False
    """Further columns are passed on to the reward functions."""
    blank_lines: bool = True
    """Blank lines are skipped."""
    no_calls: Sequence[str] = ()
    """Columns that must not hold tool calls."""
    containers: Sequence[str] = (".jsonl", ".json", ".parquet")
    flat_tools: bool = False
    """Tools without `function` are accepted too."""

    @property
    def prompt(self) -> Column:
        """The prompt column: the one named prompt, or the first."""
        return next((column for column in self.columns if column.name == "prompt"), self.columns[0])

    @property
    def required(self) -> list[str]:
        """Names of the columns that every row has."""
        return [column.name for column in self.columns if column.required]


def _said(**parts: Part) -> list[Column]:
    return [Column(name, "said", part) for name, part in parts.items()]


_TRL_TOOLS = Column("tools", "any_tools", required=False)
_TRL_FILES = (".jsonl", ".json", ".gz", ".parquet")
_TRL_RESERVED = ("text", "messages", "prompt", "completion", "chosen", "rejected", "label", "labels", "input_ids", "assistant_masks", "completion_mask", "seq_lengths",
                 "image", "images", "conversations", "chat_template_kwargs", "margin")
_VERL_RESERVED = ("trace", "sampling_params", "trajectory", "raw_prompt", "index", "tools_kwargs", "interaction_kwargs", "dummy_tensor", "uid", "images",
                  "videos", "audios", "reward_scores", "tool_extra_fields")
_MARGIN = Column("margin", "number", required=False)


def _trl(name: str, columns: Sequence[Column], also_refused: Sequence[str] = (), **more: object) -> Layout:
    names = {column.name for column in columns}
    return Layout(name, [*columns, _TRL_TOOLS], refused=[r for r in (*_TRL_RESERVED, *also_refused) if r not in names], guessed="json", containers=_TRL_FILES, **more)  # type: ignore[arg-type]


_PAIR = _said(prompt="prompt", chosen="completion", rejected="completion")
_WHOLE = _said(chosen="conversation", rejected="conversation")
_TRL_PAIRS = [_trl("explicit prompt", [*_PAIR, _MARGIN], sides=("chosen", "rejected")),
              _trl("implicit prompt", [*_WHOLE, _MARGIN], sides=("chosen", "rejected"), shared_start="first")]
_RANKED_TOKENS = ("chosen_ids", "rejected_ids", "chosen_input_ids", "rejected_input_ids")
_TRL_REWARDED = [_trl(name, [*sides, Column("margin", "margin", required=False)], also_refused=_RANKED_TOKENS, sides=("chosen", "rejected"))
                 for name, sides in (("explicit prompt", _PAIR), ("implicit prompt", _WHOLE))]
_BINARY = Layout("BinaryPreferenceDataset", [Column("prompt", "said", "prompt"), Column("chosen", "text"), Column("rejected", "text")],
                 sides=("chosen", "rejected"), refused=("task_name", "tools"), guessed="dates")
_PREFERENCE = Layout("PreferenceDataset", [Column("context", "messages", "context"), Column("completions", "completions")], refused=("task_name", "tools"), guessed="json")
_RESPONSE = Layout("ResponseDataset", [Column("input", "text"), Column("output", "text")], guessed="dates")
_GYM = Layout("NemoGymDataset", [Column("responses_create_params", "object"), Column("agent_ref", "object")], blank_lines=False, containers=(".jsonl",),
              refused=("response", "reward", "_ng_task_index", "_ng_rollout_index"))
_PROMPTS = Layout("ResponseDataset", [*_RESPONSE.columns, Column("ground_truth", "verified", required=False)], guessed="dates", refused=("messages",))
_RLHF = Layout(
    "RLHFDataset",
    [Column("data_source", "text"), Column("prompt", "messages", "prompt"), Column("reward_model", "object"), Column("extra_info", "object", required=False),
     Column("ability", "any", required=False), Column("agent_name", "text", required=False)],
    refused=_VERL_RESERVED,
)
_OPEN_CALLS = ("prompt", "chosen", "reject", "rejected", "response", "prompt_ids_len", "response_ranges", "extra", "label")


def _open(name: str, columns: Sequence[Column], **more: object) -> Layout:
    return Layout(name, columns, **{"refused": ("tools",), "guessed": "json", "no_calls": _OPEN_CALLS, "typed_by_file": _OPEN_CALLS, **more})  # type: ignore[arg-type]


_OPEN_PAIRS = [
    _open("named messages", [Column("prompt_messages", "messages", "prompt"), Column("chosen_messages", "messages", "completion"),
                             Column("rejected_messages", "messages", "completion"), _MARGIN], sides=("chosen_messages", "rejected_messages")),
    _open("explicit prompt", [*_PAIR, _MARGIN], sides=("chosen", "rejected")),
    _open("implicit prompt", [*_WHOLE, _MARGIN], sides=("chosen", "rejected"), shared_start="all"),
]
_OPEN_PROMPTS = [_open("prompts", [Column("input", "said", "prompt"), Column("label", "truth", required=False), Column("datasource", "text", required=False)],
                       refused=("tools", "images"), splits_images=True, typed_by_file=())]

LAYOUTS: dict[tuple[str, str], Sequence[Layout]] = {
    ("nemo-rl", "sft"): [
        Layout("openai_format", [Column("messages", "messages", "conversation"), Column("tools", "tools", required=False)], objects_only=True, blank_lines=False,
               containers=(".jsonl",), flat_tools=True),
        _RESPONSE,
    ],
    ("nemo-rl", "dpo"): [_PREFERENCE, _BINARY],
    ("nemo-rl", "rm"): [_PREFERENCE, _BINARY],
    ("nemo-rl", "grpo"): [_GYM, _PROMPTS],
    ("nemo-rl", "ppo"): [_PROMPTS],
    ("trl", "sft"): [
        _trl("messages", [Column("messages", "messages", "conversation")]),
        _trl("prompt and completion", _said(prompt="prompt", completion="completion")),
        _trl("text", [Column("text", "text")]),
        _trl("tokens", [Column("input_ids", "numbers"), Column("labels", "numbers", required=False)]),
    ],
    ("trl", "dpo"): _TRL_PAIRS,
    ("trl", "rm"): _TRL_REWARDED,
    ("trl", "kto"): [_trl("unpaired", [*_said(prompt="prompt", completion="completion"), Column("label", "flag")]), *_TRL_PAIRS],
    # Trainers of older releases: TRL had PPO and PRM before 1.12, OpenRLHF KTO up to 0.9.5.
    ("trl", "ppo"): [_trl("prompts of TRL before 1.12", _said(prompt="prompt")), _trl("tokens of TRL before 1.12", [Column("input_ids", "numbers")])],
    ("trl", "prm"): [Layout("steps of TRL before 1.12", [Column("prompt", "text"), Column("completions", "texts"), Column("labels", "flags")], containers=_TRL_FILES)],
    ("openrlhf", "kto"): [_open("unpaired, of OpenRLHF up to 0.9.5", [*_said(input="prompt", output="completion"), Column("label", "label")])],
    ("trl", "grpo"): [Layout("prompts", [Column("prompt", "said", "prompt"), Column("solution", "truth", required=False)], guessed="json", passes_all=True, containers=_TRL_FILES, refused=(
        "prompts", "completion", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric", "environments"))],
    ("verl", "sft"): [
        Layout("RolloutSFTDataset", [Column("messages", "json_messages", "conversation"), Column("tools", "tools_text", required=False)], containers=(".parquet",)),
        Layout("MultiTurnSFTDataset", [Column("messages", "messages", "conversation"), Column("tools", "tools", required=False),
                                       Column("enable_thinking", "flag", required=False)], containers=(".parquet",)),
    ],
    ("verl", "grpo"): [_RLHF],
    ("verl", "ppo"): [_RLHF],
    ("verl", "rm"): [Layout("RMDataset", [Column("prompt", "text"), Column("chosen", "text"), Column("rejected", "text")], sides=("chosen", "rejected"), containers=(".parquet",))],
    ("openrlhf", "sft"): [
        _open("messages", [Column("messages", "messages", "conversation")]),
        _open("input and output", _said(input="prompt", output="completion")),
    ],
    ("openrlhf", "dpo"): _OPEN_PAIRS,
    ("openrlhf", "rm"): _OPEN_PAIRS,
    ("openrlhf", "grpo"): _OPEN_PROMPTS,
    ("openrlhf", "ppo"): _OPEN_PROMPTS,
}
"""Layouts by target and recipe, the preferred one first."""
