"""The report in Debian's Chromium: nothing is asked of a network, nothing is said on the console, nothing sticks out, nothing runs.

With SCREENSHOTS=FOLDER a picture of each width and scheme is left there.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.command import run
from tests.test_report_page import hostile_rollouts
from tests.test_stats import DEMO

CHROMIUM = shutil.which("chromium")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")


OVERLAPS = """[...document.querySelectorAll("svg")].flatMap(chart => {
    const labels = [...chart.querySelectorAll("text")].filter(label => label.textContent && getComputedStyle(label).opacity !== "0").map(label => [label.textContent, label.getBoundingClientRect()]);
    const meet = (a, b) => a.left < b.right && b.left < a.right && a.top + 2 < b.bottom && b.top + 2 < a.bottom;
    return labels.flatMap(([text, at], n) => labels.slice(n + 1).filter(([, other]) => meet(at, other)).map(([other]) => [text, other]));
})"""
"""The labels of charts that lie over one another."""


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    hostile_rollouts(folder / "hostile.jsonl")
    (folder / "earlier.jsonl").write_bytes(b"".join(DEMO.read_bytes().splitlines(keepends=True)[:24]))
    rewards = (-100, 1234.5, 0.25, *range(10))
    (folder / "wide.jsonl").write_text("".join(
        json.dumps({"messages": [{"role": "user", "content": "q"}], "response": {"output": [{"role": "assistant", "content": "a" * n}]}, "reward": reward}) + "\n"
        for n, reward in enumerate(rewards, start=1)
    ))
    found = {}
    for name, source in (("demo", str(DEMO)), ("hostile", "hostile.jsonl"), ("wide", "wide.jsonl")):
        done = run("stats", source, "--compare", "earlier.jsonl", "--html", f"{name}.html", "--max-bad-fraction", "0.1", "-q", folder=folder)
        assert done.returncode == 0, done.stderr
        found[name] = folder / f"{name}.html"
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as session:
        chromium = session.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("name", ["demo", "hostile", "wide"])
def test_report(browser: Any, reports: dict[str, Path], name: str, width: int, scheme: str) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(reports[name].as_uri())
    # Everything that can be opened is open: long texts must not stick out either.
    for fold in page.locator("details").all():
        fold.evaluate("fold => { fold.open = true }")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.scripts.length + document.images.length + document.querySelectorAll('iframe, object, embed, a').length") == 0
    light = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert (light == "rgb(255, 255, 255)") == (scheme == "light")
    assert page.locator("figure svg").count() >= 5
    labels = page.evaluate("[...document.querySelectorAll('svg text')].every(label => label.getBoundingClientRect().left >= 0 && label.getBoundingClientRect().right <= innerWidth)")
    assert labels, "a label of a chart is cut off"
    assert page.evaluate(OVERLAPS) == []
    page.locator("input[value=some]").check(force=True)
    assert page.locator(".group:visible").count() == page.locator(".group.some").count() > 0
    page.locator("input[value=every]").check(force=True)
    assert asked == [reports[name].as_uri()]
    assert said == []
    if folder := os.environ.get("SCREENSHOTS"):
        page.reload()
        page.screenshot(path=Path(folder) / f"{name}_{width}_{scheme}.png", full_page=True)
    context.close()


def test_marks_and_texts(browser: Any, reports: dict[str, Path]) -> None:
    page = browser.new_page()
    page.goto(reports["demo"].as_uri())
    assert page.locator(".group").first.get_attribute("open") is not None
    page.locator(".group:has(.chosen) > summary").nth(1).click()
    first = page.locator(".group:has(.chosen)").nth(1)
    assert first.locator(".attempt.chosen .badge").inner_text() == "chosen"
    assert first.locator(".attempt.rejected .badge").inner_text() == "rejected"
    calls = page.locator("details.fold", has_text="get_weather").first
    assert calls.get_attribute("open") is None
    page.close()
    page = browser.new_page()
    page.goto(reports["hostile"].as_uri())
    assert "<script>alert(1)</script>" in page.locator(".browser").inner_text()
    page.close()


def test_print(browser: Any, reports: dict[str, Path]) -> None:
    page = browser.new_page()
    page.goto(reports["demo"].as_uri())
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.close()
