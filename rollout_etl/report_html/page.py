"""The report as one HTML file without scripts and network requests."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rollout_etl.errors import UsageError
from rollout_etl.publish.files import StagedFile, refuse_place
from rollout_etl.read.inputs import Input
from rollout_etl.read.scan import Rollouts
from rollout_etl.stats.narrow import Narrow

_NEEDED = ("altair", "vl_convert", "jinja2")


def check_place(path: Path, inputs: Sequence[Input]) -> None:
    """Raise `UsageError` if a report cannot be written: over an input, over a folder, or without the libraries that draw it."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise UsageError("--html needs libraries that are not installed: pip install '.[report]' in a checkout of rollout-etl")
    if path.suffix not in (".html", ".htm"):
        raise UsageError(f"the report {path} must end with .html")
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file that ends with .html")
    refuse_place(path, (item.local_path for item in inputs), "report")


def write_page(path: Path, found: dict[str, Any], data: Narrow, rollouts: Rollouts) -> None:
    """Write the report of a profile, whole or not at all. Raises `WriteError`."""
    with StagedFile(path) as file:
        file.write(page(found, data, rollouts).encode())
        file.finish()
        file.publish()


def page(found: dict[str, Any], data: Narrow, rollouts: Rollouts) -> str:
    """The report of a profile (see `stats.profile`) and a sample of its groups as HTML. All text from rollouts is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from rollout_etl.report_html.charts import NAME, figures
    from rollout_etl.report_html.groups import sample
    from rollout_etl.stats.conversation import one_line
    from rollout_etl.stats.terminal import SIZES, number, share
    from rollout_etl.stats.terminal_comparison import LABELS, cells

    environment = Environment(
        loader=PackageLoader("rollout_etl", "report_html"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": number, "share": share, "plain": one_line, "name": lambda text: one_line(text, NAME)}
    return environment.get_template("page.html.j2").render(
        found=found, overall=found["overall"], figures=figures(found, data), sample=sample(data, rollouts, found["success"]),
        sizes=SIZES, labels=LABELS, cells=cells,
    )
