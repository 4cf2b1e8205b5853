"""Files of npm and Debian packages: clients that stand in for the real ones, and the real ones over the network."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from pileline import manifest, sources
from pileline.checks import schema
from pileline.sources import SourceError, clients
from pileline.sources.http import Patience

SOON = Patience(attempts=3, first_wait=0.01, longest_wait=0.05)
DEB = "words_1%3a2.0-1_all.deb"
CONTENT = b"an archive"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
# Behaves as the plan beside it says: one step a call, of what to print, what to write here, and how to end.
CLIENT = """#!{python}
import json, os, pathlib, sys
plan = pathlib.Path({plan!r})
calls = json.loads(plan.read_text())
step = calls["steps"].pop(0)
calls["asked"].append([sys.argv[1:], os.getcwd(), os.environ["LC_ALL"]])
plan.write_text(json.dumps(calls))
for name, text in step.get("writes", {{}}).items():
    pathlib.Path(name).write_text(text)
print(step.get("prints", ""))
print(step.get("complains", ""), file=sys.stderr)
sys.exit(step.get("code", 0))
"""
URIS = {"prints": f"'http://mirror/pool/{DEB}' {DEB} {len(CONTENT)} SHA256:{SHA256}"}


class Client:
    """A program on PATH that does as planned."""

    def __init__(self, name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.plan = folder / f"{name}.json"
        programs = folder / "programs"
        programs.mkdir()
        program = programs / name
        program.write_text(CLIENT.format(python=sys.executable, plan=str(self.plan)))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", str(programs))
        self.will()

    def will(self, *steps: dict[str, Any]) -> None:
        self.plan.write_text(json.dumps({"steps": steps, "asked": []}))

    @property
    def asked(self) -> list[Any]:
        return list(json.loads(self.plan.read_text())["asked"])


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Client:
    return Client("npm", tmp_path, monkeypatch)


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Client:
    return Client("apt-get", tmp_path, monkeypatch)


def get(origin: dict[str, Any], folder: Path) -> dict[str, Any]:
    output = folder / "raw"
    output.mkdir(exist_ok=True)
    return sources.download("words", origin, folder / "cache", output, patience=SOON)


def test_npm_packs_in_a_private_folder_and_runs_no_script(npm: Client, tmp_path: Path) -> None:
    npm.will({"writes": {"scope-words-1.2.3.tgz": CONTENT.decode()}})
    metrics = get({"npm": "@scope/words@1.2.3", "sha256": SHA256}, tmp_path)
    assert metrics["kind"] == "npm"
    assert metrics["files"] == [
        {"path": "scope-words-1.2.3.tgz", "bytes": 10, "sha256": SHA256, "number": 0, "pinned": True}
    ]
    ((arguments, folder, language),) = npm.asked
    assert arguments[0] == "pack"
    assert "--ignore-scripts" in arguments
    assert arguments[-2:] == ["--", "@scope/words@1.2.3"]
    assert language == "C"
    assert Path(folder).parent == tmp_path / "cache" / SHA256
    assert not Path(folder).exists(), "the private folder is gone"
    get({"npm": "@scope/words@1.2.3", "sha256": SHA256}, tmp_path)
    assert len(npm.asked) == 1, "the second time it comes from the cache"


def test_without_a_hash_the_first_one_is_recorded(npm: Client, tmp_path: Path) -> None:
    npm.will({"writes": {"words-1.2.3.tgz": CONTENT.decode()}})
    for _ in range(2):
        (file,) = get({"npm": "words@1.2.3"}, tmp_path)["files"]
        assert (file["sha256"], file["pinned"]) == (SHA256, False)
    assert len(npm.asked) == 1


def test_a_package_of_other_content_is_refused(npm: Client, tmp_path: Path) -> None:
    npm.will({"writes": {"words-1.2.3.tgz": "something else"}})
    with pytest.raises(SourceError, match="wrong content") as error:
        get({"npm": "words@1.2.3", "sha256": SHA256}, tmp_path)
    assert "npm config set registry" in str(error.value)
    assert not list((tmp_path / "raw").iterdir())


def test_npm_is_asked_again_after_what_may_pass_and_not_after_the_rest(npm: Client, tmp_path: Path) -> None:
    written = {"writes": {"words-1.2.3.tgz": CONTENT.decode()}}
    npm.will(
        {"code": 1, "complains": "npm error code ECONNRESET"}, {"code": 1, "complains": "npm error code E503"}, written
    )
    get({"npm": "words@1.2.3"}, tmp_path)
    assert len(npm.asked) == 3
    npm.will({"code": 1, "complains": "npm error code ETARGET\nnpm error notarget No matching version"})
    with pytest.raises(SourceError, match=r"(?s)npm failed with code 1; check the source's `npm`.*No matching version"):
        get({"npm": "words@9.9.9"}, tmp_path)
    assert len(npm.asked) == 1
    npm.will(*[{"code": 1, "complains": "npm error code ETIMEDOUT"}] * 3)
    with pytest.raises(SourceError, match=r"(?s)given up after 3 tries.*ETIMEDOUT"):
        get({"npm": "words@9.9.9"}, tmp_path)


def test_a_client_that_brings_nothing_is_not_believed(npm: Client, tmp_path: Path) -> None:
    npm.will({})
    with pytest.raises(SourceError, match=r"was to bring words-1\.2\.3\.tgz, and brought"):
        get({"npm": "words@1.2.3"}, tmp_path)


def test_debian_has_the_file_that_its_list_names_now(apt: Client, tmp_path: Path) -> None:
    apt.will(URIS, {"writes": {DEB: CONTENT.decode()}})
    metrics = get({"debian": "words"}, tmp_path)
    assert metrics["files"] == [{"path": DEB, "bytes": 10, "sha256": SHA256, "number": 0, "pinned": False}]
    assert (tmp_path / "raw" / DEB).read_bytes() == CONTENT
    listing, download = (arguments for arguments, *_ in apt.asked)
    assert "--print-uris" in listing
    assert download[0] == "download"
    assert download[-2:] == ["--", "words"]
    newer = DEB.replace("2.0", "2.1")
    apt.will({"prints": URIS["prints"].replace("2.0", "2.1")}, {"writes": {newer: "a newer archive"}})
    assert [file["path"] for file in get({"debian": "words"}, tmp_path)["files"]] == [newer]
    apt.will(URIS)
    assert [file["path"] for file in get({"debian": "words"}, tmp_path)["files"]] == [DEB]


def test_a_pinned_package_stays_to_be_had_from_the_cache_when_debian_moves_on(apt: Client, tmp_path: Path) -> None:
    apt.will(URIS, {"writes": {DEB: CONTENT.decode()}})
    get({"debian": "words", "sha256": SHA256}, tmp_path)
    apt.will()
    assert [file["path"] for file in get({"debian": "words", "sha256": SHA256}, tmp_path)["files"]] == [DEB]
    apt.will(URIS)
    with pytest.raises(SourceError, match=rf"(?s)package list states another SHA-256.*{SHA256}.*leave `sha256` out"):
        get({"debian": "words", "sha256": "0" * 64}, tmp_path)
    assert len(apt.asked) == 1, "nothing was downloaded"


def test_debian_without_a_package_list_says_how_to_get_one(apt: Client, tmp_path: Path) -> None:
    apt.will({"code": 100, "complains": "E: Unable to locate package words"})
    with pytest.raises(SourceError, match=r"(?s)`apt-get update` renews it.*Unable to locate package"):
        get({"debian": "words"}, tmp_path)
    apt.will(URIS, {"code": 100, "complains": "E: Failed to fetch http://mirror/pool/x.deb  404  Not Found"})
    with pytest.raises(SourceError, match=r"(?s)`apt-get update` renews it.*404"):
        get({"debian": "words"}, tmp_path)
    apt.will(
        URIS,
        {"code": 100, "complains": "E: Failed to fetch http://mirror/x.deb  Could not connect to mirror"},
        {"writes": {DEB: CONTENT.decode()}},
    )
    get({"debian": "words=1:2.0-1"}, tmp_path)
    apt.will({"prints": "nothing of use"})
    with pytest.raises(SourceError, match=r"(?s)names no file for `debian: words`.*nothing of use"):
        get({"debian": "words"}, tmp_path)


@pytest.mark.parametrize(
    ("origin", "message"),
    [
        ({"npm": "words@1.2.3"}, "needs the program `npm`.*install Node.js"),
        ({"debian": "words"}, "needs the program `apt-get`"),
    ],
)
def test_a_client_that_is_not_here_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, origin: dict[str, str], message: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError, match=message):
        get(origin, tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        *("words", "words@latest", "words@^1.0.0", "--help@1.0.0", "../words@1.0.0", "file:/etc@1.0.0", "a b@1.0.0"),
        *("git+ssh://host/x@1.0.0", "@a/b/c@1.0.0", "words@1.0.0\n", "@/x@1.0.0", "words@1.0.0/../x"),
    ],
)
def test_npm_gets_nothing_but_a_package_with_its_version(npm: Client, tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceError, match="should be a package and its version"):
        get({"npm": name}, tmp_path)
    assert npm.asked == []


@pytest.mark.parametrize(
    "name", ["-o=Dir=/x", "--help", "words/stable", "Words", "words=", "a b", "words\n", "./words.deb"]
)
def test_debian_gets_nothing_but_a_package(apt: Client, tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceError, match="should be a package"):
        get({"debian": name}, tmp_path)
    assert apt.asked == []


def test_the_schema_asks_for_the_same_names() -> None:
    properties = schema()["properties"]["sources"]["additionalProperties"]["properties"]
    for kind, own in (("npm", clients.NPM), ("debian", clients.DEBIAN)):
        stated = re.compile(properties[kind]["pattern"])
        for name in (
            "words@1.2.3",
            "@a/b@1.2.3-rc.1+x",
            "words",
            "dict-gcide=0.48:5~1-2",
            "w@1",
            "-o",
            "words\n",
            "A@1.2.3",
        ):
            assert bool(stated.search(name)) == bool(own.fullmatch(name)), (kind, name)


@pytest.mark.network
def test_a_real_package_of_npm(tmp_path: Path) -> None:
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    digest = "54cc8d13086187333ca1457c8edaa06d9a412144f076aa7f7c1b59c4f3b0a1ef"
    metrics = sources.download("l", {"npm": "spdx-license-list@6.12.0", "sha256": digest}, tmp_path / "c", tmp_path)
    assert manifest.sha256(tmp_path / metrics["files"][0]["path"]) == digest
    assert len(sources.contents(tmp_path / metrics["files"][0]["path"])) > 700


@pytest.mark.network
def test_a_real_package_of_debian(tmp_path: Path) -> None:
    if shutil.which("apt-get") is None:
        pytest.skip("apt-get is not installed")
    metrics = sources.download("foldoc", {"debian": "dict-foldoc"}, tmp_path / "cache", tmp_path)
    (file,) = metrics["files"]
    assert file["path"].startswith("dict-foldoc_")
    assert (tmp_path / file["path"]).read_bytes().startswith(b"!<arch>\n")
