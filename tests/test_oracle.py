"""The vectorised code equals the plain Python of `tests/oracle`, byte for byte, on random rollouts and on real ones."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from rollout_etl.read.canonical import Lookup, Style
from rollout_etl.read.inputs import find_inputs
from rollout_etl.read.scan import Rollouts
from rollout_etl.read.schema import COLUMNS
from rollout_etl.recipes.options import AnyOptions, DpoOptions, GrpoOptions, SftOptions
from rollout_etl.run.execute import Run, execute
from rollout_etl.targets import nemo_rl
from tests.oracle.reading import canonical
from tests.oracle.recipes import lines_of
from tests.strategies import bad_lines, damaged_lines, lines_with_repeated_keys, rollout_groups, rollout_lines

REAL = Path(__file__).resolve().parents[1].parent / "shared" / "rollouts"
CHECKED = [name for name in COLUMNS if name != "row"]
# Many lines go through one query; the assertion names the line that differs, so nothing is shrunk.
BATCH = settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), phases=(Phase.explicit, Phase.generate))

RECIPES: dict[str, AnyOptions] = {
    "sft openai": SftOptions(reward_threshold=0.5),
    "sft simple": SftOptions(reward_threshold=0.0, format="simple"),
    "dpo binary": DpoOptions(),
    "dpo text": DpoOptions(prompt_as="text", with_rewards=True),
    "dpo preference": DpoOptions(format="preference", with_rewards=True),
    "dpo stratified": DpoOptions(strategy="stratified", high_threshold=0.6, low_threshold=0.5, min_gap=0.1),
    "dpo cross-prompt": DpoOptions(strategy="stratified", cross_prompt=True),
    "grpo response": GrpoOptions(),
    "grpo all": GrpoOptions(all_rollouts=True, no_ground_truth=True),
    "grpo gym": GrpoOptions(format="gym", agent_name="an agent"),
}


@cache
def expected(path: Path, style: Style, lookup: Lookup | None = None) -> list[dict[str, object]]:
    """Canonical rows of a file, or of the rollout files of a folder."""
    rows = []
    for item in find_inputs(str(path))[0]:
        for number, line in enumerate(Path(item.path).read_bytes().split(b"\n"), start=1):
            if line.strip(b" \t\r\n"):
                row = canonical(line, source=item.path, line_number=number, namespace=item.namespace, style=style, lookup=lookup or Lookup())
                rows += [] if row is None else [row]
    return rows


def check_columns(path: Path, style: Style, lookup: Lookup | None = None) -> None:
    rollouts = Rollouts(str(path), style=style, lookup=lookup)
    rollouts._task_inputs._sidecars = {}  # what lies beside the files is tested on its own
    found = pl.concat(list(rollouts.batches(CHECKED))).to_dicts()
    wanted = expected(path, style, lookup)
    assert len(found) == len(wanted)
    for got, want in zip(found, wanted, strict=True):
        different = {name: (got[name], want[name]) for name in CHECKED if got[name] != want[name]}
        assert not different, (want["source"], want["line"], different)


@pytest.mark.parametrize(
    "style", [Style(), Style(think="strip", arguments="string", developer="system"), Style(think="move", tool_calls="flat")], ids=["plain", "strip", "move"]
)
@BATCH
@given(lines=st.lists(st.one_of(rollout_lines, rollout_lines, rollout_lines, lines_with_repeated_keys(), damaged_lines(), bad_lines), min_size=60, max_size=80))
def test_every_column_of_random_lines(tmp_path_factory: pytest.TempPathFactory, style: Style, lines: list[bytes]) -> None:
    path = tmp_path_factory.mktemp("lines") / "rollouts.jsonl"
    path.write_bytes(b"\n".join(lines))
    check_columns(path, style)


TEXT, IMAGE = {"type": "output_text", "text": "said"}, {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}
CONTENTS = (ABSENT := object(), None, "said", " ", [], [TEXT], [TEXT, TEXT], [IMAGE], [TEXT, IMAGE], [{"type": "refusal", "refusal": "no"}], [{}], ["said"], [None], 5, {"text": "said"}, IMAGE, {"a": 1})


def test_every_shape_of_messages_and_reasoning(tmp_path: Path) -> None:
    """One odd item in a rollout that is plain otherwise: what is read in a hurry is what is read with care."""

    def item(**fields: object) -> dict[str, object]:
        return {name: value for name, value in fields.items() if value is not ABSENT}

    roles = ("user", "system", "developer", "assistant", "critic", None, ABSENT)
    messages = [item(type=kind, role=role, content=content) for kind in ("message", ABSENT) for role in roles for content in CONTENTS]
    # Content that is no list beside a summary: no writer is known, and looking for it would cost every row.
    thoughts = [item(type="reasoning", summary=summary, content=content) for summary in CONTENTS for content in CONTENTS if summary != [TEXT] or not isinstance(content, (str, dict))]
    question, answer = {"role": "user", "content": "q"}, {"type": "message", "role": "assistant", "content": [TEXT]}
    rows = [([question, odd, question], [answer]) for odd in messages] + [([question], [odd, answer]) for odd in (*messages, *thoughts)]
    path = tmp_path / "rollouts.jsonl"
    path.write_text("".join(json.dumps({"responses_create_params": {"input": asked}, "response": {"output": said}, "reward": 1.0}) + "\n" for asked, said in rows))
    check_columns(path, Style())


def test_texts_that_read_like_json_and_json_in_their_place(tmp_path: Path) -> None:
    values: list[object] = [5, -0.5, 1e300, 12345678901234567890123, True, False, None, [], [1], ["a", 2], {}, {"a": 1}, {"a": {"b": []}}, {'a"': "b"}]
    texts = [json.dumps(value, separators=(",", ":")) for value in values] + [json.dumps(value) for value in values]
    texts += ["", " ", "\n" * 100, " x", "-", "1.", "1e5x", "true ", "{", "[", "{}}", "[1] says so", "[1] and [2]", "{a}", "NULL", "\u0000", "\x1f:"]
    question = {"role": "user", "content": "q"}

    def row(said: object, thought: object) -> dict[str, object]:
        reasoning = {"type": "reasoning", "summary": [{"type": "summary_text", "text": thought}]}
        answer = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": said}]}
        return {"responses_create_params": {"input": [question]}, "response": {"output": [answer] if thought is ABSENT else [reasoning, answer]}, "reward": 1.0}

    odd = [*values, *texts]
    rows = [row(said, thought) for value in odd for said, thought in ((value, ABSENT), (value, "so"), ("said", value), (value, value))]
    path = tmp_path / "rollouts.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    check_columns(path, Style())
    check_columns(path, Style(think="move"))


def plain_rollout(task: int, attempt: int) -> dict[str, object]:
    answer = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": f"{task} and {attempt}"}]}
    params = {"input": [{"role": "user", "content": f"Which task is {task}?"}]}
    keys = {"_ng_task_index": 1000 + task, "_ng_rollout_index": attempt, "agent_ref": {"name": "plain"}}
    return {"responses_create_params": params, "response": {"output": [answer]}, "reward": attempt / 3, "expected_answer": str(task), **keys}


@pytest.fixture(scope="module")
def random_rollouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of more than 2,000 random rollouts: groups that tie and differ, lines of every shape, and a few plain ones, of which every recipe writes some."""
    lines = [json.dumps(plain_rollout(task, attempt)).encode() for task in range(5) for attempt in range(4)]

    @settings(BATCH, max_examples=25)
    @given(groups=st.lists(rollout_groups(), min_size=20, max_size=25), others=st.lists(rollout_lines, min_size=20, max_size=25))
    def gather(groups: list[list[bytes]], others: list[bytes]) -> None:
        lines.extend([*(line for group in groups for line in group), *others])

    gather()
    assert len(lines) > 2000
    path = tmp_path_factory.mktemp("random") / "rollouts.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_on_random_rollouts(tmp_path: Path, random_rollouts: Path, name: str) -> None:
    check_recipe(random_rollouts, RECIPES[name], tmp_path / "output.jsonl")


def check_recipe(path: Path, options: AnyOptions, output: Path) -> None:
    wanted, dropped = lines_of(expected(path, nemo_rl.style(options, "keep")), options)
    report = execute(Run(inputs=[str(path)], output=output, options=options, config=False, max_bad_fraction=1.0))
    assert Counter(report.dropped) == dropped
    assert report.written
    found = output.read_text(encoding="utf-8")
    assert found == "".join(wanted)


@pytest.mark.skipif(not REAL.is_dir(), reason="no real rollouts beside the checkout")
def test_every_column_of_real_rollouts() -> None:
    check_columns(REAL, Style())


@pytest.fixture(scope="module")
def real_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real rollouts without their sidecars: ground truth from those is tested on its own."""
    folder = tmp_path_factory.mktemp("real")
    for item in find_inputs(str(REAL))[0]:
        copy = folder / Path(item.path).relative_to(REAL)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(Path(item.path).read_bytes())
    return folder


@pytest.mark.skipif(not REAL.is_dir(), reason="no real rollouts beside the checkout")
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_on_real_rollouts(tmp_path: Path, real_copy: Path, name: str) -> None:
    check_recipe(real_copy, RECIPES[name], tmp_path / "output.jsonl")
