"""Byte sizes as people write them."""

from __future__ import annotations

import re

from rollout_etl.errors import UsageError

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40}


def bytes_of(option: str, spelt: str) -> int:
    """Bytes of `256MB`, `1.5 GiB` or `1000000`. Raises `UsageError`, naming `option`, for anything else and for 0."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?I?B)?", spelt.strip().upper())
    unit = _UNITS.get(match[2] or "") if match else None
    size = int(float(match[1]) * unit) if match and unit else 0
    if not size:
        raise UsageError(f"{option} {spelt} is not a size; write it as 256MB or 1.5GB")
    return size


def spelt(size: int) -> str:
    """Bytes as text, with three digits: `1.23 GB`."""
    for unit in ("TB", "GB", "MB", "kB"):
        factor = _UNITS[unit.upper()]
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size} B"
