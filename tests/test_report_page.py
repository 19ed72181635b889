"""The report: what it holds, which pair it marks, and that hostile text stays text. How it looks in a browser: `tests/browser`."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from rollout_etl.errors import UsageError
from rollout_etl.read.scan import Rollouts
from rollout_etl.recipes.options import DpoOptions
from rollout_etl.report_html import page as report_page
from rollout_etl.report_html.groups import ATTEMPTS, GROUPS, sample
from rollout_etl.report_html.page import check_place, page
from rollout_etl.stats.narrow import narrow
from rollout_etl.stats.profile import profile
from tests.command import run
from tests.oracle.recipes import _pairs, dropped_by
from tests.test_stats import DEMO, REAL, needs_real, rows_of

HOSTILE = ["<script>alert(1)</script>", "</style><img src=x onerror=alert(1)>", "javascript:alert(1)", "\x1b[31mred\x1b[0m", "{{ 7 * 7 }}", "</details></svg>", "\u202egnp.exe"]
TAGS = {
    "html", "head", "meta", "link", "title", "style", "body", "header", "h1", "h2", "h3", "p", "div", "b", "span", "ul", "li", "code", "pre", "figure", "figcaption",
    "svg", "g", "path", "line", "text", "table", "thead", "tbody", "tr", "th", "td", "section", "fieldset", "label", "input", "details", "summary", "i", "article",
    "footer", "defs", "clippath", "rect",
}


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[tuple[str, str | None]] = set()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


def hostile_rollouts(path: Path) -> None:
    """Rollouts with hostile text wherever the page shows text."""
    with path.open("w") as file:
        for number, text in enumerate(HOSTILE):
            for attempt in range(2):
                call = {"type": "function_call", "name": text, "call_id": "1", "arguments": json.dumps({text: text})}
                result = {"type": "function_call_output", "call_id": "1", "output": text}
                answer = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": f"{text} {attempt}"}]}
                reasoning = {"type": "reasoning", "summary": [{"type": "summary_text", "text": text}]}
                row = {
                    "responses_create_params": {"input": [{"role": "system", "content": text}, {"role": "user", "content": text}]},
                    "response": {"output": [reasoning, call, result, answer]}, "reward": attempt, text: 0.5,
                    "task_name": text, "agent_ref": {"name": text}, "_ng_task_index": number, "_ng_rollout_index": attempt,
                }
                file.write(json.dumps(row) + "\n")


def write_rows(path: Path, rows: list[tuple[str, float]]) -> None:
    """Rollouts with these questions and rewards."""
    path.write_text("".join(
        json.dumps({"messages": [{"role": "user", "content": question}], "response": {"output": [{"role": "assistant", "content": "a"}]}, "reward": reward}) + "\n"
        for question, reward in rows
    ))


def report(path: Path, *earlier: Path) -> str:
    """The report of a file."""
    rollouts = Rollouts(str(path))
    data = narrow(rollouts)
    return page(profile(data, earlier=[narrow(Rollouts(str(other))) for other in earlier]), data, rollouts)


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    hostile_rollouts(tmp_path / "rollouts.jsonl")
    text = report(tmp_path / "rollouts.jsonl", tmp_path / "rollouts.jsonl")
    found = Page(text)
    assert found.tags <= TAGS
    assert not [name for name, _ in found.attributes if name.startswith("on") or name in ("src", "srcset", "action", "srcdoc")]
    assert {value for name, value in found.attributes if name in ("href", "xlink:href")} == {"data:,"}
    # Charts refer to their own clip paths.
    assert set(re.findall(r"url\((.{5})", text)) <= {"#clip"} and "@import" not in text
    assert not set(text) & {"\x1b", "\u202e"}
    for shown in ("<script>alert(1)</script>", "</style><img src=x onerror=alert(1)>", "javascript:alert(1)", "{{ 7 * 7 }}", "</details></svg>"):
        assert found.text.count(shown) > 5


def check_pairs(path: Path) -> int:
    rollouts = Rollouts(str(path))
    rollouts._task_inputs._sidecars = {}
    groups = sample(narrow(rollouts), rollouts, 0.8).groups
    rows = [{**row, "row": number} for number, row in enumerate(rows_of(path))]
    options = DpoOptions()
    kept = [row for row in rows if dropped_by(row, options) is None]
    pairs = [(a, b) for a, b in _pairs(kept, options) if a["response_text"] != b["response_text"]]
    place = {side: {"/".join(pair[n]["source"].rsplit("/", 2)[-2:]) + f":{pair[n]['line']}" for pair in pairs} for n, side in enumerate(("chosen", "rejected"))}
    marked = 0
    for group in groups:
        for attempt in group.attempts:
            assert [side for side in place if attempt.place in place[side]] == ([attempt.mark] if attempt.mark else [])
            marked += bool(attempt.mark)
        assert len(group.attempts) == min(len(group.rewards), ATTEMPTS)
    assert len(groups) == min(GROUPS, len({(row["task_key"], row["prompt_key"]) for row in rows}))
    return marked


def test_pairs_are_those_of_dpo() -> None:
    assert check_pairs(DEMO) > 10


@needs_real
def test_pairs_of_real_rollouts() -> None:
    check_pairs(REAL / "older")


def test_many_groups_are_sampled(tmp_path: Path) -> None:
    with (tmp_path / "rollouts.jsonl").open("w") as file:
        for number in range(1000):
            said = "<&\"'" * 2500 if number % 2 else "short"
            row = {"messages": [{"role": "user", "content": f"{number // 4} {said}"}], "response": {"output": [{"role": "assistant", "content": said + str(number)}]}, "reward": number % 5 / 4}
            file.write(json.dumps(row) + "\n")
    text = report(tmp_path / "rollouts.jsonl")
    assert len(text) < 10_000_000
    assert text.count('<details class="group') <= GROUPS
    assert f"{text.count('<details class=' + chr(34) + 'group')} of 500 groups, drawn evenly" in text
    # Charts number their clip paths within a process.
    assert re.sub("clip[0-9]+", "", text) == re.sub("clip[0-9]+", "", report(tmp_path / "rollouts.jsonl"))


@pytest.mark.parametrize("said", ["<&'" * 2000, "<"], ids=["long texts", "many messages"])
def test_a_huge_group_is_cut_to_fit(said: str, tmp_path: Path) -> None:
    count = 1500 if len(said) > 1 else 120_000
    with (tmp_path / "rollouts.jsonl").open("w") as file:
        for attempt in range(2):
            output = [{"role": role, "content": said} for _ in range(count // 2) for role in ("assistant", "user")]
            row = {"messages": [{"role": "user", "content": "q"}], "response": {"output": [*output, {"role": "assistant", "content": str(attempt)}]}, "reward": attempt}
            file.write(json.dumps(row) + "\n")
    text = report(tmp_path / "rollouts.jsonl")
    assert len(text.encode()) < 10_000_000
    assert text.count('<details class="group') == 1


@pytest.mark.parametrize("content", ["", '{"reward": null, "messages": [{"role": "user", "content": "q"}]}\n', '{"reward": 1, "messages": []}\n'], ids=["empty", "no reward", "no prompt"])
def test_little_to_show(tmp_path: Path, content: str) -> None:
    (tmp_path / "rollouts.jsonl").write_text(content)
    assert Page(report(tmp_path / "rollouts.jsonl")).tags <= TAGS


@pytest.mark.parametrize("first", [0.0, 1500.0], ids=["near 0", "far from 0"])
def test_each_bin_has_a_bar(first: float, tmp_path: Path) -> None:
    write_rows(tmp_path / "rollouts.jsonl", [(f"question {number}", first - 0.001 * number) for number in range(30)])
    chart = next(figure for figure in re.findall(r"<figure>.*?</figure>", report(tmp_path / "rollouts.jsonl"), re.DOTALL) if "<h3>Rewards</h3>" in figure)
    labels = re.findall("<text[^>]*>([^<]+)</text>", chart)
    assert len(set(labels[: labels.index("reward, from")])) == 10


def test_nothing_to_compare(tmp_path: Path) -> None:
    for name in ("now", "before"):
        write_rows(tmp_path / f"{name}.jsonl", [(f"{name}: question {number}", number % 2) for number in range(4)])
    assert "No prompt is in both (4 new, 4 gone): the means are of different tasks." in report(tmp_path / "now.jsonl", tmp_path / "before.jsonl")


@pytest.mark.parametrize(
    ("html", "said"),
    [("rollouts.html", "is an input"), ("folder.html", "is a folder"), ("report.txt", "must end with .html")],
)
def test_refused_places(tmp_path: Path, html: str, said: str) -> None:
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "rollouts.jsonl").write_bytes(DEMO.read_bytes())
    (tmp_path / "rollouts.html").symlink_to("rollouts.jsonl")
    done = run("stats", "rollouts.jsonl", "--html", html, "--max-bad-fraction", "1", folder=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr and len(done.stderr.splitlines()) == 1
    assert (tmp_path / "rollouts.jsonl").read_bytes() == DEMO.read_bytes()


def test_missing_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_page, "_NEEDED", ("no_such_library",))
    with pytest.raises(UsageError, match=r"pip install '\.\[report\]'"):
        check_place(Path("report.html"), [])
