"""Choices that were fixed when rollouts were ingested: the fields that identify tasks, and where ground truth is found."""

from __future__ import annotations

from collections.abc import Sequence

from rollout_etl.errors import UsageError
from rollout_etl.read.canonical import Lookup
from rollout_etl.read.inputs import Input


def settled(inputs: Sequence[Input], asked: Lookup) -> Lookup:
    """The lookup for `inputs`: the one fixed in an ingested folder, otherwise the requested one.

    Raises `UsageError` for a request that differs from the fixed one, and for inputs with different ones.
    """
    folders = {Lookup(item.stored.ground_truth_field, item.stored.group_by): item.stored.folder for item in inputs if item.stored is not None}
    own = next((lookup for lookup in folders if lookup.paths), None)
    if own is None:
        return asked
    if len(folders) > 1 or any(item.stored is None for item in inputs):
        raise UsageError(f"{folders[own]} was ingested with {own.spelling}, but other inputs were not: use them in separate runs")
    if asked.paths and asked != own:
        raise UsageError(f"{folders[own]} was ingested with {own.spelling}, which cannot be changed: leave {asked.spelling} out, or ingest it again")
    return own
