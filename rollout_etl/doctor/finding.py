"""A finding of the doctor."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """A symptom as training shows it, its likely cause in this file, and what to do about it.

    Symptoms are worded as on the troubleshooting pages of NeMo Gym, if they are listed there.
    """

    path: str
    symptom: str
    cause: str
    remedy: str
