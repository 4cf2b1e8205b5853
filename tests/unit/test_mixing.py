"""Mixing: weights as epochs, a shuffle that depends on the seed alone, splits by key, books that balance."""

import itertools
import math
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pileline import documents, manifest, mixing
from pileline.documents import Document

HOLDOUT = {"validation": 0.1, "test": 0.1}
WEIGHTS = {"b": 2.5, "a": 1.0, "c": 0.25, "d": 0}


def corpus() -> list[Document]:
    rows = []
    for source in "abcd":
        for number in range(400):
            text = f"document {number} of {source}: " + "text é这 " * (number % 9)
            rows.append(Document(f"{source}/file#{number}", source, text, documents.key_of(text), f'{{"n":{number}}}'))
    return rows


def store(folder: Path, rows: list[Document]) -> Path:
    for source in "abcd":
        (folder / source).mkdir(parents=True)
        documents.write(folder / source / "kept.parquet", [row for row in rows if row.source == source])
        manifest.write(folder / source, "clean", {})
    return folder


def plan(**changes: Any) -> mixing.Plan:
    stated: dict[str, Any] = {"weights": WEIGHTS, "holdout": HOLDOUT, "protected": {"a": 0.3}, "reasons": {}, "seed": 1}
    return mixing.Plan(**(stated | changes))


def run(clean: Path, output: Path, made: mixing.Plan, pile_bytes: int = 10**6) -> mixing.Mix:
    output.mkdir()
    return mixing.mix(clean, made, output, pile_bytes)


def table(output: Path, split: str) -> list[Document]:
    return list(documents.read(output / f"{split}.parquet"))


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def split(row: Document) -> str:
    return documents.split_of(row.key, **HOLDOUT)


REASONS = {f"b/file#{number}": ["near", "exact", "near holdout"][number % 3] for number in range(0, 400, 7)}


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Document], Path, mixing.Mix]:
    folder = tmp_path_factory.mktemp("mix")
    rows = corpus()
    counted = run(store(folder / "clean", rows), folder / "out", plan(reasons=REASONS))
    return rows, folder / "out", counted


def test_copies_of_each_document_are_its_epochs(case: Any) -> None:
    rows, output, _ = case
    copies = Counter(row.id for row in table(output, "train"))
    for row in rows:
        weight = WEIGHTS[row.source]
        leaves = split(row) != "train" or row.id in REASONS or (row.source == "a" and documents.fraction(row.key) < 0.3)
        allowed = {0} if leaves else {math.floor(weight), math.ceil(weight)}
        assert copies[row.id] in allowed


@given(st.floats(0, 6, allow_nan=False), st.integers(0, 2**40))
def test_a_source_gets_its_weight_on_the_average(weight: float, seed: int) -> None:
    made = plan(weights={"a": weight}, seed=seed)
    n = 2000
    rows = [Document(f"a/#{number}", "a", "", documents.key_of(str(number))) for number in range(n)]
    part = weight - math.floor(weight)
    total = sum(map(made.copies, rows))
    assert abs(total - n * weight) <= 5 * math.sqrt(n * part * (1 - part)) + 1


def test_copies_grow_with_the_weight() -> None:
    rows = corpus()
    for low, high in ((0.2, 0.5), (0.5, 1.0), (1.0, 1.3), (1.3, 2.9)):
        less, more = plan(weights=dict.fromkeys("abcd", low)), plan(weights=dict.fromkeys("abcd", high))
        assert all(less.copies(row) <= more.copies(row) for row in rows)


def test_documents_travel_unchanged_and_splits_follow_the_key(case: Any) -> None:
    rows, output, _ = case
    by_id = {row.id: row for row in rows}
    for name in mixing.SPLITS:
        found = table(output, name)
        assert all(by_id[row.id] == row and split(row) == name for row in found)
        assert pq.read_schema(output / f"{name}.parquet").equals(documents.SCHEMA)
    holdout = [table(output, name) for name in ("validation", "test")]
    for found in holdout:
        assert [(row.source, row.id) for row in found] == sorted({(row.source, row.id) for row in found})
    kept = {row.id for row in rows if split(row) != "train" and row.id not in REASONS}
    assert kept == {row.id for found in holdout for row in found}


def test_no_key_of_the_holdout_is_in_training(case: Any) -> None:
    _, output, _ = case
    train = {row.key for row in table(output, "train")}
    assert train.isdisjoint(row.key for name in ("validation", "test") for row in table(output, name))


def test_books_balance_over_documents_read_by_hand(case: Any) -> None:
    rows, output, counted = case
    metrics = mixing.metrics("small", plan(reasons=REASONS), counted)
    unique = {row.id: row for name in mixing.SPLITS for row in table(output, name)}
    train = table(output, "train")
    assert metrics["splits"]["train"] == {
        "documents": len(train),
        "bytes": sum(len(row.text.encode()) for row in train),
    }
    for line in metrics["table"]:
        mine = [row for row in train if row.source == line["source"]]
        assert line["effective_bytes"] == sum(len(row.text.encode()) for row in mine)
        assert line["documents"] == len({row.id for row in mine})
        ledger = metrics["ledgers"][line["source"]]
        assert ledger["in"]["documents"] == sum(row.source == line["source"] for row in rows)
        assert ledger["kept"]["bytes"] == sum(
            len(row.text.encode()) for row in unique.values() if row.source == line["source"]
        )
    assert sum(line["share"] for line in metrics["table"]) == pytest.approx(1)
    assert set(metrics["ledgers"]["a"]["removed"]) == {"task"}
    assert set(metrics["ledgers"]["b"]["removed"]) == {"near", "exact", "near holdout"}
    assert set(metrics["ledgers"]["c"]["removed"]) == {"weight"}
    assert [part["id"] for part in metrics["sample"]] == [row.id for row in train[:10]]


def test_the_shuffle_depends_on_the_seed_alone(case: Any, tmp_path: Path) -> None:
    rows, output, _ = case
    again = list(rows)
    random.Random(3).shuffle(again)
    clean = store(tmp_path / "clean", again)
    turned = dict(reversed(WEIGHTS.items()))
    run(clean, tmp_path / "again", plan(reasons=REASONS, weights=turned), pile_bytes=2000)
    assert content(tmp_path / "again") == content(output)
    run(clean, tmp_path / "other", plan(reasons=REASONS, seed=2))
    one, other = table(output, "train"), table(tmp_path / "other", "train")
    assert [row.id for row in one] != [row.id for row in other]
    assert content(tmp_path / "other")["test.parquet"] == content(output)["test.parquet"]


def test_the_shuffle_mixes_sources_and_parts_copies(case: Any) -> None:
    _, output, _ = case
    train = table(output, "train")
    quarters = [Counter(row.source for row in train[part::4]) for part in range(4)]
    blocks = [Counter(row.source for row in train[part * len(train) // 4 :][: len(train) // 4]) for part in range(4)]
    for source in "ab":
        for counts in (*quarters, *blocks):
            expected = sum(row.source == source for row in train) / 4
            assert abs(counts[source] - expected) < 5 * math.sqrt(expected)
    neighbours = sum(one.id == two.id for one, two in itertools.pairwise(train))
    assert neighbours < 10


def test_a_duplicate_that_no_source_has_is_an_error(tmp_path: Path) -> None:
    clean = store(tmp_path / "clean", corpus())
    with pytest.raises(mixing.MixingError, match=r"a/gone#1.*run the deduplication again"):
        run(clean, tmp_path / "out", plan(reasons={"a/gone#1": "near"}))


@pytest.mark.parametrize("weight", [-1.0, math.inf, math.nan])
def test_a_weight_that_is_no_number_of_epochs_is_refused(weight: float) -> None:
    with pytest.raises(mixing.MixingError, match="weight of 'a'"):
        plan(weights={"a": weight})


def test_an_empty_source_mixes(tmp_path: Path) -> None:
    counted = run(store(tmp_path / "clean", []), tmp_path / "out", plan())
    assert mixing.metrics("none", plan(), counted)["splits"]["train"] == {"documents": 0, "bytes": 0}
    assert table(tmp_path / "out", "train") == []


def test_duplicates_are_read_from_the_stage(tmp_path: Path) -> None:
    import pyarrow as pa

    pq.write_table(pa.table({"id": ["x#1"], "reason": ["near"], "bytes": [3]}), tmp_path / "duplicates.parquet")
    manifest.write(tmp_path, "deduplicate", {})
    assert mixing.read_duplicates(tmp_path) == {"x#1": "near"}
