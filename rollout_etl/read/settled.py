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
    found = {Lookup() if item.stored is None else Lookup(item.stored.ground_truth_field, item.stored.group_by): item for item in inputs}
    told = [lookup for lookup in found if lookup.paths]
    if not told:
        return asked
    folder = next(item.stored.folder for item in (found[told[0]],) if item.stored is not None)
    if len(found) > 1:
        raise UsageError(f"{folder} was ingested with {told[0].spelling}, and other inputs were not: name them in a run of their own")
    if asked.paths and asked != told[0]:
        raise UsageError(f"{folder} was ingested with {told[0].spelling}, which settles it: leave {asked.spelling} out, or ingest it again")
    return told[0]
