"""Deduplication of sources in parts: the same bytes however they are cut, and documents that are found again."""

import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pileline import deduplication, documents, manifest
from pileline.documents import Document
from pileline.parts import folders

from tests.unit.test_deduplication import HOLDOUT, corpus, run, store

FULL = deduplication.Method.from_dict(
    {"kind": "minhash", "shingle": 5, "bands": 40, "rows": 3}
    | {"boilerplate": {"unit": "line", "documents": 2, "characters": 3}}
)
TASK: dict[str, Any] = {"tasks": {"t": {"source": "a", "test": 0.35}}, "decontamination": {"words": 3, "at_most": 2}}


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@given(st.integers(0, 1000), st.integers(1, 5), st.sampled_from([1, 7, 4096]))
@settings(max_examples=6)
def test_every_byte_is_the_same_for_any_number_of_parts(seed: int, parts: int, group: int) -> None:
    rows = corpus(seed)[:120]
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        whole = store(folder / "whole", rows)
        patch.setattr(documents, "BATCH_DOCUMENTS", group)
        cut = store(folder / "cut", random.Random(seed).sample(rows, len(rows)), parts)
        run(whole, folder / "one", FULL, **TASK)
        removed, _ = run(cut, folder / "many", FULL, parts=parts, **TASK)
        assert {row["reason"] for row in removed} >= {"exact", "near holdout", "near"}
        assert bytes_of(folder / "many") == bytes_of(folder / "one")


def test_every_byte_is_the_same_for_any_number_of_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "BATCH_DOCUMENTS", 20)
    clean = store(tmp_path / "clean", corpus(5), 2)
    for threads in (1, 2):
        removed, _ = run(clean, tmp_path / str(threads), FULL, parts=2, threads=threads, **TASK)
        assert {row["reason"] for row in removed} == {"exact", "near holdout", "near", "contaminated"}
    assert bytes_of(tmp_path / "2") == bytes_of(tmp_path / "1")


def test_documents_are_numbered_by_member_and_number_and_ids_are_found_again(tmp_path: Path) -> None:
    names = ["b/x#10", "b/x#2", "b/é#1", "b/x", "b/x#y", "b/\nz#3", "b/z#3", "b/x#02", "a/x#1"]
    rows = [Document(name, name[0], name, documents.key_of(f"{name!r}")) for name in names]
    inventory = deduplication.read(store(tmp_path, rows, 2), ["b", "a"], HOLDOUT, {}, parts={"a": 2, "b": 2})

    def place(name: str) -> tuple[int, str, int, str]:
        member, _, number = name.rpartition("#")
        return (name[0] == "a", *((member, int(number)) if number.isdecimal() else (name, 0)), name)

    expected = sorted(names, key=place)
    everyone = np.arange(len(names))
    assert inventory.ids(everyone).to_pylist() == expected
    assert inventory.ids(everyone[::-1]).to_pylist() == expected[::-1]
    assert inventory.ids(everyone[[3, 3, 0]]).to_pylist() == [expected[3], expected[3], expected[0]]
    texts = dict(inventory.texts(inventory.marked(everyone[1:3])))
    assert texts == {1: expected[1], 2: expected[2]}
    assert [bytes(key).ljust(16, b"\0") for key in inventory.key] == [documents.key_of(f"{n!r}") for n in expected]


def test_an_id_of_another_source_is_refused(tmp_path: Path) -> None:
    rows = [Document("b/x#1", "a", "one", documents.key_of("one"))]
    with pytest.raises(deduplication.InventoryError, match="'b/x#1' does not begin"):
        deduplication.read(store(tmp_path, rows), ["a"], HOLDOUT, {})


@pytest.mark.parametrize("parts", [1, 3])
def test_a_source_in_which_nothing_was_found_is_refused(tmp_path: Path, parts: int) -> None:
    clean = store(tmp_path, [], parts)
    nothing = {"ledger": {"in": {"documents": 0, "bytes": 0}}}
    for part in folders(clean / "a", parts):
        manifest.write(part, "clean", nothing)
    with pytest.raises(deduplication.InventoryError, match=r"source 'a' has no document at all.*read\.members"):
        deduplication.read(clean, ["b", "a"], HOLDOUT, {}, parts={"a": parts, "b": parts})
    manifest.write(part, "clean", {"ledger": {"in": {"documents": 1, "bytes": 1}}})
    assert len(deduplication.read(clean, ["b", "a"], HOLDOUT, {}, parts={"a": parts, "b": parts})) == 0


def test_a_part_that_is_missing_is_named(tmp_path: Path) -> None:
    clean = store(tmp_path, [], 2)
    with pytest.raises(manifest.ManifestError, match="1-of-3"):
        deduplication.read(clean, ["a"], HOLDOUT, {}, parts={"a": 3})
