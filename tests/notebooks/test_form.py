"""The committed notebooks: literate, without outputs, with typed and commented parameters that the rules fill."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from pileline.workflow import NOTEBOOKS, TRAIN_NOTEBOOKS

ROOT = Path(__file__).parents[2]
PATHS = sorted(ROOT / path for path in (*NOTEBOOKS.values(), *TRAIN_NOTEBOOKS.values()))
every_notebook = pytest.mark.parametrize("path", PATHS, ids=[path.stem for path in PATHS])


def cells(path: Path, kind: str | None = None) -> list[Any]:
    found = nbformat.read(path, as_version=4).cells
    return [cell for cell in found if kind in (None, cell.cell_type)]


def test_the_stages_are_there_in_order_and_no_other_notebook() -> None:
    assert sorted(path.name for path in (ROOT / "notebooks").iterdir()) == [path.name for path in PATHS]
    numbers = [Path(path).name[:2] for path in NOTEBOOKS.values()]
    assert numbers == [f"{number:02d}" for number in range(1, len(NOTEBOOKS) + 1)]
    assert {Path(path).name[:2] for path in TRAIN_NOTEBOOKS.values()} == {Path(NOTEBOOKS["train"]).name[:2]}


@every_notebook
def test_it_is_valid_and_committed_without_outputs(path: Path) -> None:
    nbformat.validate(nbformat.read(path, as_version=4))
    raw = json.loads(path.read_text(encoding="utf-8"))
    for cell in raw["cells"]:
        assert not cell.get("outputs"), cell["id"]
        assert cell.get("execution_count") is None
    assert set(raw["metadata"]) <= {"kernelspec", "language_info"}


@every_notebook
def test_it_begins_with_its_title_and_purpose_and_explains_itself(path: Path) -> None:
    first, *_ = cells(path)
    assert first.cell_type == "markdown"
    assert re.match(r"# \S", first.source)
    assert len(cells(path, "markdown")) >= 4
    assert "$" in "".join(cell.source for cell in cells(path, "markdown")), "the idea has its mathematics"


@every_notebook
def test_its_cells_are_small_and_few(path: Path) -> None:
    code = cells(path, "code")
    assert 5 <= len(code) <= 14
    for cell in code:
        if "parameters" not in cell.metadata.get("tags", []):
            assert len(cell.source.splitlines()) <= 20, cell.id


@every_notebook
def test_every_parameter_is_typed_and_commented(path: Path) -> None:
    (cell,) = [cell for cell in cells(path, "code") if "parameters" in cell.metadata.get("tags", [])]
    names = re.findall(r"^(\w+)", cell.source, re.MULTILINE)
    typed = re.findall(r"^(\w+): [\w\[\], |]+ = ", cell.source, re.MULTILINE)
    assert names == typed
    assert cell.source.count("#") >= len(names)


@every_notebook
def test_its_last_cell_writes_the_manifest(path: Path) -> None:
    assert "manifest.write(" in cells(path, "code")[-1].source


@every_notebook
def test_it_holds_no_magic_and_no_absolute_path(path: Path) -> None:
    for cell in cells(path, "code"):
        assert not re.search(r"^\s*[%!]", cell.source, re.MULTILINE), cell.id
        assert not re.search(r"[\"']/(home|tmp|root|work|Users)/", cell.source), cell.id
