"""The notebook of the docs holds what its cells give. `python -m tests.test_notebook` runs it and writes the outputs anew."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parent.parent / "docs" / "explore.ipynb"


def outputs(notebook: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """What each code cell prints, and the value of its last expression, as notebook outputs."""
    names: dict[str, Any] = {}
    return [_output(_source(cell), count, names) for count, cell in enumerate(code_cells(notebook), start=1)]


def _output(source: str, count: int, names: dict[str, Any]) -> list[dict[str, Any]]:
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, "cell", "exec"), names)
        value = eval(compile(ast.Expression(last.value), "cell", "eval"), names) if isinstance(last, ast.Expr) else None
    found: list[dict[str, Any]] = []
    if printed.getvalue():
        found.append({"name": "stdout", "output_type": "stream", "text": printed.getvalue().splitlines(keepends=True)})
    if value is not None:
        data = {"text/plain": repr(value).splitlines(keepends=True)}
        found.append({"data": data, "execution_count": count, "metadata": {}, "output_type": "execute_result"})
    return found


def _source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(NOTEBOOK.parent)
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert outputs(notebook) == [cell["outputs"] for cell in code_cells(notebook)]
    assert [cell["execution_count"] for cell in code_cells(notebook)] == [number + 1 for number in range(len(code_cells(notebook)))]


if __name__ == "__main__":
    os.chdir(NOTEBOOK.parent)
    made = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    for number, (code, found_outputs) in enumerate(zip(code_cells(made), outputs(made), strict=True), start=1):
        code.update(outputs=found_outputs, execution_count=number)
    NOTEBOOK.write_text(json.dumps(made, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
