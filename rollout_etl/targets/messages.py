"""Expressions over JSON messages, which work on text without parsing it."""

from __future__ import annotations

import polars as pl

TOOLS_HEAD = "# Tools\n\nYou may call these functions. Each is given by its JSON schema:\n<tools>\n"
TOOLS_TAIL = "\n</tools>"


def joined(first: pl.Expr, second: pl.Expr) -> pl.Expr:
    """Two JSON lists of messages as one."""
    comma = pl.when((first == "[]") | (second == "[]")).then(pl.lit("")).otherwise(pl.lit(","))
    return pl.concat_str(first.str.strip_suffix("]"), comma, second.str.strip_prefix("["))


def prompt_with_tools(prompt: pl.Expr, tools: pl.Expr, tail: str = TOOLS_TAIL) -> pl.Expr:
    """The prompt with the tools in its system message, for rows that have no other place for them."""
    text = pl.concat_str(pl.lit(TOOLS_HEAD), tools, pl.lit(tail))
    encoded = pl.struct(text.alias("t")).struct.json_encode().str.strip_prefix('{"t":"').str.strip_suffix('"}')
    head = '[{"role":"system","content":"'
    merged = pl.concat_str(pl.lit(head), encoded, pl.lit("\\n\\n"), prompt.str.strip_prefix(head))
    added = joined(pl.concat_str(pl.lit(head), encoded, pl.lit('"}]')), prompt)
    return pl.when(tools.is_null()).then(prompt).when(prompt.str.starts_with(head)).then(merged).otherwise(added)
