"""Files of object stores and hubs through fsspec: a store in memory, one that fails, and a hub on this machine."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from pileline import sources
from pileline.sources import SourceError
from pileline.sources.http import Patience

from tests.unit.file_server import Files, serve
from tests.unit.hub_server import Hub, download

SOON = Patience(attempts=4, first_wait=0.01, longest_wait=0.05)
BIG = random.Random(1).randbytes(3_000_000)


class Reader:
    """A remote file that breaks off after some bytes."""

    def __init__(self, stream: Any, most: int) -> None:
        self.stream, self.left = stream, most

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None: ...

    def seek(self, place: int) -> None:
        self.stream.seek(place)
        Flaky.seeks.append(place)

    def read(self, size: int) -> bytes:
        assert size <= 2**20, "memory is bounded"
        if self.left <= 0:
            raise OSError("the line went dead")
        block: bytes = self.stream.read(min(size, self.left))
        self.left -= len(block)
        return block


class Flaky(MemoryFileSystem):  # type: ignore[misc]
    """A store whose every opening breaks off after `most` bytes, or that refuses."""

    protocol = "flaky"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    cachable = False
    most: ClassVar[int] = 10**9
    refusal: ClassVar[Exception | None] = None
    seeks: ClassVar[list[int]] = []

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.replace("flaky://", "memory://")))

    def open(self, path: str, mode: str = "rb", **settings: Any) -> Any:
        if "r" not in mode:
            return super().open(path, mode, **settings)
        if Flaky.refusal is not None:
            raise Flaky.refusal
        return Reader(super().open(path, mode, **settings), Flaky.most)


@pytest.fixture
def store() -> Flaky:
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    Flaky.store, Flaky.pseudo_dirs, Flaky.most, Flaky.refusal, Flaky.seeks = {}, [""], 10**9, None, []
    held = Flaky()
    for name in ("a/2.txt", "a/10.txt", "b/1.txt", "b/1.md"):
        held.pipe_file(f"/bucket/{name}", name.encode())
    held.pipe_file("/bucket/big", BIG)
    return held


def get(origin: dict[str, Any], folder: Path, part: str = "1-of-1") -> dict[str, Any]:
    return sources.download("words", origin, folder / "cache", folder, patience=SOON, part=part)


def test_globs_and_lists_are_fetched_in_the_order_of_their_names(store: Flaky, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"flaky://bucket/c/\*\.txt` matches no file"):
        get({"fsspec": ["flaky://bucket/a/*.txt", "flaky://bucket/{b,c}/*.txt"]}, tmp_path)
    metrics = get({"fsspec": "flaky://bucket/{b,a}/*.txt"}, tmp_path)
    assert [file["path"] for file in metrics["files"]] == ["b/1.txt", "a/10.txt", "a/2.txt"]
    assert (tmp_path / "a/2.txt").read_bytes() == b"a/2.txt"
    second = get({"fsspec": "flaky://bucket/{b,a}/*.txt"}, tmp_path, "2-of-2")
    assert [(file["number"], file["path"]) for file in second["files"]] == [(1, "a/10.txt")]


def test_a_copy_that_breaks_off_goes_on_where_it_ended(store: Flaky, tmp_path: Path) -> None:
    Flaky.most = 1_200_000
    metrics = get({"fsspec": "flaky://bucket/big"}, tmp_path)
    assert (tmp_path / "big").read_bytes() == BIG
    assert Flaky.seeks == [1_200_000, 2_400_000]
    assert metrics["files"][0]["sha256"] == hashlib.sha256(BIG).hexdigest()


def test_a_file_that_changed_meanwhile_is_copied_anew(
    store: Flaky, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Flaky.most = 1_200_000

    def change(_: float) -> None:
        store.pipe_file("/bucket/big", BIG[::-1])
        Flaky.most = 10**9

    monkeypatch.setattr("time.sleep", change)
    get({"fsspec": "flaky://bucket/big"}, tmp_path)
    assert (tmp_path / "big").read_bytes() == BIG[::-1]


def test_a_copy_of_another_size_than_the_store_states_is_not_taken(
    store: Flaky, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Flaky.info
    monkeypatch.setattr(Flaky, "info", lambda self, path, **_: honest(self, path) | {"size": 4_000_000})
    with pytest.raises(SourceError, match=r"given up after 4 tries.*3\.0 MB came, of 4\.0 MB"):
        get({"fsspec": "flaky://bucket/big"}, tmp_path)
    assert not (tmp_path / "big").exists()


def test_a_pinned_file_of_other_content_is_refused(store: Flaky, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="wrong content") as error:
        get({"fsspec": "flaky://bucket/big", "sha256": "0" * 64}, tmp_path)
    assert hashlib.sha256(BIG).hexdigest() in str(error.value)
    assert not list((tmp_path / "cache").rglob("big*"))


class RefusedError(Exception):  # as stores' libraries raise it: the status is on the response
    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.response = type("Response", (), {"status_code": status, "headers": {"Retry-After": "7"}})()


@pytest.mark.parametrize("error", [PermissionError("not yours"), FileNotFoundError("gone"), RefusedError(403)])
def test_a_refusal_is_final(store: Flaky, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    Flaky.refusal = error
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    with pytest.raises(SourceError, match=str(error)):
        get({"fsspec": "flaky://bucket/big"}, tmp_path)
    assert waits == []


def test_a_busy_store_is_asked_again_when_it_says(
    store: Flaky, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Flaky.refusal = RefusedError(429)
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        Flaky.refusal = None

    monkeypatch.setattr("time.sleep", wait)
    sources.download("words", {"fsspec": "flaky://bucket/big"}, tmp_path / "cache", tmp_path, patience=Patience())
    assert waits == [7.0]


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nowhere://bucket/x", "Protocol not known: nowhere"),
        ("zip://x::flaky://bucket/x.zip", "should be the address of a file or a glob"),
        ("bucket/x", "should be the address of a file or a glob"),
        ("flaky://bucket/", "should be the address of a file or a glob"),
    ],
)
def test_what_is_no_address_of_a_file_is_refused(store: Flaky, tmp_path: Path, address: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        get({"fsspec": address}, tmp_path)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> None:
        raise ImportError("no module named s3fs")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(SourceError, match="Install s3fs to access S3, with pip, and run again"):
        get({"fsspec": "s3://bucket/x"}, tmp_path)


def test_a_hub_is_listed_and_read_through_its_own_library(tmp_path: Path) -> None:
    root = "/datasets/owner/name/resolve/main/"
    content = {f"{root}train/chunk{chunk}/{name}.zst": f"{chunk} {name}".encode() for chunk in (1, 2) for name in "abc"}
    content[f"{root}train/chunk1/README.md"] = b"no text"
    with serve(Files(content, {f"{root}train/chunk1/b.zst": [503]}), Hub) as hub:
        origin = {"fsspec": "hf://datasets/owner/name/train/chunk{1..2}/*.zst"}
        ran = download(hub, tmp_path, origin)
        assert ran.returncode == 0, ran.stderr
        raw = sources.read_raw(tmp_path / "raw", 1)
        assert [Path(file["path"]).read_text() for file in raw.files] == ["1 a", "1 b", "1 c", "2 a", "2 b", "2 c"]
        gone = download(hub, tmp_path, {"fsspec": "hf://datasets/owner/name/train/nothing.zst"})
        assert "FileNotFoundError" in gone.stderr.splitlines()[-1]
        assert "config.yaml" in gone.stderr.splitlines()[-1]
