"""Parts of a source: together they are the source, each document once, whatever the number of parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pileline.parts import Part
from pileline.sources import Extracted, Raw, Reading, SourceError, extract
from pileline.sources.extraction import BLOCK

from tests.unit.files_to_read import packaged, zipped

LINES = {"format": "jsonl", "where": {"kind": "ours"}, "members": "*.jsonl"}


def source(folder: Path, records: list[int]) -> Raw:
    """Files of so many records, every third of which is another source's, one a zip of two members."""
    folder.mkdir(exist_ok=True)
    names = []
    for number, count in enumerate(records):
        rows = [{"text": f"{number} {n}", "kind": "theirs" if n % 3 == 1 else "ours"} for n in range(count)]
        data = "\n".join([*map(json.dumps, rows), "{broken"]).encode()
        name = f"{number}.zip" if number % 2 else f"{number}.jsonl"
        packed = zipped({"a.jsonl": data, "b.txt": b"not asked for", "c.jsonl": data}) if number % 2 else data
        (folder / name).write_bytes(packed)
        names.append(name)
    return packaged(folder, *names)


def parts(raw: Raw, reading: dict[str, Any], of: int) -> tuple[list[list[Extracted]], list[dict[str, Any]]]:
    documents, counts = [], []
    for number in range(1, of + 1):
        made = extract(raw, Reading.from_dict(reading), Part(number, of))
        documents.append(list(made))
        counts.append(made.counts())
    return documents, counts


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records=st.lists(st.integers(1, 900), min_size=1, max_size=5), of=st.integers(1, 7))
def test_parts_add_up_to_the_source(tmp_path: Path, records: list[int], of: int) -> None:
    raw = source(tmp_path / "raw", records)
    ((whole,), (counted,)) = parts(raw, LINES, 1)
    documents, counts = parts(raw, LINES, of)
    assert sorted(item for part in documents for item in part) == sorted(whole)
    assert len({item.id for item in whole}) == len(whole)
    assert sum(part["members"] for part in counts) == counted["members"]
    for key, amount in counted["passed_over"].items():
        assert sum(part["passed_over"][key] for part in counts) == amount
    place = {item.id: number for number, item in enumerate(whole)}
    assert all([place[item.id] for item in part] == sorted(place[item.id] for item in part) for part in documents)


def test_files_are_dealt_where_there_are_enough_and_blocks_of_documents_where_not(tmp_path: Path) -> None:
    raw = source(tmp_path, [3 * BLOCK, 1, 1])
    by_file, _ = parts(raw, LINES, 3)
    assert [{item.id.split("#")[0] for item in part} for part in by_file] == [
        {"s/0.jsonl"},
        {"s/1.zip/a.jsonl", "s/1.zip/c.jsonl"},
        {"s/2.jsonl"},
    ]
    by_block, _ = parts(raw, LINES, 4)
    whole = [item.id for item in extract(raw, Reading.from_dict(LINES))]
    expected = [[item for n, item in enumerate(whole) if n // BLOCK % 4 == part] for part in range(4)]
    assert [[item.id for item in part] for part in by_block] == expected
    assert len(expected[1]) == BLOCK


def test_pieces_of_a_text_are_dealt_like_documents(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("a word\n\n" * 2000)
    raw = packaged(tmp_path, "t.txt")
    documents, _ = parts(raw, {"split": 10}, 3)
    (whole,), _ = parts(raw, {"split": 10}, 1)
    assert sorted(item for part in documents for item in part) == sorted(whole)
    assert all(len(part) > BLOCK for part in documents)


def test_a_part_without_a_match_is_fine_where_another_may_have_one(tmp_path: Path) -> None:
    raw = source(tmp_path, [1, 1])
    found, counts = parts(raw, {"members": "0.jsonl"}, 2)
    assert [len(part) for part in found] == [1, 0]
    assert [part["members"] for part in counts] == [1, 0]
    for of in (1, 3):  # here a part reads all there is
        with pytest.raises(SourceError, match="no member matches"):
            parts(raw, {"members": "*.md"}, of)


def test_a_part_may_have_no_file(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("text")
    found, counts = parts(packaged(tmp_path, "t.txt"), {}, 3)
    assert [[item.text for item in part] for part in found] == [["text"], [], []]
    assert [part["members"] for part in counts] == [1, 0, 0]
