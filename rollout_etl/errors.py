"""Errors, and their exit codes."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every command."""

    DONE = 0
    """Success: the output is in place."""
    NOTHING_TO_WRITE = 1
    """The input was read but gave no examples; any existing output is unchanged."""
    USAGE = 2
    """An option, a path or a combination of them is invalid."""
    UNREADABLE = 3
    """The input cannot be read, too many of its lines are not rollouts, the output cannot be written, or an engine or a push fails."""
    GATE_FAILED = 4
    """A quality gate failed: a check of `stats`, `validate`, `doctor` or `refresh`, or only one label for KTO."""
    LOCKED = 5
    """Another run is using the output."""
    INTERNAL = 70
    """A bug in rollout-etl."""
    INTERRUPTED = 130
    """Ctrl-C."""


class RolloutETLError(Exception):
    """An error that a user can fix. The message is one line that names the problem and what to do."""

    exit_code = ExitCode.USAGE


class UsageError(RolloutETLError):
    """An option, a path or a combination of them is invalid."""


class UnreadableError(RolloutETLError):
    """The input cannot be read."""

    exit_code = ExitCode.UNREADABLE


class WriteError(RolloutETLError):
    """The output cannot be written: the disk is full, a folder is missing, permission is denied."""

    exit_code = ExitCode.UNREADABLE


class EngineError(RolloutETLError):
    """The cluster cannot be reached, or fails at its tasks."""

    exit_code = ExitCode.UNREADABLE


class InternalError(RolloutETLError):
    """The counts of a run do not add up, which is a bug: nothing is published."""

    exit_code = ExitCode.INTERNAL


class GateError(RolloutETLError):
    """The data does not meet a quality requirement."""

    exit_code = ExitCode.GATE_FAILED


class LockedError(RolloutETLError):
    """Another run is using the output."""

    exit_code = ExitCode.LOCKED
