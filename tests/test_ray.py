"""Runs on a Ray cluster: three nodes on this machine, one of them killed in mid-run; the same bytes as here."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rollout_etl.curate.options import Curation
from rollout_etl.errors import UnreadableError
from rollout_etl.progress import Stage
from rollout_etl.recipes.options import AnyOptions, DpoOptions, GrpoOptions, SftOptions
from rollout_etl.run.execute import Run, execute
from tests.test_curation_runs import rollout

pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings("ignore")
RECIPES: dict[str, tuple[AnyOptions, Curation]] = {
    "sft": (SftOptions(reward_threshold=0), Curation()),
    "dpo": (DpoOptions(strategy="all", max_pairs=300, min_gap=0), Curation(where_group="n >= 3")),
    "grpo": (GrpoOptions(), Curation(split="train=0.7,val=0.3", shuffle=1)),
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    import ray
    from ray.cluster_utils import Cluster

    # Workers load what is tested here.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        yield found
    finally:
        ray.shutdown()
        found.shutdown()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rollouts") / "rollouts.jsonl"
    lines = [json.dumps(rollout(task, attempt, agent="math agent")) for attempt in range(6) for task in range(100)]
    path.write_text("\n".join([*lines[:300], "no rollout", "", *lines[300:]]) + "\n")
    return path


def outputs(run: Run) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The bytes of all files but manifests, and the report but for the note that says how the run went."""
    report = execute(run).to_json()
    files = {path.name: path.read_bytes() for path in run.output.parent.iterdir() if not path.name.endswith(".manifest.json")}
    for path in run.output.parent.iterdir():
        path.unlink()
    return files, {**report, "notes": []}


def run_of(source: Path, folder: Path, options: AnyOptions, **others: Any) -> Run:
    return Run(inputs=[str(source)], output=folder / "out.jsonl", options=options, max_bad_fraction=0.1, **others)


def on_ray(cluster: Any, source: Path) -> dict[str, Any]:
    return {"engine": "ray", "ray_address": cluster.address, "memory_limit": source.stat().st_size // 6 + 1}


@pytest.mark.parametrize("recipe", list(RECIPES) if os.environ.get("EXHAUSTIVE") else ["dpo"])
def test_a_node_is_lost(recipe: str, cluster: Any, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options, curation = RECIPES[recipe]
    here = outputs(run_of(source, tmp_path, options, curation=curation))
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    cluster.wait_for_nodes()
    lost: list[Any] = []

    def lose(stage: Stage, **done: int) -> None:
        if not lost:
            lost.append(nodes.pop())
            cluster.remove_node(lost[0], allow_graceful=False)

    monkeypatch.setattr(Stage, "advance", lose)
    try:
        assert outputs(run_of(source, tmp_path, options, curation=curation, **on_ray(cluster, source))) == here
        assert lost
    finally:
        for node in nodes:
            cluster.remove_node(node)


def test_what_fails_on_a_node_is_said_here(cluster: Any, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnreadableError, match="--max-bad-fraction"):
        execute(replace(run_of(source, tmp_path, GrpoOptions(), **on_ray(cluster, source)), max_bad_fraction=0.0))
    gone = tmp_path / "gone.jsonl"
    gone.write_bytes(source.read_bytes())

    def go(stage: Stage, **done: int) -> None:
        gone.unlink(missing_ok=True)

    monkeypatch.setattr(Stage, "advance", go)
    with pytest.raises(UnreadableError, match=r"gone\.jsonl"):
        execute(run_of(gone, tmp_path, GrpoOptions(), **on_ray(cluster, source)))
    assert list(tmp_path.iterdir()) == []
