"""Messages with only role and content: reasoning and tool calls are written into the text, in the style of Qwen's chat template.

    <think>
    reasoning
    </think>

    the text
    <tool_call>
    {"name": "search", "arguments": {"query": "x"}}
    </tool_call>

Tool results remain messages of the role `tool`. Loaders that pass neither tools nor extra keys to a template can use these messages. They
are read as the columns `plain_prompt` and `plain_completion` (`rollout_etl/read/sql/plain.sql`).
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from rollout_etl.curate.rules import Rule

TOOLS_TAIL = (
    "\n</tools>\n\nFor each function call, return a JSON object with its name and arguments within <tool_call></tool_call> XML tags:\n"
    '<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
)
"""The text after the schemas in the system message, which explains how to write a call."""

_ANY = r'(?:[^"\\]|\\.)*'
_CUT = rf'"role":"assistant","content":"(?:{_ANY}</think>{_ANY}</think>|(?: |\\[nrt])*(?:[^"\\ ]|\\[^nrt]){_ANY}<think>{_ANY}</think>)'
"""An assistant text, as JSON, that a template would show only in part (see `cut_thinking`): two closing tags, or text before the last opening tag."""


def cut_thinking(columns: Sequence[str]) -> Rule:
    """The rule for messages that a template would show only in part, over columns of plain messages.

    Templates such as Qwen3's use the text between the last `<think>` and the first `</think>` as the reasoning, and the text after the
    last `</think>` as the answer.
    """
    cut = pl.any_horizontal(pl.col(name).str.contains(_CUT) for name in columns)
    return Rule("think_tag", cut, "an assistant text holds further `<think>` tags, at which templates such as Qwen3's cut it")
