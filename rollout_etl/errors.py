"""What can go wrong, and the exit code that says so."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every command."""

    DONE = 0
    """The work is done and the output is in its place."""
    NOTHING_TO_WRITE = 1
    """The input was read, but no example came of it; an earlier output is left as it was."""
    USAGE = 2
    """A flag, a path or a combination of them makes no sense."""
    UNREADABLE = 3
    """The input cannot be read or too many of its lines are not rollouts, the output cannot be written, an engine or a push fails."""
    GATE_FAILED = 4
    """A quality gate failed: a check of `stats`, `validate`, `doctor` or `refresh`, or KTO labels that are all the same."""
    LOCKED = 5
    """Another run holds the output."""
    INTERNAL = 70
    """A bug in rollout-etl."""
    INTERRUPTED = 130
    """Ctrl-C."""


class RolloutETLError(Exception):
    """An error a user can act on. The message is one line that names the thing and the way out."""

    exit_code = ExitCode.USAGE


class UsageError(RolloutETLError):
    """A flag, a path or a combination of them makes no sense."""


class UnreadableError(RolloutETLError):
    """The input cannot be read."""

    exit_code = ExitCode.UNREADABLE


class WriteError(RolloutETLError):
    """The output cannot be written: the disk is full, a folder is missing, permission is denied."""

    exit_code = ExitCode.UNREADABLE


class EngineError(RolloutETLError):
    """The cluster cannot be reached, or does not do its tasks."""

    exit_code = ExitCode.UNREADABLE


class InternalError(RolloutETLError):
    """The run does not add up, which is a bug: nothing is published."""

    exit_code = ExitCode.INTERNAL


class GateError(RolloutETLError):
    """The data is not fit for what it is meant for."""

    exit_code = ExitCode.GATE_FAILED


class LockedError(RolloutETLError):
    """Another run holds the output."""

    exit_code = ExitCode.LOCKED
