"""Rollouts in Parquet and JSON arrays are those of the same rows as lines, whatever wrote the file."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import rollout_etl
from rollout_etl.errors import UnreadableError
from tests.test_gym_shapes import answer, rollout

PLACE = ["source", "line", "row"]


def read(path: Path) -> pl.DataFrame:
    return rollout_etl.scan_rollouts(str(path), max_bad_fraction=1.0).collect()


def as_lines(folder: Path, rows: list[dict[str, Any]]) -> pl.DataFrame:
    path = folder / "rollouts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read(path)


def columns_of(rows: list[dict[str, Any]], encode: Any) -> pa.Table:
    """A table whose objects and lists are what `encode` makes of them."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pa.table({name: [encode(row.get(name)) if isinstance(row.get(name), dict | list) else row.get(name) for row in rows] for name in names})


@pytest.mark.parametrize("encode", [json.dumps, lambda value: json.dumps(value, indent=1), lambda value: json.dumps(value).encode()], ids=["text", "indented", "bytes"])
def test_objects_as_json_text(tmp_path: Path, encode: Any) -> None:
    rows = [
        rollout(answer(), instance_config={"mask_sample": True}, _ng_task_index=0),
        rollout(answer("5"), instance_config={"mask_sample": False}, _ng_task_index=1),
    ]
    path = tmp_path / "rollouts.parquet"
    pq.write_table(columns_of(rows, encode), path)
    found = read(path)
    assert found["is_masked"].to_list() == [True, False]
    assert found.drop(*PLACE, "extra").equals(as_lines(tmp_path, rows).drop(*PLACE, "extra"))


@pytest.mark.parametrize("text", ["5", "five", '"quoted"', "null", "{open", " "])
def test_an_answer_that_reads_like_json_stays_text(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rollouts.parquet"
    pq.write_table(pa.table({"messages": ['[{"role":"user","content":"q"}]'], "response": [text], "reward": [1.0]}), path)
    row = {"messages": [{"role": "user", "content": "q"}], "response": text, "reward": 1.0}
    assert read(path)["completion"].to_list() == as_lines(tmp_path, [row])["completion"].to_list()


def test_names_that_differ_in_case_alone(tmp_path: Path) -> None:
    row = rollout(answer())
    path = tmp_path / "rollouts.parquet"
    values = [["x"], [0.25], [json.dumps(row["responses_create_params"])], [json.dumps(row["response"])], [1.0], [2]]
    pq.write_table(pa.table([pa.array(value) for value in values], names=["Response", "Reward", "responses_create_params", "response", "reward", ""]), path)
    found = read(path)
    assert found["reward"].to_list() == [1.0]
    assert found["response_text"].to_list() == ["2"]
    assert json.loads(found["metrics"][0]) == {"Reward": 0.25, "": 2.0}


def test_structs_are_not_filled_with_what_other_rows_have(tmp_path: Path) -> None:
    def tool(name: str, field: str) -> dict[str, Any]:
        return {"type": "function", "name": name, "parameters": {"type": "object", "properties": {field: {"type": "string"}}}}

    rows = [rollout(answer(), _ng_task_index=number) for number in range(2)]
    for row, names in zip(rows, (("weather", "city"), ("sum", "terms")), strict=True):
        row["responses_create_params"] = {"input": row["responses_create_params"]["input"], "tools": [tool(*names)]}
    path = tmp_path / "rollouts.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    found, wanted = read(path), as_lines(tmp_path, rows)
    assert found.select("tools", "prompt_key").equals(wanted.select("tools", "prompt_key"))


def test_indices_that_pandas_made_floats_of(tmp_path: Path) -> None:
    rows = [rollout(answer(), _ng_task_index=index, _ng_rollout_index=0) for index in (0, 12, None)]
    table = columns_of(rows, json.dumps)
    table = table.set_column(table.schema.get_field_index("_ng_task_index"), "_ng_task_index", pa.array([0.0, 12.0, None]))
    path = tmp_path / "rollouts.parquet"
    pq.write_table(table, path)
    found, wanted = read(path), as_lines(tmp_path, rows)
    assert found["task_index"].to_list() == ["0", "12", None]
    assert found["task_key"].to_list()[:2] == wanted["task_key"].to_list()[:2]


def test_half_a_surrogate_pair_in_an_array_is_repaired_as_in_a_line(tmp_path: Path) -> None:
    rows = [rollout(answer("sound")), rollout(answer("half \ud83d of it"), loss=float("nan")), rollout(answer("sound as well"))]
    path = tmp_path / "rollouts.json"
    path.write_text(json.dumps(rows))
    found = read(path)
    assert found["response_text"].to_list() == ["sound", "half \ufffd of it", "sound as well"]
    assert found["line"].to_list() == [1, 2, 3]
    assert found.drop(*PLACE, "task_key").equals(as_lines(tmp_path, rows).drop(*PLACE, "task_key"))
    path.write_text(json.dumps(rows)[:-5])
    with pytest.raises(UnreadableError, match=r"cannot read .*rollouts\.json"):
        read(path)


def test_a_question_mark_in_a_folder_ends_no_name(tmp_path: Path) -> None:
    folder = tmp_path / "a?b"
    folder.mkdir()
    lines = b"".join(json.dumps(rollout(answer(text), _ng_task_index=0)).encode() + b"\n" for text in ("one", "two"))
    (folder / "math.jsonl.gz").write_bytes(gzip.compress(lines))
    (folder / "code.jsonl").write_bytes(lines)
    assert read(folder / "math.jsonl.gz").height == 2
    assert rollout_etl.scan_rollouts(str(folder)).collect()["task_key"].n_unique() == 2
