"""Messages of role and content alone: reasoning and tool calls are written into the text, as Qwen's chat template writes them.

    <think>
    reasoning
    </think>

    the text
    <tool_call>
    {"name": "search", "arguments": {"query": "x"}}
    </tool_call>

Tool results stay messages of the role `tool`. Loaders that hand neither tools nor extra keys to a template can use these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from rollout_etl.curate.rules import Rule
from rollout_etl.frame_sql import selected

TOOLS_TAIL = (
    "\n</tools>\n\nFor each function call, return a JSON object with its name and arguments within <tool_call></tool_call> XML tags:\n"
    '<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
)
"""What follows the schemas in the system message: how a call is written."""

_STRUCTURE = (
    '[{"role":"VARCHAR","content":"JSON","reasoning_content":"JSON",'
    '"tool_calls":[{"function":{"name":"JSON","arguments":"JSON"}}]}]'
)
# JSON strings are handled with their escapes: `inner` takes the quotes off. Only a call is encoded once more.
_MACROS = r"""
CREATE OR REPLACE MACRO inner_text(j) AS CASE WHEN j IS NULL THEN '' ELSE substring(j::VARCHAR, 2, length(j::VARCHAR) - 2) END;
CREATE OR REPLACE MACRO call_text(c) AS inner_text(to_json(concat(
    E'<tool_call>\n{"name": ', c.function.name, ', "arguments": ', c.function.arguments, E'}\n</tool_call>')));
CREATE OR REPLACE MACRO calls_text(m) AS array_to_string(list_transform(m.tool_calls, lambda c: call_text(c)), '\n');
CREATE OR REPLACE MACRO plain_message(m) AS concat('{"role":"', m.role, '","content":"',
    CASE WHEN m.reasoning_content IS NOT NULL THEN concat('<think>\n', inner_text(m.reasoning_content), '\n</think>\n\n') END,
    inner_text(m.content),
    CASE WHEN len(m.tool_calls) > 0 THEN concat(CASE WHEN inner_text(m.content) <> '' THEN '\n' END, calls_text(m)) END, '"}');
CREATE OR REPLACE MACRO plain_messages(j) AS concat('[', array_to_string(list_transform(json_transform(j, '%s'), lambda m: plain_message(m)), ','), ']');
"""

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


def with_plain_messages(frame: pl.DataFrame, columns: Mapping[str, str]) -> pl.DataFrame:
    """`frame` with further columns of plain messages: `columns` maps each new name to the column of JSON messages it is made of."""
    made_of = ", ".join(f'plain_messages("{source}") AS "{name}"' for name, source in columns.items())
    made = selected(frame.select(set(columns.values())), f"SELECT {made_of} FROM frame", _MACROS % _STRUCTURE)
    return frame.with_columns(made.get_columns())
