"""Notifications about a refresh: commands that receive the report, and metrics for Prometheus."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping
from typing import Any

from rollout_etl.errors import RolloutETLError
from rollout_etl.refresh.pipeline import Pipeline, replaced
from rollout_etl.refresh.versions import write_text

_TIMEOUT = 300
_STDERR = 2


def tell(pipeline: Pipeline, report: Mapping[str, Any], *, failed: bool) -> list[str]:
    """Run the commands for this outcome and write metrics. Failures only give warnings, because the refresh itself has ended.

    If a version was published but something failed later, both commands run. A refresh that had nothing to do runs neither.
    """
    warnings = []
    for command in (pipeline.on_success if report.get("published") else None, pipeline.on_failure if failed else None):
        if command is None:
            continue
        try:
            done = subprocess.run(
                replaced(command), shell=True, cwd=pipeline.path.parent, input=json.dumps(report, ensure_ascii=False).encode(errors="replace"),
                # Standard output is reserved for the report.
                stdout=_STDERR, timeout=_TIMEOUT, check=False,
            )
            warnings += [f"the notify command ended with exit code {done.returncode}"] if done.returncode else []
        except (OSError, ValueError, RolloutETLError, subprocess.TimeoutExpired) as error:
            warnings.append(f"the notify command failed: {str(error).splitlines()[0]}")
    if pipeline.prometheus is not None:
        try:
            write_text(pipeline.prometheus, metrics(report, failed=failed))
        except (OSError, ValueError, RolloutETLError) as error:
            warnings.append(f"metrics could not be written: {str(error).splitlines()[0]}")
    return warnings


def metrics(report: Mapping[str, Any], *, failed: bool) -> str:
    """The metrics in the text format of Prometheus."""
    lines = [
        "# HELP rollout_etl_refresh_success Whether the last refresh ended well.",
        "# TYPE rollout_etl_refresh_success gauge",
        f"rollout_etl_refresh_success {int(not failed)}",
        "# HELP rollout_etl_refresh_timestamp_seconds When the last refresh ended.",
        "# TYPE rollout_etl_refresh_timestamp_seconds gauge",
        f"rollout_etl_refresh_timestamp_seconds {time.time():.0f}",
    ]
    if report.get("version") is not None:
        lines += ["# HELP rollout_etl_version The version that is current.", "# TYPE rollout_etl_version gauge", f"rollout_etl_version {report['version']}"]
    if report.get("rows"):
        lines += ["# HELP rollout_etl_rows Rows of a training file.", "# TYPE rollout_etl_rows gauge"]
        lines += [f'rollout_etl_rows{{output="{_label(name)}"}} {rows}' for name, rows in report["rows"].items()]
    return "\n".join(lines) + "\n"


def _label(text: str) -> str:
    """A label's value; the format has only these three escapes."""
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
