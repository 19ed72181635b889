"""Sampled tokens as training rows: exactly what the model read and wrote, without a chat template in between.

NeMo Gym keeps `prompt_token_ids` and `generation_token_ids` on the last item of each model call. Each prompt must begin with the
tokens of the previous call, prompt and answer. Then the last prompt and its answer form the whole row, and training uses the answers. If
a prompt begins differently (reasoning was removed, the context was cut), no single row can hold the sampled tokens.
"""

from __future__ import annotations

import polars as pl

from rollout_etl.curate.rules import Rule
from rollout_etl.frame_sql import selected

RULES = (
    Rule("missing_token_ids", pl.col("token_state") == "missing", "the last answer has no token ids, or made-up ones"),
    Rule("broken_token_chain", pl.col("token_state") == "broken", "a prompt does not begin with the tokens of the previous call"),
)
COLUMNS = ("input_ids", "labels", "token_state")
"""Columns that `with_token_ids` adds, computed from the column `token_calls`."""

# An item of one token after a complete turn is a dummy. With parallel calls only the last item has ids, so nulls in between are normal.
# Agents without a tokenizer write a few made-up ids; a prompt rendered by a chat template has more tokens than that.
_QUERY = """
WITH items AS (
    SELECT row, list_filter(
        json_transform(token_calls, '[{"prompt_token_ids":["BIGINT"],"generation_token_ids":["BIGINT"]}]'),
        lambda i: NOT coalesce(len(i.prompt_token_ids) <= 1 AND len(i.generation_token_ids) <= 1 AND len(i.generation_token_ids) > 0, false)
    ) AS items FROM frame
),
sampled AS (
    SELECT row, coalesce(len(items[-1].generation_token_ids) > 0 AND len(items[-1].prompt_token_ids) > 4, false) AS ends, list_transform(
        list_filter(items, lambda i: len(i.generation_token_ids) > 0 AND len(i.prompt_token_ids) > 4),
        lambda i: struct_pack(p := i.prompt_token_ids, g := i.generation_token_ids, whole := list_concat(i.prompt_token_ids, i.generation_token_ids))
    ) AS s FROM items
),
chained AS (
    SELECT *, len(list_filter(s, lambda c, i: i > 1 AND c.p[:len(s[i - 1].whole)] IS DISTINCT FROM s[i - 1].whole)) AS breaks FROM sampled
)
SELECT
    CASE WHEN NOT ends THEN 'missing' WHEN breaks > 0 THEN 'broken' ELSE 'whole' END AS token_state,
    CASE WHEN token_state = 'whole' THEN to_json(s[-1].whole)::VARCHAR END AS input_ids,
    CASE WHEN token_state = 'whole' THEN to_json(flatten(list_transform(s, lambda c, i: list_concat(
        list_resize([]::BIGINT[], len(c.p) - CASE WHEN i > 1 THEN len(s[i - 1].whole) ELSE 0 END, -100), c.g
    ))))::VARCHAR END AS labels
FROM chained ORDER BY row
"""


def with_token_ids(frame: pl.DataFrame) -> pl.DataFrame:
    """`frame` with `input_ids` and `labels` (JSON lists of the same length, -100 for tokens that are not trained on) and `token_state`.

    The state is `whole`, `missing` or `broken`; the lists are null if it is not `whole`.
    """
    made = selected(frame.select("token_calls").with_row_index("row"), _QUERY)
    return frame.with_columns(made.get_columns())
