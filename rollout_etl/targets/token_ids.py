"""The tokens that were sampled, as training rows: what the model read and wrote, without a chat template in between.

NeMo Gym keeps `prompt_token_ids` and `generation_token_ids` on the last item of each model call. Each prompt must begin with the
tokens of the call before, prompt and answer; then the last prompt and its answer are the whole row, and the answers are what is
trained. Where a prompt begins otherwise (reasoning was taken out, the context was cut), no one row holds what was sampled.
"""

from __future__ import annotations

import polars as pl

from rollout_etl.curate.rules import Rule
from rollout_etl.frame_sql import selected

RULES = (
    Rule("missing_token_ids", pl.col("token_state") == "missing", "the last answer carries no token ids, or made-up ones"),
    Rule("broken_token_chain", pl.col("token_state") == "broken", "a prompt does not begin with the tokens of the call before"),
)
COLUMNS = ("input_ids", "labels", "token_state")
"""What `with_token_ids` adds, made of the column `token_calls`."""

# An item of one token after a complete turn is a dummy. Of parallel calls only the last item has ids, so nulls in between are usual.
# Agents without a tokenizer write a few made-up ids; what a chat template makes of a prompt has more tokens than those.
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
    """`frame` with `input_ids` and `labels` (JSON lists of the same length, -100 where nothing is trained) and `token_state`.

    The state is `whole`, `missing` or `broken`; the lists are null where it is not `whole`.
    """
    made = selected(frame.select("token_calls").with_row_index("row"), _QUERY)
    return frame.with_columns(made.get_columns())
