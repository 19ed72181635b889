"""`validate` finds what is broken, and nothing in what is right: our own rows, and the samples of the loader harness."""

from __future__ import annotations

import datetime
import decimal
import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rollout_etl import targets
from rollout_etl.recipes.options import RECIPES
from rollout_etl.run.execute import Run, execute
from rollout_etl.targets.target import Loader
from rollout_etl.validate.validate import validate
from tests.command import run

SHARED = Path(__file__).resolve().parents[1].parent / "shared"
DEMO = Path(__file__).parents[1] / "demo" / "rollouts.jsonl"
KIND_IS = {"rl": "grpo", "reward": "rm", "pairs": "rm", "gym": "grpo"}
# The same bytes are a good sample where no template is applied.
TEMPLATED = {"openrlhf/bad_dpo_text.jsonl": True, "openrlhf/dpo_text.jsonl": False, "openrlhf/ppo_text.jsonl": True, "openrlhf/pairs.jsonl": True, "openrlhf/ppo.jsonl": True}
SAMPLES = {"nemo-rl": 36, "trl": 37, "verl": 23, "openrlhf": 24}


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    subprocess.run([sys.executable, "-B", SHARED / "harness" / "make_samples.py", folder], check=True, capture_output=True)
    return folder


@pytest.mark.skipif(not SHARED.is_dir(), reason="no loader harness beside the checkout")
@pytest.mark.parametrize("target", ["nemo-rl", "trl", "verl", "openrlhf"])
def test_samples_of_the_harness(samples: Path, target: str) -> None:
    paths, wrong = sorted((samples / target).iterdir()), []
    for path in paths:
        kind = path.name.removeprefix("bad_").split(".")[0].split("_")[0]
        found = validate(path, target, KIND_IS.get(kind, kind), TEMPLATED.get(f"{target}/{path.name}"))
        if bool(found.problems) != path.name.startswith("bad_"):
            wrong.append((path.name, found.problems))
    assert not wrong
    assert len(paths) == SAMPLES[target]


@pytest.mark.skipif(not SHARED.is_dir(), reason="no loader harness beside the checkout")
@pytest.mark.parametrize(
    ("target", "recipe", "name", "templated", "good"),
    [("trl", "kto", "pairs_tools.jsonl", None, True), ("trl", "ppo", "grpo.jsonl", None, True), ("trl", "rm", "dpo.jsonl", None, True), ("trl", "dpo", "pairs.jsonl", None, True),
     ("openrlhf", "dpo", "pairs.jsonl", False, False), ("openrlhf", "ppo", "ppo.jsonl", False, False), ("openrlhf", "ppo", "ppo_text.jsonl", False, True),
     ("openrlhf", "sft", "sft_text.jsonl", True, True), ("openrlhf", "rm", "dpo.jsonl", True, True)],
)
def test_samples_that_serve_twice(samples: Path, target: str, recipe: str, name: str, templated: bool | None, good: bool) -> None:
    assert bool(validate(samples / target / name, target, recipe, templated).problems) != good


FORMATS = {"sft": ("openai", "simple"), "dpo": ("binary", "preference"), "rm": ("binary", "preference"), "grpo": ("response", "gym"), "ppo": ("response",)}
JSON_ONLY = ("openai", "gym")


def cases() -> list[tuple[str, str, str, dict[str, Any], str | None]]:
    """Target, recipe, container, options and form of what we write."""
    found: list[tuple[str, str, str, dict[str, Any], str | None]] = []
    for target in ("nemo-rl", "trl", "verl", "openrlhf"):
        for recipe, loader in targets.load(target).LOADERS.items():
            for container in loader.containers if isinstance(loader, Loader) else ():
                if target == "nemo-rl":
                    found += [(target, recipe, container, {"format": name}, None) for name in FORMATS[recipe] if container == ".jsonl" or name not in JSON_ONLY]
                    found += [(target, recipe, container, {"tool_call_style": "flat"}, None)] if recipe == "sft" and container == ".jsonl" else []
                else:
                    found.append((target, recipe, container, {}, None))
                    found += [(target, recipe, container, {}, "text")] if target != "verl" else [(target, recipe, container, {}, "messages")] if recipe == "sft" else []
    return found


@pytest.mark.parametrize(("target", "recipe", "container", "options", "form"), cases())
def test_what_we_write_is_right(tmp_path: Path, target: str, recipe: str, container: str, options: dict[str, Any], form: Any) -> None:
    output = tmp_path / f"out{container}"
    # Gym rows need an agent, which some rollouts do not name; Parquet keeps numbers that JSON readers change.
    report = execute(Run(inputs=[str(DEMO)], output=output, target=target, options=RECIPES[recipe](**options), form=form, max_bad_fraction=1, config=False))
    assert report.written
    found = validate(output, target, recipe)
    assert not found.problems
    assert found.rows == report.written


@pytest.mark.skipif(not SHARED.is_dir(), reason="no real rollouts beside the checkout")
@pytest.mark.parametrize(
    ("target", "recipe", "name", "options"),
    [("nemo-rl", "sft", "o.jsonl", {}), ("nemo-rl", "sft", "o.jsonl", {"tool_call_style": "flat"}), ("trl", "sft", "o.parquet", {}), ("trl", "sft", "o.jsonl", {}), ("verl", "sft", "o.parquet", {}),
     ("openrlhf", "sft", "o.jsonl", {}), ("trl", "dpo", "o.parquet", {}), ("nemo-rl", "dpo", "o.jsonl", {"format": "preference"}), ("nemo-rl", "grpo", "o.jsonl", {})],
)
def test_real_rollouts(tmp_path: Path, target: str, recipe: str, name: str, options: dict[str, Any]) -> None:
    output = tmp_path / name
    report = execute(Run(inputs=[str(SHARED / "rollouts")], output=output, target=target, options=RECIPES[recipe](**options), max_bad_fraction=1, config=False))
    assert report.written
    assert not validate(output, target, recipe).problems


U, A = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
CALL = {"role": "assistant", "content": "", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]}
RESULT = {"role": "tool", "tool_call_id": "1", "content": "r"}


@pytest.mark.parametrize(
    ("recipe", "row", "problem"),
    [
        ("sft", {"messages": [U, CALL, RESULT, A]}, None),
        ("sft", {"messages": [U, {**A, "content": None}]}, "content"),
        ("sft", {"messages": [U, CALL, {**RESULT, "tool_call_id": "2"}, A]}, "unmatched"),
        ("sft", {"messages": [U, {**CALL, "tool_calls": [{"id": "1", "function": {"name": "", "arguments": {}}}]}, RESULT, A]}, "call"),
        ("sft", {"messages": [U, {**CALL, "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{"}}]}, RESULT, A]}, "arguments"),
        ("sft", {"messages": [{**U, "role": "developer"}, U, A]}, "role"),
        ("sft", {"messages": "text"}, "type"),
        ("sft", {"messages": None}, "missing"),
        ("sft", {"messages": [{**U, "content": " \n"}, A]}, "empty_message"),
        ("sft", {"input": "q", "output": ""}, "empty"),
        ("dpo", {"prompt": "q", "chosen": "a", "rejected": "b"}, None),
        ("dpo", {"prompt": [U, A], "chosen": "a", "rejected": "b"}, "leak"),
        ("sft", {"messages": [U, {**A, "tool_calls": "f"}]}, "call"),
        ("grpo", {"responses_create_params": {"input": []}, "agent_ref": {"name": "a"}}, "input"),
        ("grpo", {"responses_create_params": {"input": " "}, "agent_ref": {"name": "a"}}, "input"),
        ("grpo", {"responses_create_params": {}, "agent_ref": {"name": "a"}}, "input"),
        ("grpo", {"responses_create_params": {"input": "q"}, "agent_ref": {"name": ""}}, "agent"),
    ],
    ids=str,
)
def test_rows(tmp_path: Path, recipe: str, row: dict[str, Any], problem: str | None) -> None:
    good = {"sft": {"messages": [U, A]} if "messages" in row else {"input": "q", "output": "a"}, "dpo": {"prompt": [U] if isinstance(row.get("prompt"), list) else "q", "chosen": "a", "rejected": "b"},
            "grpo": {"responses_create_params": {"input": "q"}, "agent_ref": {"name": "a"}}}[recipe]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in (good, row, good, row)))
    found = validate(path, "nemo-rl", recipe)
    assert [p.name for p in found.problems] == ([] if problem is None else [problem])
    assert all((p.rows, p.lines) == (2, [2, 4]) for p in found.problems)


@pytest.mark.parametrize(("labels", "problems"), [([True, False], []), ([True, True], ["one_label"]), ([False], ["one_label"])], ids=str)
def test_kto_needs_both_labels(tmp_path: Path, labels: list[bool], problems: list[str]) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"prompt": "q", "completion": "a", "label": label}) + "\n" for label in labels))
    assert [p.name for p in validate(path, "trl", "kto").problems] == problems


@pytest.mark.parametrize("margin", [0.5, float("nan"), float("inf")])
@pytest.mark.parametrize("container", ["jsonl", "parquet"])
def test_margins_are_finite(tmp_path: Path, margin: float, container: str) -> None:
    row, path = {"prompt": "q", "chosen": "a", "rejected": "b", "margin": margin}, tmp_path / f"rows.{container}"
    if container == "parquet":
        pq.write_table(pa.Table.from_pylist([row]), path)
    else:
        path.write_text(json.dumps(row) + "\n")
    assert bool(validate(path, "trl", "rm").problems) == (margin != 0.5)


def test_problems_are_counted_over_all_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"input": ["q", ""] * 20_000, "output": ["a"] * 40_000}), path)
    (problem,) = validate(path, "nemo-rl", "sft").problems
    assert (problem.name, problem.rows, problem.lines) == ("empty", 20_000, list(range(2, 22, 2)))


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["good.jsonl", "--recipe", "sft"], 0, "good.jsonl: 2 rows, openai_format: fine"),
        (["good.jsonl", "bad.jsonl", "--recipe", "sft"], 4, "last_role: messages does not end with an assistant message; 1 rows (first: bad.jsonl:2)"),
        (["--train", "good.jsonl", "--val", "other.jsonl", "--recipe", "sft"], 0, "other.jsonl: 1 rows, openai_format: fine"),
        (["--train", "good.jsonl", "--val", "leak.jsonl", "--recipe", "sft"], 4, "leak: the prompt also occurs in good.jsonl; 1 rows (first: leak.jsonl:1)"),
        (["good.jsonl"], 2, "good.jsonl has no manifest that names its recipe"),
        (["told.jsonl"], 0, "told.jsonl: 2 rows, messages: fine"),
        (["told.jsonl", "--target", "nemo-rl"], 0, "told.jsonl: 2 rows, openai_format: fine"),
        (["told.jsonl", "good.jsonl"], 2, "good.jsonl has no manifest that names its recipe"),
        (["--recipe", "sft"], 2, "no file given"),
        (["--val", "good.jsonl", "--recipe", "sft"], 2, "go together"),
        (["good.jsonl", "--recipe", "nope"], 2, "no recipe 'nope'"),
        (["good.jsonl", "--recipe", "kto"], 2, "NeMo RL has no KTO trainer"),
        (["good.jsonl", "--recipe", "sft", "--target", "custom"], 2, "rows that you define"),
        (["good.jsonl", "--recipe", "sft", "--chat-template"], 2, "--chat-template is for --target openrlhf"),
        (["good.jsonl", "--recipe", "prm", "--target", "verl"], 2, "knows no files for prm"),
        (["nope.jsonl", "--recipe", "sft"], 2, "no such file: nope.jsonl"),
        (["text.parquet", "--recipe", "sft"], 3, "cannot read text.parquet"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_command(tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
    rows = {"good": [[U, A], [{**U, "content": "other"}, A]], "bad": [[U, A], [U]], "other": [[{**U, "content": "third"}, A]], "leak": [[U, {**A, "content": "else"}]]}
    for name, conversations in rows.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in conversations))
    (tmp_path / "told.jsonl").write_bytes((tmp_path / "good.jsonl").read_bytes())
    (tmp_path / "told.jsonl.manifest.json").write_text('{"recipe": "sft", "target": "trl"}')
    (tmp_path / "text.parquet").write_text("no table")
    done = run("validate", *arguments, folder=tmp_path)
    assert done.returncode == code
    assert said in (done.stdout if code in (0, 4) else done.stderr)
    if code in (0, 4):
        verdicts = json.loads(run("validate", *arguments, "--json", folder=tmp_path).stdout)
        assert any(verdict["problems"] for verdict in verdicts) == (code == 4)


SAID = [{"role": "assistant", "content": "4"}]
ASKED = [{"role": "user", "content": "2 + 2?"}]
RANKED = {"context": ASKED, "completions": [{"rank": 0, "completion": SAID}, {"rank": 1, "completion": [{"role": "assistant", "content": "5"}]}]}
CHAT = {"messages": [*ASKED, *SAID]}


def _ranked(**second: Any) -> dict[str, Any]:
    return RANKED | {"completions": [RANKED["completions"][0], {"rank": 1, "completion": [{"role": "assistant", "content": "5"}]} | second]}


@pytest.mark.parametrize(
    ("target", "recipe", "row", "problems"),
    [
        ("nemo-rl", "dpo", RANKED, []),
        *[("nemo-rl", "dpo", _ranked(completion=value), ["completions"]) for value in (None, "", "5", 5, {})],
        *[("nemo-rl", "dpo", _ranked(rank=value), ["rank"]) for value in (None, "1", 1.5, 0)],
        *[("nemo-rl", "dpo", RANKED | {"completions": [RANKED["completions"][0], value]}, ["completions", "rank"]) for value in (None, "5", 5, [], {})],
        ("nemo-rl", "grpo", {"input": "2 + 2?", "output": "4", "ground_truth": "4"}, []),
        ("nemo-rl", "grpo", {"input": "2 + 2?", "output": "4"}, []),
        *[("nemo-rl", recipe, {"input": "2 + 2?", "output": "4", "ground_truth": value}, ["truth"]) for recipe in ("grpo", "ppo") for value in (None, " ", 4, [4], {})],
        *[("trl", "sft", CHAT | {"tools": value}, []) for value in (None, [], "[]", "null", json.dumps([{"type": "function", "function": {"name": "f"}}]))],
        *[("trl", "sft", CHAT | {"tools": value}, ["type"]) for value in (5, True, {}, "", " ", "f", "{}")],
        *[("trl", "sft", CHAT | {"tools": [{"type": "function", "function": value}]}, ["tools"]) for value in ({}, {"name": None}, {"name": 5}, {"name": " "}, "f")],
        ("nemo-rl", "sft", CHAT | {"tools": [{"type": "function", "name": "f"}]}, []),
        ("nemo-rl", "sft", CHAT | {"tools": [{"type": "function", "name": None}]}, ["tools"]),
        *[
            ("nemo-rl", "sft", {"messages": [*ASKED, {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": value, "arguments": {}}}]}]}, found)
            for value, found in (("f", []), (5, ["call"]), (["f"], ["call"]), (" ", ["call"]), (None, ["call"]))
        ],
    ],
    ids=str,
)
def test_values_of_fields(tmp_path: Path, target: str, recipe: str, row: dict[str, Any], problems: list[str]) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    assert sorted({problem.name for problem in validate(path, target, recipe).problems}) == problems


def _table(path: Path, rows: list[dict[str, Any]], kind: Any = None) -> Path:
    pq.write_table(pa.Table.from_pylist(rows, schema=kind and pa.schema([(name, kind) for name in rows[0]])), path)
    return path


ORPHAN = {"role": "tool", "content": "r"}
PAIR = {"prompt": [U], "chosen": [CALL, RESULT, A], "rejected": [{**A, "content": "b"}]}
TEXTS = {"prompt": "q", "chosen": "a", "rejected": "b"}
WHOLE = {"chosen": [U, A], "rejected": [{**U, "content": "other"}, A]}
ITEM = {"responses_create_params": {"input": [U]}, "agent_ref": {"name": "a"}}


@pytest.mark.parametrize(
    ("target", "recipe", "rows", "problems"),
    [
        ("trl", "sft", [{"messages": [U, CALL, ORPHAN, A]}], []),
        ("trl", "sft", [{"messages": [U, CALL, RESULT, CALL, RESULT, A]}], []),
        *[("trl", "sft", [{"messages": messages}], ["unmatched"]) for messages in ([U, RESULT, CALL, A], [U, ORPHAN, CALL, A])],
        # Without ids, calls may be written in the text.
        ("verl", "grpo", [{"data_source": "d", "prompt": [U, A, ORPHAN], "reward_model": {"ground_truth": "4"}}], []),
        ("trl", "dpo", [{**PAIR, "prompt": [U, CALL, RESULT], "rejected": [CALL, RESULT, {**A, "content": "b"}]}], []),
        ("trl", "dpo", [{**PAIR, "rejected": [A, RESULT, A]}], ["unmatched"]),
        ("nemo-rl", "dpo", [_ranked(completion=[CALL, RESULT, A])], []),
        ("nemo-rl", "dpo", [RANKED | {"completions": [{"rank": 0, "completion": [CALL, RESULT, A]}, {"rank": 1, "completion": [A, RESULT, A]}]}], ["unmatched"]),
        *[("trl", recipe, [PAIR, TEXTS], ["mixed"]) for recipe in ("dpo", "rm", "kto")],
        ("trl", "grpo", [{"prompt": "q"}, {"prompt": [U]}], ["mixed"]),
        ("openrlhf", "grpo", [{"input": "q"}, {"input": [U]}], ["mixed"]),
        ("trl", "dpo", [WHOLE], ["diverges"]),
        ("trl", "kto", [WHOLE], ["diverges"]),
        ("trl", "rm", [WHOLE], []),
        *[("trl", "rm", [TEXTS | {"margin": 1}, second], ["null"]) for second in (TEXTS, TEXTS | {"margin": None})],
        *[("trl", "dpo", [TEXTS | {"margin": 1}, second], []) for second in (TEXTS, TEXTS | {"margin": None})],
        ("trl", "grpo", [{"prompt": "q", "solution": "4"}, {"prompt": "q"}], ["null"]),
        ("openrlhf", "grpo", [{"input": "q", "label": "4"}, {"input": "q"}], ["null"]),
        ("trl", "sft", [{"input_ids": [1, 2], "labels": [-100, 2]}], []),
        ("trl", "sft", [{"input_ids": [1, 2]}], []),
        ("trl", "sft", [{"input_ids": [1, 2], "labels": [2]}], ["labels"]),
        ("trl", "sft", [{"input_ids": [1, 2], "labels": [-100, -100]}], ["empty"]),
        ("trl", "sft", [{"input_ids": []}], ["empty"]),
        ("nemo-rl", "grpo", [{"input": "q", "output": "a", "messages": [U, A]}], ["reserved"]),
        *[("nemo-rl", recipe, [row | {"tools": []}], ["reserved"]) for recipe in ("dpo", "rm") for row in (RANKED, TEXTS)],
        ("nemo-rl", "grpo", [ITEM], []),
        *[("nemo-rl", "grpo", [ITEM | {"agent_ref": {"name": value}}], ["agent"]) for value in (5, " ", None, ["a"])],
        ("nemo-rl", "grpo", [ITEM | {"responses_create_params": {"input": ["q"]}}], ["input"]),
        ("nemo-rl", "sft", [CHAT | {"tools": [{"type": "function", "name": "f", "parameters": {"properties": {"x": None}}}]}], ["null_filled"]),
    ],
    ids=str,
)
def test_rows_together(tmp_path: Path, target: str, recipe: str, rows: list[dict[str, Any]], problems: list[str]) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [*dict.fromkeys(problem.name for problem in validate(path, target, recipe).problems)] == problems


@pytest.mark.parametrize(("target", "recipe", "fine"), [("nemo-rl", "sft", False), ("openrlhf", "sft", False), ("verl", "grpo", False), ("trl", "sft", True)])
def test_compressed_lines_are_for_trl(tmp_path: Path, target: str, recipe: str, fine: bool) -> None:
    row = {"data_source": "d", "prompt": [U], "reward_model": {"style": "rule", "ground_truth": "4"}} if recipe == "grpo" else {"prompt": "q", "completion": "a", "input": "q", "output": "a"}
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(json.dumps(row).encode()))
    assert [problem.name for problem in validate(tmp_path / "rows.jsonl.gz", target, recipe).problems] == ([] if fine else ["container"])


@pytest.mark.parametrize("target", ["trl", "verl"])
def test_schemas_that_a_struct_type_fills(tmp_path: Path, target: str) -> None:
    tools = [{"type": "function", "function": {"name": name, "parameters": {"properties": {name: {"type": "string"}}}}} for name in "fg"]
    (problem,) = validate(_table(tmp_path / "rows.parquet", [CHAT | {"tools": [tool]} for tool in tools]), target, "sft").problems
    assert (problem.name, problem.lines) == ("null_filled", [1, 2])
    assert not validate(_table(tmp_path / "rows.parquet", [CHAT | {"tools": tools[:1]}]), target, "sft").problems


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())], ids=str)
def test_text_of_any_arrow_type(tmp_path: Path, kind: Any) -> None:
    assert not validate(_table(tmp_path / "rows.parquet", [{"messages": json.dumps([U, A]), "tools": "[]"}], kind), "verl", "sft").problems


def test_the_dataset_class_for_verl_needs_tools(tmp_path: Path) -> None:
    row = {"messages": json.dumps([U, A]), "tools": None}
    assert not validate(_table(tmp_path / "rows.parquet", [row], pa.string()), "verl", "sft").problems
    (problem,) = validate(_table(tmp_path / "rows.parquet", [{"messages": row["messages"]}]), "verl", "sft").problems
    assert problem.meaning == "there is no column tools, which RolloutSFTDataset needs; it may be null"


def test_bytes_are_no_text(tmp_path: Path) -> None:
    problems = validate(_table(tmp_path / "rows.parquet", [{"prompt": b"q", "completion": b"a"}]), "trl", "sft").problems
    assert [problem.meaning for problem in problems] == ["prompt holds binary instead of text or a plain number", "completion holds binary instead of text or a plain number"]


def _held(text: str, answer: str) -> dict[str, Any]:
    return {"messages": json.dumps([{**U, "content": text}, {**A, "content": answer}]), "tools": "[]"}


@pytest.mark.parametrize(
    ("target", "train", "val"),
    [("verl", [_held("q", "a")], [_held("other", "a"), _held("q", "b")]), ("trl", [{"input_ids": [1, 2]}], [{"input_ids": [1, 3]}, {"input_ids": [1, 2]}])],
)
def test_leaks_of_texts_and_tokens(tmp_path: Path, target: str, train: list[dict[str, Any]], val: list[dict[str, Any]]) -> None:
    for name, rows in (("train", train), ("val", val)):
        _table(tmp_path / f"{name}.parquet", rows)
    done = run("validate", "--train", "train.parquet", "--val", "val.parquet", "--recipe", "sft", "--target", target, folder=tmp_path)
    assert done.returncode == 4
    assert "leak: the prompt also occurs in train.parquet; 1 rows (first: val.parquet:2)" in done.stdout


def test_a_column_that_occurs_twice(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(CHAT)[:-1] + ', "messages": 5}\n')
    assert [problem.name for problem in validate(path, "nemo-rl", "sft").problems] == ["duplicate_key"]


MESSAGES_TEXT = pa.array([json.dumps([*ASKED, *SAID])])


@pytest.mark.parametrize(
    ("target", "recipe", "columns", "problems"),
    [
        *[("trl", "grpo", {"prompt": pa.array(["q"]), "solution": pa.array(["2024-01-01"]).cast(kind)}, ["type"]) for kind in (pa.date32(), pa.timestamp("us"), pa.binary())],
        ("openrlhf", "grpo", {"input": pa.array(["q"]), "label": pa.array([b"4"], pa.large_binary())}, ["type"]),
        ("nemo-rl", "sft", {"input": pa.array(["q"]), "output": pa.array([datetime.time(1)])}, ["type"]),
        ("trl", "rm", {"prompt": pa.array(["q"]), "chosen": pa.array(["a"]), "rejected": pa.array(["b"]), "margin": pa.array([decimal.Decimal("0.5")])}, ["type"]),
        ("trl", "sft", {"messages": pa.array([[{"role": "user", "content": b"q"}, {"role": "assistant", "content": b"a"}]])}, ["type"]),
        ("trl", "sft", {"text": pa.array(["q"]), "about": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64()))}, ["type"]),
        ("trl", "sft", {"text": pa.array(["q"]), "day": pa.array([datetime.date(2024, 1, 1)])}, []),
        ("trl", "sft", {"text": pa.array(["q"]).dictionary_encode()}, []),
        ("trl", "sft", {"text": pa.array(["q"], pa.string_view())}, []),
        ("verl", "sft", {"messages": MESSAGES_TEXT.dictionary_encode(), "tools": pa.array(["[]"], pa.string_view())}, []),
        ("verl", "sft", {"messages": MESSAGES_TEXT.cast(pa.string_view()), "tools": pa.array(["[]"]).dictionary_encode()}, []),
    ],
    ids=lambda given: ", ".join(f"{name}: {column.type}" for name, column in given.items()) if isinstance(given, dict) else str(given),
)
def test_types_of_parquet_columns(tmp_path: Path, target: str, recipe: str, columns: dict[str, pa.Array], problems: list[str]) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table(columns), path)
    assert [problem.name for problem in validate(path, target, recipe).problems] == problems


def test_a_parquet_column_that_occurs_twice(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array(["q"]), pa.array(["a"]), pa.array(["z"])], names=["prompt", "completion", "prompt"]), path)
    assert [problem.name for problem in validate(path, "trl", "sft").problems] == ["duplicate_key"]


def test_names_of_folders_are_no_columns(tmp_path: Path) -> None:
    path = tmp_path / "chosen=1" / "rows.parquet"
    path.parent.mkdir()
    pq.write_table(pa.table({"prompt": ["q", "q"], "completion": ["a", "b"], "label": [True, False]}), path)
    assert not validate(path, "trl", "kto").problems


@pytest.mark.parametrize(
    ("target", "recipe", "rows", "problems"),
    [
        ("openrlhf", "grpo", [{"input": ASKED, "label": "4"}, {"input": "2 + 2?", "label": "4"}], {"mixed": [2]}),
        ("nemo-rl", "dpo", [{"prompt": "q", "chosen": "a", "rejected": "b"}, {"prompt": ASKED, "chosen": "a", "rejected": "b"}], {"mixed": [2]}),
        ("trl", "grpo", [{"prompt": ASKED, "solution": "4", "id": 1}, {"prompt": ASKED, "solution": "4", "id": None}, {"prompt": ASKED, "solution": "4", "id": "007"}], {"mixed": [3]}),
        ("trl", "grpo", [{"prompt": ASKED, "solution": "4", "id": 1}, {"prompt": ASKED, "solution": "4", "id": 1.5}], {}),
        ("trl", "dpo", [{"prompt": "q", "chosen": "a", "rejected": "b", "about": value} for value in (1, "1")], {}),
        ("openrlhf", "grpo", [{"input": ASKED, "label": "4"}, {"input": [{"role": "user", "content": "<image> What is it?"}], "label": "4"}], {"image_tag": [2]}),
        ("openrlhf", "ppo", [{"input": "<image> What is it?"}], {"image_tag": [1]}),
        ("openrlhf", "ppo", [{"input": "q", "images": ["x.png"]}], {"reserved": []}),
        ("openrlhf", "sft", [CHAT | {"prompt": "2 + 2?"}, CHAT | {"prompt": ASKED}], {"reserved": [2]}),
        ("openrlhf", "sft", [CHAT | {"prompt": "2 + 2?"}], {}),
        ("openrlhf", "sft", [{"messages": [{"role": "user", "content": "<image>"}, *SAID]}], {}),
        ("trl", "rm", [{"prompt": "q", "chosen": "a", "rejected": "b", "chosen_ids": [1], "rejected_ids": [2]}], {"reserved": []}),
        ("trl", "sft", [{"input_ids": [1, 2]}, {"input_ids": [1, -2]}], {"type": [2]}),
    ],
    ids=str,
)
def test_what_loaders_make_of_rows(tmp_path: Path, target: str, recipe: str, rows: list[dict[str, Any]], problems: dict[str, list[int]]) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert {problem.name: problem.lines for problem in validate(path, target, recipe).problems} == problems
