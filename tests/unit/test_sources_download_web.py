"""Sources of many files: web addresses with ranges, mirrors and hashes, dealt to parts and put together again."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pileline import manifest, parts, sources
from pileline.sources import SourceError, addresses
from pileline.sources import http as transfers
from pileline.sources.cache import Wanted
from pileline.sources.http import Patience

from tests.unit.file_server import Files, serve

SOON = Patience(attempts=4, first_wait=0.01, longest_wait=0.05, connect_timeout=60, read_timeout=60)
BIG = random.Random(1).randbytes(300_000)
OTHER = random.Random(2).randbytes(300_000)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def web() -> Iterator[Files]:
    with serve(
        Files({f"/train/{number:02}.jsonl.zst": f"file {number}".encode() * 100 for number in range(5)})
    ) as files:
        yield files


def get(origin: dict[str, Any], folder: Path, part: str = "1-of-1") -> dict[str, Any]:
    """Run the stage as the notebook does."""
    output = folder / "raw" / part
    output.mkdir(parents=True, exist_ok=True)
    metrics = sources.download("words", origin, folder / "cache", output, patience=SOON, part=part)
    manifest.write(output, "download", metrics, sources.written(metrics))
    return metrics


def test_a_range_of_addresses_is_fetched_and_numbered_in_order(web: Files, tmp_path: Path) -> None:
    metrics = get({"http": f"{web.url}/train/{{00..04}}.jsonl.zst"}, tmp_path)
    assert metrics["listed"] == 5
    assert [(file["number"], file["path"]) for file in metrics["files"]] == [
        (number, f"{number:02}.jsonl.zst") for number in range(5)
    ]
    for file in metrics["files"]:
        content = web.content[f"/train/{file['path']}"]
        assert (tmp_path / "raw/1-of-1" / file["path"]).read_bytes() == content
        assert (file["bytes"], file["sha256"], file["pinned"]) == (len(content), sha256(content), False)
    assert set(manifest.read(tmp_path / "raw/1-of-1").files) == {file["path"] for file in metrics["files"]}


@pytest.mark.parametrize("number", [2, 3, 8])
def test_parts_share_the_files_and_complement_each_other(web: Files, tmp_path: Path, number: int) -> None:
    origin = {"http": f"{web.url}/train/{{00..04}}.jsonl.zst"}
    for part in parts.names(number):
        metrics = get(origin, tmp_path, part)
        assert [file["number"] % number + 1 for file in metrics["files"]] == [int(part.split("-")[0])] * len(
            metrics["files"]
        )
    assert len(web.asked) == 5
    raw = sources.read_raw(tmp_path / "raw", number)
    assert (raw.source, raw.kind, raw.packaged) == ("words", "http", True)
    assert [file["number"] for file in raw.files] == list(range(5))
    for file in raw.files:
        assert Path(file["path"]).read_bytes() == web.content[f"/train/{file['number']:02}.jsonl.zst"]


def test_parts_of_different_downloads_are_refused(web: Files, tmp_path: Path) -> None:
    origin = {"http": f"{web.url}/train/{{00..04}}.jsonl.zst"}
    get(origin, tmp_path, "1-of-2")
    get({"http": f"{web.url}/train/{{00..03}}.jsonl.zst"}, tmp_path, "2-of-2")
    with pytest.raises(SourceError, match=r"2-of-2.*has origin"):
        sources.read_raw(tmp_path / "raw", 2)
    get(origin, tmp_path, "2-of-2")
    manifest_path = tmp_path / "raw/2-of-2/manifest.json"
    document = json.loads(manifest_path.read_text())
    document["metrics"]["files"].pop()
    manifest_path.write_text(json.dumps(document))
    with pytest.raises(SourceError, match="4 of 5 files"):
        sources.read_raw(tmp_path / "raw", 2)
    shutil.rmtree(tmp_path / "raw/2-of-2")
    shutil.copytree(tmp_path / "raw/1-of-2", tmp_path / "raw/2-of-2")
    with pytest.raises(SourceError, match="as another part"):
        sources.read_raw(tmp_path / "raw", 2)
    with pytest.raises(manifest.ManifestError, match="1-of-3"):
        sources.read_raw(tmp_path / "raw", 3)


def test_own_files_are_dealt_to_parts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("texts").mkdir()
    for number in range(7):
        Path(f"texts/{number}.txt").write_text(str(number))
    for part in parts.names(3):
        get({"path": "texts/*"}, Path(), part)
    raw = sources.read_raw("raw", 3)
    assert [Path(file["path"]).read_text() for file in raw.files] == list("0123456")
    assert not raw.packaged


def test_a_long_list_of_fetched_files_keeps_the_manifest_small(
    web: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["pileline.sources.download"], "LISTED", 3)
    get({"http": f"{web.url}/train/{{00..04}}.jsonl.zst"}, tmp_path)
    found = manifest.read(tmp_path / "raw/1-of-1")
    assert (found.metrics["files"], set(found.files)) == ([], {"files.jsonl"})
    assert [Path(file["path"]).name for file in sources.read_raw(tmp_path / "raw", 1).files] == [
        f"{number:02}.jsonl.zst" for number in range(5)
    ]


def test_files_of_different_folders_keep_them_apart(web: Files, tmp_path: Path) -> None:
    web.content |= {"/a/x/same.txt": b"first", "/a/y/same.txt": b"second"}
    metrics = get({"http": [f"{web.url}/a/x/same.txt", f"{web.url}/a/y/same.txt?download=true"]}, tmp_path)
    assert [file["path"] for file in metrics["files"]] == ["x/same.txt", "y/same.txt"]
    assert (tmp_path / "raw/1-of-1/y/same.txt").read_bytes() == b"second"


def test_hashes_by_name_pin_some_files_and_record_the_others(web: Files, tmp_path: Path) -> None:
    pin = {"01.jsonl.zst": sha256(web.content["/train/01.jsonl.zst"])}
    metrics = get({"http": f"{web.url}/train/{{00..01}}.jsonl.zst", "sha256": pin}, tmp_path)
    assert [file["pinned"] for file in metrics["files"]] == [False, True]
    assert (tmp_path / "cache" / pin["01.jsonl.zst"] / "01.jsonl.zst").exists()
    with pytest.raises(SourceError, match=r"'2\.zst', which is none of the files: 00\.jsonl\.zst"):
        get({"http": f"{web.url}/train/00.jsonl.zst", "sha256": {"2.zst": "0" * 64}}, tmp_path)
    with pytest.raises(SourceError, match="one hash, but there are 2 files"):
        get({"http": f"{web.url}/train/{{00..01}}.jsonl.zst", "sha256": "0" * 64}, tmp_path)


def test_a_wrong_hash_names_the_keys_of_this_kind(web: Files, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="wrong content") as error:
        get({"http": f"{web.url}/train/00.jsonl.zst", "sha256": "0" * 64}, tmp_path)
    assert "mirrors" in str(error.value)
    assert "PIP_INDEX_URL" not in str(error.value)


def test_a_mirror_is_asked_when_the_first_server_fails_for_good(web: Files, tmp_path: Path) -> None:
    web.content |= {"/copy/train/a/1": b"right", "/main/train/a/2": b"there"}
    origin = {
        "http": [f"{web.url}/main/train/a/1", f"{web.url}/main/train/a/2"],
        "mirrors": [f"{web.url}/empty/", f"{web.url}/copy/train/a/"],
    }
    metrics = get(origin, tmp_path)
    assert [file["sha256"] for file in metrics["files"]] == [sha256(b"right"), sha256(b"there")]
    assert [path for path, *_ in web.asked] == ["/main/train/a/1", "/empty/1", "/copy/train/a/1", "/main/train/a/2"]


def test_a_server_with_wrong_content_is_passed_over_for_a_mirror(web: Files, tmp_path: Path) -> None:
    web.content |= {"/main/x": b"wrong", "/copy/x": b"right"}
    get({"http": f"{web.url}/main/x", "mirrors": [f"{web.url}/copy"], "sha256": sha256(b"right")}, tmp_path)
    assert (tmp_path / "raw/1-of-1/x").read_bytes() == b"right"


def test_when_no_server_has_it_each_is_named(web: Files, tmp_path: Path) -> None:
    with pytest.raises(
        SourceError, match=r"(?s)no server has it, of 2 tried.*/main/x answered 404.*/copy/x answered 404"
    ):
        get({"http": f"{web.url}/main/x", "mirrors": [f"{web.url}/copy"]}, tmp_path)


def test_half_a_file_of_one_server_is_not_joined_with_a_mirrors(web: Files, tmp_path: Path) -> None:
    web.content |= {"/main/x": BIG, "/copy/x": OTHER}
    web.faults = {"/main/x": [("drop", 100_000), 403]}
    get({"http": f"{web.url}/main/x", "mirrors": [f"{web.url}/copy"]}, tmp_path)
    assert (tmp_path / "raw/1-of-1/x").read_bytes() == OTHER


def test_a_resumed_file_that_changed_restarts(web: Files, tmp_path: Path) -> None:
    path = "/train/big"
    web.content[path] = BIG
    web.faults = {path: [("drop", 100_000), lambda: web.content.update({path: OTHER})]}
    metrics = get({"http": web.url + path}, tmp_path)
    assert (tmp_path / "raw/1-of-1/big").read_bytes() == OTHER
    assert metrics["files"][0]["sha256"] == sha256(OTHER)
    assert web.starts(path)[1] > 0
    assert web.asked[1][2] == f'"{hashlib.md5(BIG).hexdigest()}"'


def test_a_server_that_ignores_the_condition_is_noticed_by_its_etag(web: Files, tmp_path: Path) -> None:
    path = "/train/big"
    web.judges, web.content[path] = False, BIG
    web.faults = {path: [("drop", 100_000), lambda: web.content.update({path: OTHER})]}
    get({"http": web.url + path}, tmp_path)
    assert (tmp_path / "raw/1-of-1/big").read_bytes() == OTHER
    assert web.starts(path)[2] == 0


def test_without_a_validator_an_unpinned_part_is_not_taken_up(web: Files, tmp_path: Path) -> None:
    path = "/train/big"
    web.validators, web.content[path] = False, BIG
    web.faults = {path: [("drop", 100_000), lambda: web.content.update({path: OTHER})]}
    get({"http": web.url + path}, tmp_path)
    assert (tmp_path / "raw/1-of-1/big").read_bytes() == OTHER
    assert web.starts(path) == [0, 0]


@pytest.mark.parametrize("changed", [False, True])
def test_a_download_killed_at_its_very_end_is_not_fetched_twice(web: Files, tmp_path: Path, changed: bool) -> None:
    path = "/train/big"
    web.content[path] = BIG
    part = Wanted("big", web.url + path, None, lambda _: "").kept(tmp_path / "cache").with_name("big.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(BIG)
    part.with_name("big.part.validator").write_text(web.etag(path))
    web.content[path] = OTHER if changed else BIG
    get({"http": web.url + path}, tmp_path)
    assert (tmp_path / "raw/1-of-1/big").read_bytes() == web.content[path]
    assert [asked for _, asked, _ in web.asked] == [f"bytes={len(BIG)}-"]


def test_a_dropped_connection_goes_on_where_it_ended(web: Files, tmp_path: Path) -> None:
    path = "/train/big"
    web.content[path] = BIG
    web.faults = {path: [("drop", 200_000), 500, ("drop", 50_000)]}
    get({"http": web.url + path}, tmp_path)
    assert (tmp_path / "raw/1-of-1/big").read_bytes() == BIG
    first, *rest = web.starts(path)
    assert first == 0
    assert all(start > 100_000 for start in rest)
    assert not list((tmp_path / "cache").rglob("*.part*"))


def test_a_busy_server_says_when_to_come_again(web: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(transfers.time, "sleep", waits.append)
    web.faults, web.headers = {"/train/00.jsonl.zst": [429, 503]}, {"Retry-After": "3"}
    origin = {"http": f"{web.url}/train/00.jsonl.zst"}
    sources.download("words", origin, tmp_path / "cache", tmp_path, patience=Patience(first_wait=0.01))
    assert waits == [3.0, 3.0]


@given(
    st.binary(max_size=3000), st.lists(st.one_of(st.sampled_from([429, 500, 503]), st.integers(0, 3000)), max_size=6)
)
@settings(max_examples=25)
def test_whatever_the_network_does_the_file_is_whole_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, faults: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("faults")
    happening: list[Any] = [fault if fault in (429, 500, 503) else ("drop", fault) for fault in faults]
    with serve(Files({"/f": content}, {"/f": happening})) as files:
        refused = ""
        try:
            metrics = get({"http": files.url + "/f"}, folder)
        except SourceError as error:
            refused = str(error)
    if refused:
        assert "given up after" in refused
        assert len(faults) >= SOON.attempts
    else:
        assert (folder / "raw/1-of-1/f").read_bytes() == content
        assert metrics["files"][0]["sha256"] == sha256(content)


def test_an_unpinned_file_is_fetched_once_and_its_damage_noticed(web: Files, tmp_path: Path) -> None:
    origin = {"http": f"{web.url}/train/00.jsonl.zst"}
    get(origin, tmp_path)
    web.content["/train/00.jsonl.zst"] = b"changed on the server"
    assert get(origin, tmp_path)["files"][0]["bytes"] == 600
    assert len(web.asked) == 1
    (kept,) = (tmp_path / "cache/unpinned").rglob("00.jsonl.zst")
    kept.chmod(0o644)
    kept.unlink()
    kept.write_bytes(b"damaged")
    get(origin, tmp_path)
    assert (tmp_path / "raw/1-of-1/00.jsonl.zst").read_bytes() == b"changed on the server"


@pytest.mark.parametrize(
    ("origin", "message"),
    [
        ({"http": "https://host/{00..29.jsonl"}, "without its other half"),
        ({"http": "https://host/folder/"}, "no address of a file"),
        ({"http": "https://host/a/%2e%2e"}, "no address of a file"),
        ({"http": "https://host/a/x%2Fy"}, "no address of a file"),
        ({"http": "https://host/a/x%0Ay"}, "no address of a file"),
        ({"http": "https://host/a/manifest.json"}, r"cannot be called manifest\.json"),
        ({"http": ["https://host/a", "https://host/a"]}, "'a' twice"),
        ({"http": "https://me:secret@host/a"}, "holds a password"),
        ({"http": "https://host/a", "mirrors": ["https://me:secret@host/"]}, "holds a password"),
        ({"http": "https://host/a", "file": "a"}, "kind http has no `file`"),
        ({"http": "https://host/a", "npm": "a@1.0.0"}, "needs one of: pypi, path, http, fsspec, npm, debian"),
        ({"pypi": "a==1"}, "kind pypi needs `file` and `sha256`"),
        ({"http": "nonsense://host/a"}, "No connection adapters"),
    ],
)
def test_what_cannot_be_fetched_is_refused_with_what_to_do(
    tmp_path: Path, origin: dict[str, Any], message: str
) -> None:
    with pytest.raises(SourceError, match=message) as error:
        get(origin, tmp_path)
    assert "secret" not in str(error.value)


steps = st.text("abcxyz01._-", min_size=1, max_size=4).filter(lambda step: step not in (".", ".."))


@given(st.lists(st.lists(steps, min_size=1, max_size=4).map("/".join), min_size=1, max_size=8, unique=True))
def test_names_tell_addresses_apart_and_keep_their_ends(paths: list[str]) -> None:
    named = addresses.names("http", [f"https://host/{path}" for path in paths])
    assert len(set(named)) == len(paths)
    for name, path in zip(named, paths, strict=True):
        assert f"host/{path}".endswith(name)
        assert Path("/" + path).name == Path(name).name


@given(st.integers(0, 120), st.integers(0, 120), st.integers(1, 3))
def test_ranges_expand_as_shells_do(first: int, last: int, width: int) -> None:
    written = f"https://host/{{{first:0{width}}..{last:0{width}}}}.x"
    found = addresses.expand("http", written)
    step = 1 if last >= first else -1
    assert [int(Path(address).stem) for address in found] == list(range(first, last + step, step))
    widths = {len(Path(address).stem) for address in found}
    padded = any(len(text) > 1 and text[0] == "0" for text in (f"{first:0{width}}", f"{last:0{width}}"))
    assert len(widths) == 1 or not padded


def test_lists_and_braces_multiply() -> None:
    assert addresses.expand("http", ["https://h/{a,b}/{1..2}", "https://h/c"]) == [
        *(f"https://h/{folder}/{number}" for folder, number in itertools.product("ab", (1, 2))),
        "https://h/c",
    ]
