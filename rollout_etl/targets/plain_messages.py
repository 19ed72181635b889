"""Messages of role and content alone: reasoning and tool calls are written into the text, as Qwen's chat template writes them.

    <think>
    reasoning
    </think>

    the text
    <tool_call>
    {"name": "search", "arguments": {"query": "x"}}
    </tool_call>

Tool results stay messages of the role `tool`. Loaders that hand neither tools nor extra keys to a template can use these. They come as the
columns `plain_prompt` and `plain_completion` (`rollout_etl/read/sql/plain.sql`).
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from rollout_etl.curate.rules import Rule

TOOLS_TAIL = (
    "\n</tools>\n\nFor each function call, return a JSON object with its name and arguments within <tool_call></tool_call> XML tags:\n"
    '<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
)
"""What follows the schemas in the system message: how a call is written."""

_ANY = r'(?:[^"\\]|\\.)*'
_CUT = rf'"role":"assistant","content":"(?:{_ANY}</think>{_ANY}</think>|(?: |\\[nrt])*(?:[^"\\ ]|\\[^nrt]){_ANY}<think>{_ANY}</think>)'
"""An assistant text of which a template would not show all (see `cut_thinking`): two closing tags, or something before the last opening one. As JSON."""


def cut_thinking(columns: Sequence[str]) -> Rule:
    """The rule for messages of which a template would leave something out, over columns of plain messages.

    Templates such as Qwen3's take what stands between the last `<think>` and the first `</think>` for the reasoning, and what follows
    the last `</think>` for the answer.
    """
    cut = pl.any_horizontal(pl.col(name).str.contains(_CUT) for name in columns)
    return Rule("think_tag", cut, "an assistant text holds further `<think>` tags, at which templates such as Qwen3's cut it")
