"""Downloads against a local server that drops connections, refuses, and lies."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from types import SimpleNamespace

import pytest
from pileline import manifest, sources
from pileline.sources import SourceError
from pileline.sources import http as downloads
from pileline.sources.http import Patience

CONTENT = bytes(range(256)) * 2000  # 512,000 bytes
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NAME = "words-1.0.tar.gz"
ORIGIN = {"pypi": "words==1.0", "file": NAME, "sha256": SHA256}
SOON = Patience(attempts=4, first_wait=0.01, longest_wait=0.05, connect_timeout=60, read_timeout=60)


@dataclass
class Index:
    """A package index on 127.0.0.1; each request of the file meets the next fault: a status, or bytes until a drop."""

    content: bytes = CONTENT
    stated: str | None = SHA256
    faults: list[int | tuple[str, int]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)  # sent with refusals
    ranges: bool = True
    asked: list[str | None] = field(default_factory=list)  # the Range header of each request of the file
    url: str = ""

    def page(self) -> bytes:
        hint = f"#sha256={self.stated}" if self.stated else ""
        links = f'<a href="/files/{NAME}{hint}">{NAME}</a><a href="/files/words-0.9.tar.gz">words-0.9.tar.gz</a>'
        return f"<!DOCTYPE html><html><body>{links}</body></html>".encode()


@pytest.fixture
def index() -> Iterator[Index]:
    served = Index()

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def reply(self, status: int, body: bytes, headers: dict[str, str], send: int | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body if send is None else body[:send])
            self.close_connection = True

        def do_GET(self) -> None:
            if self.path == "/simple/words/":
                self.reply(200, served.page(), {"Content-Type": "text/html"})
            elif self.path == f"/files/{NAME}":
                self.file()
            else:
                self.reply(404, b"", {})

        def file(self) -> None:
            asked = self.headers.get("Range")
            served.asked.append(asked)
            fault = served.faults.pop(0) if served.faults else None
            if isinstance(fault, int):
                self.reply(fault, b"", served.headers)
                return
            send = fault[1] if fault else None
            if asked is None or not served.ranges:
                self.reply(200, served.content, {}, send)
                return
            start = int(re.fullmatch(r"bytes=(\d+)-", asked).group(1))  # type: ignore[union-attr]
            if start >= len(served.content):
                self.reply(416, b"", {"Content-Range": f"bytes */{len(served.content)}"})
                return
            span = f"bytes {start}-{len(served.content) - 1}/{len(served.content)}"
            self.reply(206, served.content[start:], {"Content-Range": span}, send)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_port}/simple"
    yield served
    server.shutdown()
    server.server_close()


def get(index: Index, folder: Path, origin: dict[str, str] = ORIGIN) -> dict[str, object]:
    (folder / "raw").mkdir(exist_ok=True)
    return sources.download("words", origin, folder / "cache", folder / "raw", index.url, SOON)


def part(folder: Path) -> Path:
    path = folder / "cache" / SHA256 / f"{NAME}.part"
    path.parent.mkdir(parents=True)
    return path


def test_a_file_arrives_with_its_hash(index: Index, tmp_path: Path) -> None:
    metrics = get(index, tmp_path)
    assert (tmp_path / "raw" / NAME).read_bytes() == CONTENT
    assert metrics == {
        "source": "words",
        "kind": "pypi",
        "origin": ORIGIN,
        "part": "1-of-1",
        "listed": 1,
        "files": [{"path": NAME, "bytes": len(CONTENT), "sha256": SHA256, "number": 0, "pinned": True}],
    }


def test_a_dropped_connection_is_taken_up_where_it_ended(index: Index, tmp_path: Path) -> None:
    index.faults = [("drop", 200_000), ("drop", 100_000)]
    get(index, tmp_path)
    assert (tmp_path / "raw" / NAME).read_bytes() == CONTENT
    starts = [int(asked.removeprefix("bytes=")[:-1]) if asked else 0 for asked in index.asked]
    assert starts[0] == 0
    assert 150_000 < starts[1] <= 200_000  # all but at most a few blocks was kept
    assert 250_000 - 2 * downloads.BLOCK < starts[2] <= 300_000


def test_a_killed_download_goes_on_where_its_part_ends(index: Index, tmp_path: Path) -> None:
    part(tmp_path).write_bytes(CONTENT[:123_456])
    get(index, tmp_path)
    assert index.asked == ["bytes=123456-"]
    assert (tmp_path / "raw" / NAME).read_bytes() == CONTENT


@pytest.mark.parametrize("kept", [b"other bytes" * 1000, CONTENT + b"more", b"x" * len(CONTENT)])
def test_a_part_of_another_file_costs_a_new_start_not_a_wrong_file(index: Index, tmp_path: Path, kept: bytes) -> None:
    part(tmp_path).write_bytes(kept)
    get(index, tmp_path)
    assert (tmp_path / "raw" / NAME).read_bytes() == CONTENT


def test_a_server_without_ranges_sends_the_whole_file_again(index: Index, tmp_path: Path) -> None:
    index.ranges, index.faults = False, [("drop", 300_000)]
    get(index, tmp_path)
    assert index.asked[1] is not None
    assert (tmp_path / "raw" / NAME).read_bytes() == CONTENT


def test_a_busy_server_is_asked_again_after_the_time_it_names(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(downloads.time, "sleep", waits.append)
    index.faults, index.headers = [429, 503], {"Retry-After": "7"}
    (tmp_path / "raw").mkdir()
    sources.download("words", ORIGIN, tmp_path / "cache", tmp_path / "raw", index.url, Patience(first_wait=0.01))
    assert waits == [7.0, 7.0]


def test_retry_after_may_be_a_date(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_700_000_000.25
    monkeypatch.setattr(downloads, "time", SimpleNamespace(time=lambda: now))
    assert downloads.retry_after(formatdate(now + 30, usegmt=True)) == 29.75  # dates have whole seconds
    assert downloads.retry_after(formatdate(now - 30, usegmt=True)) == 0
    assert downloads.retry_after("soon") is None


def test_pauses_double_up_to_a_bound(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(downloads.time, "sleep", waits.append)
    index.faults = [500] * 5
    (tmp_path / "raw").mkdir()
    patience = Patience(attempts=6, first_wait=1, longest_wait=5)
    sources.download("words", ORIGIN, tmp_path / "cache", tmp_path / "raw", index.url, patience)
    assert waits == [1, 2, 4, 5, 5]


def test_patience_ends(index: Index, tmp_path: Path) -> None:
    index.faults = [500] * 100
    with pytest.raises(SourceError, match=r"given up after 4 tries.*answered 500"):
        get(index, tmp_path)
    assert len(index.asked) == 4


def test_a_forbidden_file_is_not_asked_for_again(index: Index, tmp_path: Path) -> None:
    index.faults = [403]
    with pytest.raises(SourceError, match="403"):
        get(index, tmp_path)
    assert len(index.asked) == 1


def test_wrong_content_is_refused_with_both_hashes(index: Index, tmp_path: Path) -> None:
    index.content, index.stated = CONTENT[::-1], None
    with pytest.raises(SourceError) as error:
        get(index, tmp_path)
    assert SHA256 in str(error.value)
    assert hashlib.sha256(CONTENT[::-1]).hexdigest() in str(error.value)
    assert not (tmp_path / "raw" / NAME).exists()
    assert len(index.asked) == 1  # one whole download in one go: another would bring the same
    assert not list((tmp_path / "cache").rglob("*.part"))


def test_an_index_that_states_another_hash_is_refused_before_the_download(index: Index, tmp_path: Path) -> None:
    index.stated = "0" * 64
    with pytest.raises(SourceError, match="0" * 64):
        get(index, tmp_path)
    assert index.asked == []


def test_a_file_that_is_not_on_the_index_is_answered_with_those_that_are(index: Index, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=rf"no file 'words-1.0.whl'.*{NAME}"):
        get(index, tmp_path, ORIGIN | {"file": "words-1.0.whl"})
    with pytest.raises(SourceError, match=r"version 2.0 it has none, but versions 0.9, 1.0"):
        get(index, tmp_path, ORIGIN | {"pypi": "words==2.0", "file": "words-2.0.whl"})
    with pytest.raises(SourceError, match="no package 'nothing'"):
        get(index, tmp_path, ORIGIN | {"pypi": "nothing==1.0"})


def test_an_unreachable_index_is_named_without_its_password(tmp_path: Path) -> None:
    patience = Patience(attempts=2, first_wait=0.01)
    with pytest.raises(SourceError, match="given up after 2 tries") as error:
        sources.download(
            "words", ORIGIN, tmp_path / "cache", tmp_path, "http://user:secret@127.0.0.1:9/simple", patience
        )
    assert "127.0.0.1:9" in str(error.value)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("url", ["file:///nowhere/simple", "nowhere"])
def test_an_index_that_is_no_web_address_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(SourceError, match="PIP_INDEX_URL"):
        sources.download("words", ORIGIN, tmp_path / "cache", tmp_path, url, SOON)


def test_the_index_may_come_from_the_environment(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", index.url)
    sources.download("words", ORIGIN, tmp_path / "cache", tmp_path, patience=SOON)
    assert (tmp_path / NAME).read_bytes() == CONTENT


def test_sources_share_one_download_and_one_copy(index: Index, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "abcd"]
    for folder in folders:
        folder.mkdir()
    threads = [
        threading.Thread(target=sources.download, args=("s", ORIGIN, tmp_path / "cache", folder, index.url, SOON))
        for folder in folders
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(index.asked) == 1
    assert len({(folder / NAME).stat().st_ino for folder in folders}) == 1


def test_a_file_system_without_links_gets_copies(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    get(index, tmp_path)
    assert (tmp_path / "raw" / NAME).read_bytes() == CONTENT


def test_a_damaged_cache_is_noticed(index: Index, tmp_path: Path) -> None:
    kept = part(tmp_path).with_name(NAME)
    kept.write_bytes(b"damaged")
    get(index, tmp_path)
    get(index, tmp_path)  # and the stage may run again into the same folder
    assert (tmp_path / "raw" / NAME).read_bytes() == CONTENT
    assert len(index.asked) == 1


def test_a_file_name_cannot_point_out_of_its_folder(index: Index, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="plain file name"):
        get(index, tmp_path, ORIGIN | {"file": "../escape"})


def test_files_of_ones_own_are_described_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("texts/b.txt", "texts/deep/er/a.txt", "texts/c.md"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(name)
    Path("out").mkdir()
    metrics = sources.download("mine", {"path": "texts/**/*.txt"}, "cache", "out")
    assert [file["path"] for file in metrics["files"]] == ["texts/b.txt", "texts/deep/er/a.txt"]
    assert metrics["files"][0]["sha256"] == hashlib.sha256(b"texts/b.txt").hexdigest()
    assert sources.downloaded("out", metrics) == metrics["files"]
    assert list(Path("out").iterdir()) == []


def test_a_glob_without_files_says_where_it_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match=rf"nothing/\*.*{re.escape(str(tmp_path))}"):
        sources.download("mine", {"path": "nothing/*"}, "cache", "out")


def test_thousands_of_files_keep_the_manifest_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("texts").mkdir()
    Path("out").mkdir()
    for number in range(2001):
        Path(f"texts/{number}.txt").touch()
    metrics = sources.download("mine", {"path": "texts/*"}, "cache", "out")
    manifest.write("out", "download", metrics)
    assert Path("out/manifest.json").stat().st_size < 2000
    assert len(sources.downloaded("out", metrics)) == 2001


def test_an_origin_must_be_one_or_the_other(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"needs one of: pypi, path, http"):
        sources.download("both", ORIGIN | {"path": "x"}, tmp_path, tmp_path)


@pytest.mark.network
def test_a_real_file_from_the_public_index(tmp_path: Path) -> None:
    digest = "86de5300afb9a80826386339d3bec79c0a72eb0358abb8327e2ecef5ae0ce154"
    name = "chatterbot_corpus-1.3.3-py2.py3-none-any.whl"
    with contextlib.chdir(tmp_path):
        origin = {"pypi": "chatterbot-corpus==1.3.3", "file": name, "sha256": digest}
        sources.download("dialogue", origin, "cache", ".")
        assert manifest.sha256(Path(name)) == digest
