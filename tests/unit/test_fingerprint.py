"""Fingerprints change with what code does, and with nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pileline import fingerprint
from pileline import notebook as notebooks

ROOT = Path(__file__).parents[2]
PARAMETERS = 'source: str = "x"  # which\nlevels: list = [1, -2.5, None, {"a": True}]'


def cell(source: str, kind: str = "code", **extra: Any) -> dict[str, Any]:
    made = {"cell_type": kind, "source": source, "metadata": {}, "id": "a", **extra}
    return {"outputs": [], "execution_count": None, **made} if kind == "code" else made


def write(folder: Path, *cells: dict[str, Any]) -> Path:
    path = folder / "notebook.ipynb"
    tagged = cell(PARAMETERS, metadata={"tags": ["parameters"]})
    path.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [tagged, *cells]}))
    return path


@pytest.fixture
def library(code_unknown: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small library of our package's name: room/__init__ -> room.inside -> ground, and an unrelated module."""
    folder = tmp_path / "workflow/pileline"
    (folder / "room").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "ground.py").write_text('"""Says."""\n\n\ndef one():\n    """Docs."""\n    return 1\n')
    (folder / "room/__init__.py").write_text("from pileline.room.inside import two\n")
    (folder / "room/inside.py").write_text("import numpy\nfrom .. import ground\ntwo = 2 * ground.one()\n")
    (folder / "unrelated.py").write_text("three = 3\n")
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs/requirements.lock").write_text("numpy==2.0\npandas==3.0\n")
    monkeypatch.setattr(fingerprint, "LIBRARY", folder)
    monkeypatch.setattr(fingerprint, "LOCK", tmp_path / "envs/requirements.lock")
    return folder


def of(path: Path) -> set[str]:
    fingerprint.pins.cache_clear()
    return set(fingerprint.notebook_code(path))


def test_it_names_the_notebook_the_modules_reached_and_the_pins(library: Path, tmp_path: Path) -> None:
    path = write(tmp_path, cell("from pileline.room import two"))
    names = {entry.split(":")[0].split("==")[0].removeprefix(str(tmp_path) + "/") for entry in of(path)}
    inside = {f"workflow/pileline/{name}" for name in ("room/__init__.py", "room/inside.py", "ground.py")}
    assert names == {"notebook.ipynb", "numpy"} | inside


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.replace("Docs.", "Other words."),
        lambda text: "# a comment\n" + text.replace("return 1", "return 1  # one"),
        lambda text: text.replace("\n\n\n", "\n\n\n\n"),
    ],
    ids=["docstring", "comment", "layout"],
)
def test_comments_docstrings_and_layout_of_a_module_do_not_count(library: Path, tmp_path: Path, edit: Any) -> None:
    path = write(tmp_path, cell("import pileline.room"))
    before = of(path)
    ground = library / "ground.py"
    edited = edit(ground.read_text())
    assert edited != ground.read_text()
    ground.write_text(edited)
    assert of(path) == before


def test_code_of_a_module_reached_through_others_counts_and_is_named(library: Path, tmp_path: Path) -> None:
    path = write(tmp_path, cell("import pileline.room"))
    before = of(path)
    (library / "ground.py").write_text("def one():\n    return 1.5\n")
    assert [entry.split(":")[0] for entry in of(path) - before] == ["workflow/pileline/ground.py"]


def test_a_module_that_is_not_imported_does_not_count(library: Path, tmp_path: Path) -> None:
    path = write(tmp_path, cell("import pileline.room"))
    before = of(path)
    (library / "unrelated.py").write_text("three = 4\n")
    assert of(path) == before


def test_only_the_pins_of_imported_packages_count(library: Path, tmp_path: Path) -> None:
    path = write(tmp_path, cell("import pileline.room"))
    before = of(path)
    fingerprint.LOCK.write_text("numpy==2.0\npandas==3.1\n")
    assert of(path) == before
    fingerprint.LOCK.write_text("numpy==2.1\npandas==3.1\n")
    assert of(path) - before == {"numpy==2.1"}


def test_markdown_outputs_metadata_and_ids_of_a_notebook_do_not_count(library: Path, tmp_path: Path) -> None:
    before = of(write(tmp_path, cell("# words", "markdown"), cell("x = 1")))
    stream = {"output_type": "stream", "name": "stdout", "text": "1"}
    after = of(
        write(
            tmp_path,
            cell("# other words", "markdown"),
            cell("x = 1  # a comment", outputs=[stream], execution_count=3, id="b", metadata={"scrolled": True}),
        )
    )
    assert before == after
    assert of(write(tmp_path, cell("x = 2"))) != before


def test_a_magic_hides_neither_the_code_nor_the_imports_of_its_cell(library: Path, tmp_path: Path) -> None:
    before = of(write(tmp_path, cell("%matplotlib inline\nimport pileline.room\nx = 1")))
    assert "workflow/pileline/ground.py" in {entry.split(":")[0] for entry in before}
    assert of(write(tmp_path, cell("%matplotlib inline\nimport pileline.room\nx = 2"))) != before


def test_a_cell_that_is_not_python_is_refused_before_anything_runs(library: Path, tmp_path: Path) -> None:
    with pytest.raises(notebooks.NotebookError, match="code cell 2 is not valid Python"):
        fingerprint.notebook_code(write(tmp_path, cell("x = = 1")))


def test_a_module_chosen_by_name_must_be_there(library: Path) -> None:
    assert "pileline/ground.py" in fingerprint.module_code("pileline.ground")
    with pytest.raises(FileNotFoundError, match=r"no module pileline\.nowhere"):
        fingerprint.module_code("pileline.nowhere")


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_every_package_that_our_notebooks_reach_is_pinned(path: Path) -> None:
    unpinned = [entry for entry in fingerprint.notebook_code(path) if "(not in" in entry]
    assert not unpinned


def test_parameters_are_read_as_literals(tmp_path: Path) -> None:
    assert notebooks.read(write(tmp_path)).parameters == {"source": "x", "levels": [1, -2.5, None, {"a": True}]}


@pytest.mark.parametrize("bad", ["x = list(range(3))", "import os", "x: int"])
def test_a_parameters_cell_with_anything_but_literals_is_refused(tmp_path: Path, bad: str) -> None:
    path = tmp_path / "notebook.ipynb"
    path.write_text(json.dumps({"cells": [cell(bad, metadata={"tags": ["parameters"]})]}))
    with pytest.raises(notebooks.NotebookError, match="parameter"):
        notebooks.read(path)


def test_a_notebook_without_the_tag_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notebook.ipynb"
    path.write_text(json.dumps({"cells": [cell("x = 1")]}))
    with pytest.raises(notebooks.NotebookError, match="0 cells tagged"):
        notebooks.read(path)
