"""Output on standard error while a command works and when it fails: as text for people, or as JSON lines for schedulers."""

from __future__ import annotations

import contextlib
import inspect
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, get_type_hints

from rollout_etl.cli import options as o
from rollout_etl.cli.options import LogFormat, ProgressName
from rollout_etl.errors import UsageError, WriteError
from rollout_etl.own_files import begins_as
from rollout_etl.plain_text import one_line, plain

if TYPE_CHECKING:
    from rollout_etl.progress import Stage
    from rollout_etl.publish.files import StagedFile

_COUNTED = {"read": "rollouts read", "fetch": "rollouts fetched"}
_PLAIN_EVERY = 5.0
"""Seconds between two lines of progress, as text and as JSON."""

OPTIONS: dict[str, tuple[Any, Any]] = {"progress": (o.Progress, ProgressName.auto), "log_format": (o.LogAs, LogFormat.text), "profile": (o.Profile, None)}


class Talk:
    """How a command reports: chosen once, before it works."""

    def __init__(self) -> None:
        self.format = LogFormat.text
        self.progress = ProgressName.none
        self.profile: Path | None = None
        self._named: set[str] = set()

    def choose(self, progress: ProgressName, log_format: LogFormat, profile: Path | None, quiet: bool, named: Collection[object] = ()) -> None:
        """Use these settings from now on. With `quiet` there is no live display. `named` are other options of the command, including files."""
        self.format, self.profile, self._named = log_format, profile, {os.path.realpath(name) for name in named if isinstance(name, str | Path)}
        self.progress = ProgressName.none if quiet and progress is ProgressName.auto and log_format is LogFormat.text else progress

    def check_profile(self) -> None:
        """Raise `UsageError` for a profile that would replace anything but an earlier profile."""
        if self.profile is None:
            return
        if os.path.realpath(self.profile) in self._named:
            raise UsageError(f"{self.profile} is already used by another option; give the profile another name")
        if self.profile.exists() and not (self.profile.is_file() and begins_as(self.profile, "profile")):
            raise UsageError(f"{self.profile} already exists and is not a profile; give the profile another name")

    def error(self, message: str, code: int) -> None:
        """Report an error in one line."""
        if self.format is LogFormat.json:
            self.event("error", message=message, exit_code=code)
        else:
            print(f"rollout-etl: {one_line(message)}", file=sys.stderr)

    def note(self, message: str, label: str = "rollout-etl: ") -> None:
        """Report what is worth knowing, in one line that begins with `label` if it is text."""
        if self.format is LogFormat.json:
            self.event("note", message=message)
        else:
            print(f"{label}{one_line(message)}", file=sys.stderr)

    def done(self, event: str, fields: dict[str, Any], lines: Sequence[str], quiet: bool) -> None:
        """Report what a command did: `fields` as a JSON line, or `lines` unless it is to be quiet."""
        if self.format is LogFormat.json:
            self.event(event, **fields)
        elif not quiet:
            print("\n".join(plain(line) for line in lines), file=sys.stderr)

    def event(self, event: str, **fields: Any) -> None:
        """One JSON line."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        print(json.dumps({"time": now, "event": event, **fields}, ensure_ascii=False), file=sys.stderr, flush=True)


TALK = Talk()


def heard(command: Callable[..., None]) -> Callable[..., None]:
    """`command` with the options for its output."""
    own = inspect.signature(command)
    kinds = get_type_hints(command, include_extras=True)

    def speaking(**given: Any) -> None:
        TALK.choose(**{name: given.pop(name) for name in OPTIONS}, quiet=bool(given.get("quiet")), named=given.values())
        command(**given)

    stated = [parameter.replace(annotation=kinds[name]) for name, parameter in own.parameters.items()]
    more = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind) for name, (kind, default) in OPTIONS.items()]
    speaking.__signature__ = own.replace(parameters=[*stated, *more])  # type: ignore[attr-defined]
    speaking.__annotations__ = {parameter.name: parameter.annotation for parameter in [*stated, *more]}
    speaking.__doc__ = command.__doc__
    return speaking


class Listener(logging.Handler):
    """Shows the stages of a run as they progress, and keeps what a profile needs."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self._moving = TALK.progress is ProgressName.auto and sys.stderr.isatty() and TALK.format is LogFormat.text
        self._lines = TALK.progress is ProgressName.plain or (TALK.format is LogFormat.json and TALK.progress is not ProgressName.none)
        self._profile: StagedFile | None = None
        self._ended: list[dict[str, Any]] = []
        self._start = self._shown = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        stage: Stage | None = getattr(record, "stage", None)
        if stage is None:
            return
        event = record.event  # type: ignore[attr-defined]
        if event == "end":
            self._ended.append(stage.to_json())
        if self._moving and event == "advance":
            print("\r\x1b[K" + described(stage), end="", file=sys.stderr, flush=True)
        elif self._moving and event == "end":
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        elif self._lines and (event != "advance" or time.monotonic() - self._shown >= _PLAIN_EVERY):
            self._shown = time.monotonic()
            if TALK.format is LogFormat.json:
                TALK.event(event, **stage.to_json())
            elif event != "begin":
                print(described(stage), file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        from rollout_etl.progress import LOG

        TALK.check_profile()
        if TALK.profile is not None:
            from rollout_etl.publish.files import StagedFile

            # Report a file that cannot be written before the work, not after it.
            self._profile = StagedFile(TALK.profile)
        if self._moving or self._lines or TALK.profile is not None:
            LOG.setLevel(logging.DEBUG)
            LOG.addHandler(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        from rollout_etl.progress import LOG, peak_memory

        LOG.removeHandler(self)
        if self._profile is None:
            return
        whole = {"seconds": round(time.monotonic() - self._start, 3), "cpu_seconds": round(time.process_time(), 3), "peak_memory": peak_memory()}
        # An earlier error is more important.
        with contextlib.suppress(WriteError) if error is not None else contextlib.nullcontext(), self._profile as file:
            file.write((json.dumps({**whole, "stages": self._ended}, indent=2) + "\n").encode())
            file.finish()
            file.publish()


def described(stage: Stage) -> str:
    """A stage in one line: rows, bytes, rate, time left."""
    from rollout_etl.sizes import spelt

    if stage.name not in _COUNTED:
        return f"{stage.name}: {stage.seconds:.1f} s"
    parts = [f"{stage.rows:,} {_COUNTED[stage.name]}"]
    if stage.bytes:
        parts.append(spelt(stage.bytes) + (f" of {spelt(stage.total_bytes)}" if stage.total_bytes else ""))
        parts.append(f"{spelt(int(stage.bytes / max(stage.seconds, 1e-3)))}/s")
    left = stage.seconds_left
    if left is not None and left >= 1:
        parts.append(f"{int(left) // 60}:{int(left) % 60:02} left")
    return ", ".join(parts)
