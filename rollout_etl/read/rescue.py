"""Bad lines of a frame: repaired and read again, or counted and recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl
import pyarrow as pa

from rollout_etl.read.lines import SCHEMA
from rollout_etl.read.quarantine import Account, BadLine
from rollout_etl.read.repair import look_again


def without_bad_lines(frame: pl.DataFrame, paths: Sequence[str], account: Account, query: Callable[[pa.Table], pa.RecordBatchReader]) -> pl.DataFrame:
    """The rollouts of a frame, in the order of `row`. `paths` are the files by number, `query` reads lines as the frame was read."""
    account.read += len(frame)
    bad = frame["bad_text"].is_not_null()
    if not bad.any():
        return frame
    repaired, refused = [], []
    for row, source, line, text in frame.filter(bad).select("row", "bad_source", "bad_line", "bad_text").iter_rows():
        look = look_again(text)
        if look.text is None:
            refused.append(BadLine(paths[source], line, look.reason, text, row, source))
        else:
            repaired.append((row, source, line, look, text))
    frames = [frame.filter(~bad)]
    if repaired:
        rows, sources, numbers, looks, _ = zip(*repaired, strict=True)
        lines = pa.table([rows, sources, numbers, [look.text for look in looks]], schema=SCHEMA)
        again = pl.concat([pl.DataFrame(pl.from_arrow(batch)) for batch in query(lines)])
        frames.append(again.filter(pl.col("is_rollout")))
        rescued = set(frames[-1]["row"])
        for row, source, line, look, text in repaired:
            if row in rescued:
                account.repairs.append((row, tuple(look.damage)))
            else:
                refused.append(BadLine(paths[source], line, look.reason, text, row, source))
    account.quarantined += sorted(refused, key=lambda bad_line: bad_line.row)
    return pl.concat(frames).sort("row")
