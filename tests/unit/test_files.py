"""Globs of one's own files: the rules and the download stage see the same files, each once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from pileline.checks import ConfigError
from pileline.config import check
from pileline.files import matching_files
from pileline.sources import files
from pileline.sources.errors import SourceError
from pileline.workflow import Workflow

from tests.conftest import default_config

NAMES = ["texts/b.txt", "texts/deep/er/a.txt", "texts/c.md", "texts/.hidden.txt", "texts/.git/x.txt", "texts/[1]/d.txt"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in NAMES:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(name)
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("texts/*.txt", ["texts/b.txt"]),
        ("./texts/*.txt", ["texts/b.txt"]),
        ("texts/**/*.txt", ["texts/[1]/d.txt", "texts/b.txt", "texts/deep/er/a.txt"]),
        ("texts/**", ["texts/[1]/d.txt", "texts/b.txt", "texts/c.md", "texts/deep/er/a.txt"]),
        ("**", ["texts/[1]/d.txt", "texts/b.txt", "texts/c.md", "texts/deep/er/a.txt"]),
        ("**/deep/**/a.*", ["texts/deep/er/a.txt"]),
        ("t*/**/er/*", ["texts/deep/er/a.txt"]),
        ("texts/**.md", ["texts/c.md"]),  # not a whole part: as `*`
        ("texts/.*.txt", ["texts/.hidden.txt"]),
        ("texts/.git/**", ["texts/.git/x.txt"]),
        ("texts/b.txt", ["texts/b.txt"]),
        ("texts", []),
        ("nothing/**", []),
    ],
)
def test_a_glob_finds_files_at_any_depth_without_dotfiles(here: Path, pattern: str, expected: list[str]) -> None:
    assert matching_files(pattern) == expected


def test_the_home_folder_is_known(here: Path) -> None:
    assert matching_files("~/texts/*.txt") == [f"{here}/texts/b.txt"]
    assert [file["path"] for file in files.describe(files.matching("~/texts/*.txt"))] == [f"{here}/texts/b.txt"]


def test_links_are_followed_but_not_in_a_circle(here: Path) -> None:
    (here / "loops/in").mkdir(parents=True)
    (here / "loops/in/a.txt").touch()
    for number in range(3):  # glob alone would find 3^40 ways through these
        (here / f"loops/in/up{number}").symlink_to("..")
    (here / "loops/self").symlink_to("self")
    (here / "loops/dangling.txt").symlink_to("nowhere")
    (here / "loops/file.txt").symlink_to("../texts/b.txt")
    (here / "loops/elsewhere").symlink_to("../texts/deep")
    expected = ["loops/elsewhere/er/a.txt", "loops/file.txt", "loops/in/a.txt"]
    assert matching_files("loops/**/*.txt") == matching_files("loops/**") == expected


@pytest.mark.parametrize("pattern", ["texts/**", "~/texts/**/*.txt", "texts/*"])
def test_the_rules_and_the_stage_see_the_same_files(here: Path, pattern: str) -> None:
    raw = default_config()
    raw["sources"]["mine"] = {"path": pattern}
    seen = Workflow(check(raw)).local_files(SimpleNamespace(source="mine", part="1-of-1"))
    assert seen == [file["path"] for file in files.describe(files.matching(pattern))] != []


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [("texts", "it is a folder, so write texts/\\*\\* for all"), ("nowhere/*", "put files there or mend it")],
)
def test_a_glob_without_files_is_named_before_anything_runs(here: Path, pattern: str, hint: str) -> None:
    raw = default_config()
    raw["sources"]["mine"] = {"path": pattern}
    with pytest.raises(ConfigError, match=hint):
        Workflow(check(raw)).local_files(SimpleNamespace(source="mine", part="1-of-1"))
    with pytest.raises(SourceError, match=r"folder; write|matches no file"):
        files.matching(pattern)
