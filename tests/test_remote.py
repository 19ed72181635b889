"""Files behind URLs are read as files of this machine are. Object stores (s3, gs, az) need a network, and are not tested here."""

from __future__ import annotations

import gzip
import json
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote

import polars as pl
import pyarrow as pa
import pytest

from rollout_etl.errors import UnreadableError, UsageError
from rollout_etl.read import remote
from rollout_etl.read.scan import Rollouts

LINES = b"\n".join(
    [
        b'{"reward": 1.0}',
        b"",
        b" \r",
        b"\xc2\xa0",
        b'{"reward": "\xff"}',
        b'{"reward": 2.0}\r',
        b"no rollout",
        b'\xef\xbb\xbf{"reward": 3.0}',
        b'{"reward": 4.0, "note": "\xe2\x80\xa8"}',
    ]
)
FILES = {"a.jsonl": LINES, "b.jsonl.gz": gzip.compress(LINES), "c.jsonl.zst": pa.compress(LINES, "zstd", asbytes=True)}


def found(path: str) -> tuple[list[tuple[int, float]], list[tuple[int, str]]]:
    """Line numbers and rewards of the rollouts, line numbers and reasons of the quarantine."""
    rollouts = Rollouts(path)
    rows = pl.concat(list(rollouts.batches(["line", "reward"]))).rows()
    assert rollouts.account is not None
    return rows, [(bad.line, bad.reason) for bad in rollouts.account.quarantined]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("remote files")
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Further tries do not wait."""
    monkeypatch.setattr(remote, "PAUSES", (0.0, 0.0, 0.0))


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = folder / unquote(self.path.split("?")[0]).lstrip("/").removeprefix("broken/")
            if not path.is_file():
                self.send_error(404)
                return
            data = path.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[:20] if "broken" in self.path else data)

        def log_message(self, *arguments: object) -> None:
            return None

    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{served.server_port}"
    served.shutdown()
    served.server_close()


class Unsteady(BaseHTTPRequestHandler):
    """Sends 20 bytes, and breaks; takes up where it broke when asked to. What the path says goes wrong besides."""

    asked: ClassVar[Counter[str]] = Counter()

    def do_GET(self) -> None:
        fault, name = self.path.strip("/").split("/")
        self.asked[self.path] += 1
        if fault == "busy" and self.asked[self.path] < 3:
            self.send_error(503)
            return
        if fault == "gone" and self.asked[self.path] > 1:
            self.send_error(404)
            return
        data = FILES[name]
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        if fault != "unnamed":
            self.send_header("ETag", '"2"' if fault == "changing" and start else '"1"')
        self.end_headers()
        self.wfile.write(data[start : start + 20] if fault != "mute" else b"")

    def log_message(self, *arguments: object) -> None:
        return None


@pytest.fixture
def unsteady() -> Iterator[str]:
    Unsteady.asked.clear()
    served = ThreadingHTTPServer(("127.0.0.1", 0), Unsteady)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{served.server_port}"
    served.shutdown()
    served.server_close()


@pytest.mark.parametrize("fault", ["breaking", "busy"])
@pytest.mark.parametrize("name", FILES)
def test_connections_that_break_are_taken_up_where_they_broke(name: str, fault: str, folder: Path, unsteady: str) -> None:
    assert found(f"{unsteady}/{fault}/{name}") == found(str(folder / name))
    assert Unsteady.asked[f"/{fault}/{name}"] > len(FILES[name]) // 20


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("changing", "the file changed while it was being read"), ("unnamed", f"the connection broke {len(LINES) - 20} bytes before the end"), ("gone", "HTTP 404 Not Found"),
     ("mute", f"the connection broke {len(LINES)} bytes before the end")],
)
def test_the_rest_of_another_file_is_not_taken(fault: str, reason: str, unsteady: str) -> None:
    with pytest.raises(UnreadableError, match=rf"cannot read {unsteady}/{fault}/a\.jsonl: {reason}"):
        found(f"{unsteady}/{fault}/a.jsonl")


@pytest.mark.parametrize("name", FILES)
def test_the_same_as_a_file_of_this_machine(name: str, folder: Path, server: str) -> None:
    here = found(str(folder / name))
    assert [line for line, _ in here[0]] == [1, 6, 8, 9]
    assert [line for line, _ in here[1]] == [4, 5, 7]
    assert found((folder / name).as_uri()) == here
    assert found(f"{server}/{name}") == here
    assert found(f"{server}/{name}?token=secret") == here


@pytest.mark.parametrize("place", ["nope.jsonl", "nope.jsonl.gz", "broken/a.jsonl", "broken/b.jsonl.gz", "nope.json"])
def test_what_cannot_be_read_is_one_line(place: str, server: str) -> None:
    with pytest.raises(UnreadableError, match=r"cannot read http://127\.0\.0\.1") as caught:
        found(f"{server}/{place}")
    assert "\n" not in str(caught.value)


def test_containers_are_fetched(folder: Path, server: str) -> None:
    rows = [{"reward": 1.0}, {"reward": 2.0}]
    (folder / "rows.json").write_text(json.dumps(rows))
    pl.DataFrame(rows).write_parquet(folder / "rows.parquet")
    (folder / "broken.parquet").write_bytes(b"PAR1")
    for name in ("rows.json", "rows.parquet"):
        assert found(f"{server}/{name}?token=secret") == found(str(folder / name)) == ([(1, 1.0), (2, 2.0)], [])
    with pytest.raises(UnreadableError, match=f"cannot read {server}/broken.parquet") as caught:
        found(f"{server}/broken.parquet")
    assert "fetched" not in str(caught.value)


def test_urls_that_are_none(folder: Path, server: str) -> None:
    for url in ("http://[bad/a.jsonl", "file://[bad/a.jsonl", "a=http://[bad/a.jsonl"):
        with pytest.raises(UsageError, match=r"bad/a\.jsonl is not a URL: Invalid IPv6 URL"):
            found(url)
    with pytest.raises(UnreadableError, match="supported URLs are file, http, https, s3"):
        found("ftp://host/a.jsonl")
    (folder / "with a spaß.jsonl").write_bytes(LINES)
    assert found(f"{server}/with a spaß.jsonl") == found(f"{server}/with%20a%20spa%C3%9F.jsonl") == found(f"{server}/a.jsonl")


def test_missing_files(folder: Path) -> None:
    with pytest.raises(UnreadableError, match="No such file or directory"):
        found((folder / "nope.jsonl").as_uri())
    with pytest.raises(UnreadableError, match=r"cannot read nope://bucket/a\.jsonl"):
        found("nope://bucket/a.jsonl")
    with pytest.raises(UnreadableError, match="Connection refused"):
        found("http://127.0.0.1:9/a.jsonl")


def test_the_way_of_object_stores(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Polars reads those; a file URL takes the same way through it."""
    clean = LINES.replace(b"\xff", b"?")
    (folder / "clean.jsonl").write_bytes(clean)
    here = found(str(folder / "clean.jsonl"))
    asked: list[str] = []
    monkeypatch.setattr(remote, "opened", asked.append)
    assert found((folder / "clean.jsonl").as_uri()) == here
    assert set(asked) == {(folder / "clean.jsonl").as_uri()}
    with pytest.raises(UnreadableError, match="utf8"):
        found((folder / "a.jsonl").as_uri())
