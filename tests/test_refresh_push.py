"""Pushing a version: to a bucket by fsspec, to the hub by huggingface_hub, both held against stand-ins on this machine."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.command import COMMAND, run
from tests.pipelines import SHARDED, laid_out, lines

TOKEN = "hf_thisIsNoToken"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return laid_out(tmp_path, SHARDED)


def push(folder: Path, url: str, **environment: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, report, and what was said."""
    command = [COMMAND, "refresh", "pipeline.toml", "--json", "--push", url]
    done = subprocess.run(command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120)
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stdout + done.stderr


def held(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_bucket(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    bucket = tmp_path_factory.mktemp("bucket")
    code, report, _ = push(folder, f"file://{bucket}")
    assert (code, report["pushed"]) == (0, [f"file://{bucket}"])
    assert held(bucket / "versions" / "000001") == held(folder / "training" / "versions" / "000001")
    assert (bucket / "current").read_text() == "versions/000001\n"
    assert push(folder, f"file://{bucket}")[1]["pushed"] == []
    # What fails is current here, and tried again.
    (folder / "rollouts" / "night1.jsonl").write_bytes(lines(1))
    (bucket / "versions" / "000002").write_text("in the way")
    code, report, _ = push(folder, f"file://{bucket}")
    assert (code, (bucket / "current").read_text()) == (3, "versions/000001\n")
    assert report["error"].startswith(f"cannot push version 2 to file://{bucket}")
    (bucket / "versions" / "000002").unlink()
    code, report, _ = push(folder, f"file://{bucket}")
    assert (code, report["published"], report["version"], len(report["pushed"])) == (0, False, 2, 1)
    assert (bucket / "current").read_text() == "versions/000002\n"


def test_s3(folder: Path) -> None:
    fsspec, server = pytest.importorskip("fsspec"), pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    service = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    service.start()
    try:
        host, port = service.get_host_and_port()
        keys = {"AWS_ACCESS_KEY_ID": "AKIANOKEYATALL", "AWS_SECRET_ACCESS_KEY": "no secret", "AWS_ENDPOINT_URL": f"http://{host}:{port}"}
        store = fsspec.filesystem("s3", key=keys["AWS_ACCESS_KEY_ID"], secret=keys["AWS_SECRET_ACCESS_KEY"], endpoint_url=keys["AWS_ENDPOINT_URL"])
        store.mkdir("training-sets")
        code, report, said = push(folder, "s3://training-sets/math", **keys)
        assert (code, report["pushed"]) == (0, ["s3://training-sets/math"])
        root = "training-sets/math/versions/000001/"
        assert {path.removeprefix(root): store.cat_file(path) for path in store.find(root)} == held(folder / "training" / "versions" / "000001")
        assert store.cat_file("training-sets/math/current") == b"versions/000001\n"
        code, _, denied = push(folder, "s3://nobody-has-this/math", **keys)
        assert code == 3 and "cannot push version 1 to s3://nobody-has-this/math" in denied
        assert not any(secret in text for secret in (keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"]) for text in (said, denied))
    finally:
        service.stop()


class Hub(BaseHTTPRequestHandler):
    """The part of the hub's interface that a commit needs."""

    files: dict[str, bytes]
    broken = False

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""

    def _answer(self, found: Any, status: int = 200) -> None:
        body = json.dumps(found).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        about = {"id": "org/name", "sha": "0" * 40, "siblings": [{"rfilename": name} for name in self.server.files], "private": False}  # type: ignore[attr-defined]
        listed = [{"type": "file", "path": name, "size": len(data), "oid": "0" * 40} for name, data in self.server.files.items()]  # type: ignore[attr-defined]
        self._answer(listed if "/tree/" in self.path else about)

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.broken:  # type: ignore[attr-defined]
            self._answer({"error": f"no place for {self.headers['Authorization']}"}, 400)
        elif "/preupload/" in self.path:
            self._answer({"files": [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(sent)["files"]]})
        elif "/commit/" in self.path:
            for operation in map(json.loads, sent.splitlines()):
                if operation["key"] == "file":
                    self.server.files[operation["value"]["path"]] = base64.b64decode(operation["value"]["content"])  # type: ignore[attr-defined]
                elif operation["key"] == "deletedFile":
                    del self.server.files[operation["value"]["path"]]  # type: ignore[attr-defined]
            self._answer({"commitUrl": "http://127.0.0.1/datasets/org/name/commit/1", "commitOid": "1" * 40, "success": True})
        else:
            self._answer({"errors": [], "warnings": []})


@pytest.fixture
def hub() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.files, server.broken = {}, False  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_hub(folder: Path, hub: Any) -> None:
    environment = {"HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    hub.files["gone.jsonl"] = b"of an earlier version"
    code, report, said = push(folder, "hf://datasets/org/name", **environment)
    assert (code, report.get("pushed")) == (0, ["hf://datasets/org/name"]), said
    assert hub.files == held(folder / "training" / "versions" / "000001")
    (folder / "rollouts" / "night1.jsonl").write_bytes(lines(1))
    hub.broken = True
    code, report, said = push(folder, "hf://datasets/org/name", **environment)
    assert code == 3
    assert report["error"].startswith("cannot push version 2 to hf://datasets/org/name")
    assert TOKEN not in said + "".join(path.read_text() for path in (folder / "training").rglob("*.json"))


@pytest.mark.parametrize("url", ["somewhere", "hf://models/org/name", "hf://datasets/org", "nosuchthing://x/y"])
def test_wrong_places(folder: Path, url: str) -> None:
    code, _, said = push(folder, url)
    assert (code, said.count("\n"), f"--push {url}" in said) == (2, 1, True)
    assert "pip install" not in said
    assert not (folder / "training").exists()


def test_a_number_is_given_once_and_what_is_not_of_a_version_goes(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    bucket = tmp_path_factory.mktemp("bucket")
    url = f"file://{bucket}"
    assert push(folder, url)[0] == 0
    (bucket / "versions" / "000002" / "shards").mkdir(parents=True)
    (bucket / "versions" / "000002" / "shards" / "part-09999.parquet").write_text("of a push that failed")
    (folder / "rollouts" / "night1.jsonl").write_bytes(lines(1))
    assert push(folder, url)[1]["pushed"] == [url]
    assert held(bucket / "versions" / "000002") == held(folder / "training" / "versions" / "000002")
    shutil.rmtree(folder / "training" / "versions" / "000002")
    report = push(folder, url)[1]
    assert (report["version"], report["pushed"], (bucket / "current").read_text()) == (3, [url], "versions/000003\n")
    # Nor where the state is gone as well is another version taken for the one that was pushed.
    state = folder / "training" / ".refresh"
    pushed = (state / "pushed.json").read_text()
    shutil.rmtree(folder / "training")
    state.mkdir(parents=True)
    (state / "pushed.json").write_text(pushed)
    report = push(folder, url)[1]
    assert (report["version"], report["pushed"]) == (1, [url])
    assert held(bucket / "versions" / "000001") == held(folder / "training" / "versions" / "000001")


def test_all_places_are_tried(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """One that fails keeps neither the others nor what was published from being told; places that look alike are two."""
    places = [tmp_path_factory.mktemp(name) for name in ("hf_train", "hf_backup")]
    (folder / "pipeline.toml").write_text(SHARDED + '[notify]\non-success = "echo to stdout; cat > success.json"\non-failure = "cat > failure.json"\n')
    command = [COMMAND, "refresh", "pipeline.toml", "--json"]
    for url in ("file:///proc/nowhere", *(f"file://{place}" for place in places)):
        command += ["--push", url]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    report = json.loads(done.stdout)
    assert (done.returncode, report["published"], report["version"], len(report["pushed"])) == (3, True, 1, 2)
    assert "to stdout" in done.stderr
    assert report["error"].startswith("cannot push version 1 to file:///proc/nowhere") and report["error"] in done.stderr
    assert all((place / "current").is_file() for place in places)
    assert json.loads((folder / "success.json").read_text()) == json.loads((folder / "failure.json").read_text()) == report
    assert "cannot push" in run("status", "pipeline.toml", folder=folder).stdout
