"""What README and docs say is run as it stands, and their tables are held against the code.

`bash` blocks must succeed, `console` blocks must print what they show, `python` blocks must run and print what the `output`
block after them shows. Blocks of a page share a folder, in which `demo/` is that of the checkout.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from rollout_etl.cli.main import app
from rollout_etl.curate.rules import RULES, Rule
from rollout_etl.errors import ExitCode
from rollout_etl.recipes import dpo, grpo, sft
from rollout_etl.recipes.options import DpoOptions, GrpoOptions, SftOptions

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHOWN_FOLDER = "/home/you/rollout-etl"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^]]*\]\(([^)#]*)(?:#([^)]*))?\)")


def _blocks(page: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def _run(command: list[str], folder: Path) -> str:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "COLUMNS": "100", "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120
    )
    said = done.stdout.decode().replace(str(folder.resolve()), SHOWN_FOLDER)
    assert done.returncode == 0, said
    return said


def _same(said: str, shown: str) -> bool:
    """Whether two outputs are equal; the size of a run file depends on where it lies, because it names an absolute path."""
    sizes = re.compile(r"(?<=\.yaml) \([\d,]+ bytes\)")
    return sizes.sub("", said) == sizes.sub("", shown)


def _commands(block: str) -> Iterator[tuple[str, str]]:
    """Commands of a `console` block, each with the output that is shown for it."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        first, *others = part.splitlines(keepends=True)
        command = [first]
        while others and others[0].startswith("> "):
            command.append(others.pop(0)[2:])
        yield "".join(command), "".join(others)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    checkout = tmp_path / "rollout-etl"
    (checkout / "demo").mkdir(parents=True)
    shutil.copy(ROOT / "demo" / "rollouts.jsonl", checkout / "demo")
    return checkout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_blocks(page: Path, folder: Path) -> None:
    blocks = _blocks(page)
    for position, (language, text) in enumerate(blocks):
        if language == "bash":
            _run(["bash", "-euo", "pipefail", "-c", text], folder)
        elif language == "console":
            for command, shown in _commands(text):
                said = _run(["bash", "-eu", "-c", command], folder)
                assert _same(said, shown), said
        elif language == "python":
            said = _run([sys.executable, "-c", text], folder)
            following = blocks[position + 1] if position + 1 < len(blocks) else ("", "")
            assert said == (following[1] if following[0] == "output" else "")
        else:
            assert language in ("text", "output", "toml")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links(page: Path) -> None:
    for target, anchor in LINK.findall(BLOCK.sub("", page.read_text(encoding="utf-8"))):
        goal = (page.parent / target) if target else page
        assert goal.is_file(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)$", goal.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]


def _table(title: str) -> dict[str, list[str]]:
    """Rows of the first table under a title of docs/recipes.md, by their first cell."""
    section = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8").split(f"\n## {title}\n")[1].split("\n## ")[0]
    table = re.search(r"(?:^\|.*\n)+", section, flags=re.MULTILINE)
    assert table is not None
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[0].splitlines()[2:]]
    return {row[0].strip("`"): row[1:] for row in rows}


def _where(name: str, chosen: dict[str, list[Rule]]) -> str:
    """Table cell for a rule: the formats or options that apply it."""
    applied = [place for place, rules in chosen.items() if name in [rule.name for rule in rules]]
    if applied == list(chosen):
        return "yes"
    return ", ".join(f"`{place}`" for place in applied)


def test_rules() -> None:
    by_recipe = [
        {shape: sft.rules(SftOptions(format=shape)) for shape in ("openai", "simple")},
        {shape: dpo.rules(DpoOptions(format=shape)) for shape in ("binary", "preference")},
        {
            "response": grpo.rules(GrpoOptions()),
            "gym": grpo.rules(GrpoOptions(format="gym")),
        },
    ]
    rewarded = {rule.name for rule in grpo.rules(GrpoOptions(reward_threshold=0.5))}
    extra = {rule.name: rule for recipe in by_recipe for rules in recipe.values() for rule in rules if rule.name not in RULES}
    expected = {}
    for rule in (*RULES.values(), *extra.values()):
        cells = [_where(rule.name, recipe) for recipe in by_recipe]
        if not cells[2] and rule.name in rewarded:
            cells[2] = "`--reward-threshold`"
        meaning = "the reward is under `--reward-threshold`" if rule.name == "below_threshold" else rule.meaning
        expected[rule.name] = [meaning, *cells]
    assert _table("Rules") == expected


def test_exit_codes() -> None:
    assert list(_table("Exit codes")) == [str(int(code)) for code in ExitCode]


@pytest.mark.parametrize("recipe", ["sft", "dpo", "grpo"])
def test_options(recipe: str, folder: Path) -> None:
    text = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    options = set(re.findall(r"--[a-z][a-z-]+", _run(["rollout-etl", recipe, "--help"], folder)))
    documented = set(re.findall(r"`(--[a-z-]+)", text))
    assert options - documented == {"--help"}


def _options_by_command() -> dict[str, list[list[str]]]:
    """The names of each option, by command."""
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return {name: [[*option.opts, *option.secondary_opts] for option in command.params if option.opts[0].startswith("-")] for name, command in commands.items()}


@pytest.mark.parametrize("command", _options_by_command())
def test_every_option_is_documented(command: str) -> None:
    """On a page that names the command, or among the options that commands share."""
    pages = {page.name: page.read_text(encoding="utf-8") for page in PAGES}
    text = "".join(said for name, said in pages.items() if name == "recipes.md" or re.search(rf"rollout-etl {command}\b", said))
    words = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", text))
    assert [names for names in _options_by_command()[command] if words.isdisjoint(names)] == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "benchmarks.md"], ids=lambda page: page.name)
def test_documented_options_exist(page: Path) -> None:
    known = {name for options in _options_by_command().values() for names in options for name in names}
    prose = BLOCK.sub("", page.read_text(encoding="utf-8"))
    # The published scripts spell them with underscores; an option with a dot is a trainer's.
    named = {name.replace("_", "-") for name in re.findall(r"`(--[a-z][a-z_-]*)(?![\w.-])", prose)}
    assert named - known <= {"--help", "--version"}


@pytest.mark.parametrize("script", ["generate", "memory", "near", "pairing", "peers", "questions", "refresh", "run", "tokens"])
def test_benchmarks_start(script: str, folder: Path) -> None:
    assert f"usage: {script}.py" in _run([sys.executable, str(ROOT / "benchmarks" / f"{script}.py"), "--help"], folder)
