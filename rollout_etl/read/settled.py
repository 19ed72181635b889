"""What was settled when rollouts were ingested: what tells tasks apart, and where ground truth is found."""

from __future__ import annotations

from collections.abc import Sequence

from rollout_etl.errors import UsageError
from rollout_etl.read.canonical import Lookup
from rollout_etl.read.inputs import Input


def settled(inputs: Sequence[Input], asked: Lookup) -> Lookup:
    """The lookup for `inputs`: that of the folder where one was settled there, else the one that is asked for.

    Raises `UsageError` for another one than was settled, and for inputs with several of them.
    """
    folders = {Lookup(item.stored.ground_truth_field, item.stored.group_by): item.stored.folder for item in inputs if item.stored is not None}
    own = next((lookup for lookup in folders if lookup.paths), None)
    if own is None:
        return asked
    if len(folders) > 1 or any(item.stored is None for item in inputs):
        raise UsageError(f"{folders[own]} was ingested with {own.spelling}, and other inputs were not: name them in a run of their own")
    if asked.paths and asked != own:
        raise UsageError(f"{folders[own]} was ingested with {own.spelling}, which settles it: leave {asked.spelling} out, or ingest it again")
    return own
