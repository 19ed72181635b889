"""`show` picks the rollouts that were asked for, and lets nothing through that a terminal would obey."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from rollout_etl.stats.conversation import cut, harmless
from tests.command import COMMAND, run

DEMO = str(Path(__file__).parents[1] / "demo" / "rollouts.jsonl")
RELAXED = ("--max-bad-fraction", "0.05")


def rewards(text: str) -> list[float | None]:
    return [None if found == "none" else float(found) for found in re.findall(r"^\S+:\d+ \| reward (\S+)", text, flags=re.MULTILINE)]


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--best", "-n", "3"], [1.0] * 3),
        (["--worst", "-n", "3"], [0.0] * 3),
        (["--where", "reward > 0.1 AND reward < 0.9", "--best"], [0.8, 0.6, 0.55, 0.2]),
        (["--where", "reward > 0.1 AND reward < 0.9", "--worst", "--count", "1"], [0.2]),
        (["--where", "prompt_text LIKE '%Oslo%' AND num_tool_calls = 2", "--worst"], [1.0, 1.0]),
    ],
    ids=["best", "worst", "where", "count", "text"],
)
def test_picks(arguments: list[str], wanted: list[float]) -> None:
    done = run("show", DEMO, *arguments, *RELAXED)
    assert rewards(done.stdout) == wanted
    assert done.returncode == 0


def test_random_depends_on_the_seed_alone() -> None:
    once, again, other = (run("show", DEMO, "--random", "6", "--seed", seed, *RELAXED).stdout for seed in ("1", "1", "2"))
    assert once == again != other
    assert len(rewards(once)) == 6


def test_a_group_is_shown_whole() -> None:
    first = run("show", DEMO, *RELAXED).stdout
    key = re.search(r"group (\w{8})", first)
    assert key is not None
    done = run("show", DEMO, "--group", key[1], *RELAXED)
    assert done.stdout.count(f"group {key[1]}") == 4 == len(rewards(done.stdout))


def test_a_task_index_is_no_beginning_of_a_key(tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": "q"}], "response": {"output_text": "a"}, "reward": 1, "_ng_task_index": number} for number in range(40)]
    (tmp_path / "rollouts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for index in ("1", "3", "7"):
        assert run("show", str(tmp_path), "--group", index).stderr.startswith("1 of 1 matching")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--where", "nope > 1"], 2, "--where names 'nope'"),
        (["--where", "reward +"], 2, "--where reward +"),
        (["--where", "reward"], 2, "is not a condition"),
        (["--best", "--worst"], 2, "--best and --worst cannot be combined"),
        (["--random", "2", "-n", "1"], 2, "-n says how many, and so does --random"),
        (["--group", "1", "-n", "1"], 2, "-n says how many, and so does --group"),
        (["--group", "1", "--random", "1"], 2, "--random and --group cannot be combined"),
        (["--seed", "3"], 2, "--seed is for --random"),
        (["--where", "reward > 5"], 1, "0 of 0 matching rollouts, 48 read"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_errors(arguments: list[str], code: int, said: str) -> None:
    done = run("show", DEMO, *arguments, *RELAXED)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("\x1b[2J\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b2Jx\x9dtitle\x9cy", "xy"),
        ("a\rb\bc\x00d\x7f", "abcd"),
        ("tab\tline\nnext\r\nlast", "tab\tline\nnext\nlast"),
        ("\u202eevil\u2066", "evil"),
        ("\x1b", ""),
        ("\x1b]never ends", ""),
        ("naïve 数学 🙂", "naïve 数学 🙂"),
    ],
)
def test_harmless(text: str, left: str) -> None:
    assert harmless(text) == left


def test_hostile_rollouts(tmp_path: Path) -> None:
    evil = "\x1b[2J\x1b]0;owned\x07\u202e\x9b31m"
    row = {
        "responses_create_params": {"input": [{"role": "user", "content": evil + "asked"}]}, "reward": 1, "task_name": evil + "\nname", "agent_ref": {"name": evil},
        "response": {"output": [
            {"type": "reasoning", "summary": [{"text": evil}]},
            {"type": "function_call", "name": "tool" + evil, "arguments": json.dumps({"a": evil}), "call_id": "1"},
            {"type": "function_call_output", "output": evil, "call_id": "1"},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": evil + "said"}]},
        ]},
    }
    path = tmp_path / "rollouts.jsonl"
    path.write_text(json.dumps(row))
    text = run("show", str(path)).stdout
    assert not set(text) & set("\x1b\x07\x9b\u202e\r")
    assert "  asked\n" in text and "  said\n" in text and "-> tool(" in text


def test_long_texts_are_cut() -> None:
    assert cut("abcdef", 4) == "abcd [... 2 more characters]"
    assert cut("abcdef", 0) == "abcdef" == cut("abcdef", 6)


def test_in_a_pipe_that_closes() -> None:
    done = subprocess.run(f"{COMMAND} show {DEMO} -n 48 --max-bad-fraction 0.05 | head -n 1", shell=True, capture_output=True, text=True)
    assert (done.returncode, done.stdout.count("\n")) == (0, 1)
    assert "Traceback" not in done.stderr
