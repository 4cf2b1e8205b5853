"""Mixing: epochs, shares and caps; a shuffle that depends on the seed alone; splits by key; books that balance."""

import itertools
import math
import random
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pileline import documents, manifest, mixing
from pileline.boilerplate import Boilerplate
from pileline.documents import Document
from pileline.mixing import passes, piles

HOLDOUT = {"validation": 0.1, "test": 0.1}
WEIGHTS = {"b": 2.5, "a": 1.0, "c": 0.25, "d": 0.0}
EPOCHS = {"kind": "epochs"}
FOOTER = "All rights reserved."


FOOTERS = Boilerplate("line", frozenset({documents.normalize_for_key(FOOTER)}))


def corpus() -> list[Document]:
    rows = []
    for source in "abcd":
        for number in range(400):
            text = f"document {number} of {source}: " + "text é这 " * (number % 9)
            rows.append(Document(f"{source}/file#{number}", source, text, documents.key_of(text), f'{{"n":{number}}}'))
    return rows


def store(folder: Path, rows: list[Document], parts: Mapping[str, int] | None = None) -> Path:
    """Tables of the rows as cleaning leaves them, each source in its number of parts."""
    for source in "abcd":
        of = (parts or {}).get(source, 1)
        mine = [row for row in rows if row.source == source]
        for number in range(of):
            part = folder / source / f"{number + 1}-of-{of}"
            part.mkdir(parents=True)
            documents.write(part / "kept.parquet", mine[number::of])
            manifest.write(part, "clean", {})
    return folder


def plan(
    weights: Mapping[str, float] = WEIGHTS, caps: Mapping[str, float] | None = None, **changes: Any
) -> mixing.Plan:
    mix = {source: {"weight": weight, "cap_mb": (caps or {}).get(source)} for source, weight in weights.items()}
    reasons = changes.pop("reasons", {})
    stated: dict[str, Any] = {"mixing": EPOCHS, "holdout": HOLDOUT, "protected": {"a": 0.3}, "seed": 1}
    return mixing.Plan(mix, removals=mixing.Removals.of(reasons), **(stated | changes))


def run(
    clean: Path, output: Path, made: mixing.Plan, parts: Mapping[str, int] | None = None, **options: Any
) -> dict[str, Any]:
    """All of the stage; its metrics."""
    output.mkdir()
    tables = mixing.tables(clean, made.mix, parts or {})
    supply = mixing.survey(tables, made, options.get("threads", 1))
    epochs = mixing.resolve(made, supply)
    return mixing.metrics("small", "plain", made, supply, epochs, mixing.mix(tables, made, epochs, output, **options))


def table(output: Path, split: str) -> list[Document]:
    return list(documents.read(output / f"{split}.parquet"))


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def split(row: Document) -> str:
    return documents.split_of(row.key, **HOLDOUT)


def size(row: Document) -> int:
    return len(row.text.encode())


REASONS = {f"b/file#{number}": ["near", "exact", "near holdout"][number % 3] for number in range(0, 400, 7)}


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Document], Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("mix")
    rows = corpus()
    metrics = run(store(folder / "clean", rows), folder / "out", plan(reasons=REASONS))
    return rows, folder / "out", metrics


# ------------------------------------------------------------------------------------------ epochs
def test_copies_of_each_document_are_its_epochs(case: Any) -> None:
    rows, output, _ = case
    copies = Counter(row.id for row in table(output, "train"))
    for row in rows:
        weight = WEIGHTS[row.source]
        leaves = split(row) != "train" or row.id in REASONS or (row.source == "a" and documents.fraction(row.key) < 0.3)
        allowed = {0} if leaves else {math.floor(weight), math.ceil(weight)}
        assert copies[row.id] in allowed


def test_shares_come_out_in_the_corpus(tmp_path: Path) -> None:
    how = {"kind": "shares", "size_mb": 0.03, "most_epochs": 4}
    metrics = run(store(tmp_path / "clean", corpus()), tmp_path / "out", plan(mixing=how, protected={}))
    rows = {row["source"]: row for row in metrics["table"]}
    assert metrics["mixing"] == how
    for source, weight in WEIGHTS.items():
        assert rows[source]["share"] == pytest.approx(weight / sum(WEIGHTS.values()), abs=0.05)
    assert sum(row["effective_bytes"] for row in rows.values()) == pytest.approx(30_000, rel=0.1)


def test_a_cap_leaves_at_most_so_much_and_a_larger_one_only_adds(tmp_path: Path) -> None:
    clean = store(tmp_path / "clean", corpus())
    found = {}
    for cap in (0.002, 0.004):
        metrics = run(clean, tmp_path / str(cap), plan(caps={"b": cap}))
        row = next(row for row in metrics["table"] if row["source"] == "b")
        found[cap] = {row.id for row in table(tmp_path / str(cap), "train") if row.source == "b"}
        assert cap * 1e6 - 200 < row["bytes"] <= cap * 1e6 == row["cap_bytes"]
        assert row["unique_bytes"] > 0.004 * 1e6
        assert set(metrics["ledgers"]["b"]["removed"]) == {"cap"}
        assert row["documents"] == len(found[cap])
    assert found[0.002] < found[0.004]


# ------------------------------------------------------------------------------------- the corpus
def test_documents_travel_unchanged_and_splits_follow_the_key(case: Any) -> None:
    rows, output, _ = case
    by_id = {row.id: row for row in rows}
    for name in mixing.SPLITS:
        found = table(output, name)
        assert all(by_id[row.id] == row and split(row) == name for row in found)
        assert pq.read_schema(output / f"{name}.parquet").equals(documents.SCHEMA)
    holdout = [table(output, name) for name in ("validation", "test")]
    for found in holdout:
        sources = [row.source for row in found]
        assert sources == sorted(sources)
        assert len({row.id for row in found}) == len(found)
    kept = {row.id for row in rows if split(row) != "train" and row.id not in REASONS}
    assert kept == {row.id for found in holdout for row in found}


def test_no_key_of_the_holdout_is_in_training(case: Any) -> None:
    _, output, _ = case
    train = {row.key for row in table(output, "train")}
    assert train.isdisjoint(row.key for name in ("validation", "test") for row in table(output, name))


def test_books_balance_over_documents_read_by_hand(case: Any) -> None:
    rows, output, metrics = case
    unique = {row.id: row for name in mixing.SPLITS for row in table(output, name)}
    train = table(output, "train")
    assert metrics["splits"]["train"] == {"documents": len(train), "bytes": sum(map(size, train))}
    for line in metrics["table"]:
        source = line["source"]
        mine = [row for row in train if row.source == source]
        assert line["effective_bytes"] == sum(map(size, mine))
        assert line["documents"] == len({row.id for row in mine})
        assert line["unique_bytes"] == sum(
            size(row)
            for row in rows
            if row.source == source and split(row) == "train" and row.id not in REASONS
            if not (source == "a" and documents.fraction(row.key) < 0.3)
        )
        ledger = metrics["ledgers"][source]
        assert ledger["in"]["documents"] == sum(row.source == source for row in rows)
        assert ledger["kept"]["bytes"] == sum(size(row) for row in unique.values() if row.source == source)
    assert sum(line["share"] for line in metrics["table"]) == pytest.approx(1)
    assert set(metrics["ledgers"]["a"]["removed"]) == {"task"}
    assert set(metrics["ledgers"]["b"]["removed"]) == {"near", "exact", "near holdout"}
    assert set(metrics["ledgers"]["c"]["removed"]) == {"weight"}
    assert [part["id"] for part in metrics["sample"]] == [row.id for row in train[:10]]


def test_boilerplate_is_cut_from_training_alone_and_the_bytes_are_booked(tmp_path: Path) -> None:
    rows = [
        row._replace(text=FOOTER if number % 10 == 0 else f"{row.text}\n{FOOTER}")
        for number, row in enumerate(corpus())
    ]
    made = plan(dict.fromkeys("abcd", 1.0), protected={}, boilerplate=FOOTERS)
    metrics = run(store(tmp_path / "clean", rows), tmp_path / "out", made)
    train = {row.id: row for row in table(tmp_path / "out", "train")}
    empty = {row.id for row in rows if split(row) == "train" and row.text == FOOTER}
    assert set(train) == {row.id for row in rows if split(row) == "train"} - empty
    assert all(FOOTER not in row.text for row in train.values())
    assert all(FOOTER in row.text for name in ("validation", "test") for row in table(tmp_path / "out", name))
    removed = [ledger["removed"]["boilerplate"]["documents"] for ledger in metrics["ledgers"].values()]
    assert sum(removed) == len(empty) > 0
    rewritten = sum(ledger["rewritten_bytes"] for ledger in metrics["ledgers"].values())
    assert rewritten == len(train) * (len(FOOTER) + 1)
    assert sum(row["unique_bytes"] for row in metrics["table"]) == sum(map(size, train.values()))


def test_what_leaves_here_is_listed_with_its_reason(case: Any, tmp_path: Path) -> None:
    rows, output, metrics = case
    listed = pq.read_table(output / "removed.parquet").to_pylist()
    assert [row["source"] for row in listed] == sorted(row["source"] for row in listed)
    standing = {row.id for name in mixing.SPLITS for row in table(output, name)}
    assert sorted(row["id"] for row in listed) == sorted({row.id for row in rows} - standing - set(REASONS))
    for source, ledger in metrics["ledgers"].items():
        for reason in ("task", "weight"):
            sizes = [row["bytes"] for row in listed if (row["source"], row["reason"]) == (source, reason)]
            amount = ledger["removed"].get(reason, {"documents": 0, "bytes": 0})
            assert {"documents": len(sizes), "bytes": sum(sizes)} == amount


# ------------------------------------------------------------------------- the same bytes, whatever
def test_the_shuffle_depends_on_the_seed_alone(case: Any, tmp_path: Path) -> None:
    rows, output, _ = case
    again = list(rows)
    random.Random(3).shuffle(again)
    clean = store(tmp_path / "clean", again)
    run(clean, tmp_path / "again", plan(dict(reversed(WEIGHTS.items())), reasons=REASONS), pile_bytes=2000)
    assert content(tmp_path / "again") == content(output)
    run(clean, tmp_path / "other", plan(reasons=REASONS, seed=2))
    one, other = table(output, "train"), table(tmp_path / "other", "train")
    assert [row.id for row in one] != [row.id for row in other]
    for name in ("validation", "test"):
        assert content(tmp_path / "other")[f"{name}.parquet"] == content(output)[f"{name}.parquet"]


@settings(max_examples=8)
@given(
    st.fixed_dictionaries({source: st.integers(1, 4) for source in "abcd"}),
    st.integers(200, 10**5),
    st.integers(0, 99),
)
def test_the_corpus_has_the_same_bytes_for_any_parts(
    tmp_path_factory: pytest.TempPathFactory, parts: dict[str, int], pile_bytes: int, order: int
) -> None:
    folder = tmp_path_factory.mktemp("parts")
    rows = corpus()
    made = plan(caps={"b": 0.004}, reasons=REASONS, boilerplate=FOOTERS)
    one = run(store(folder / "clean", rows), folder / "one", made)
    random.Random(order).shuffle(rows)
    cut = run(store(folder / "cut", rows, parts), folder / "out", made, parts, pile_bytes=pile_bytes)
    assert content(folder / "one") == content(folder / "out")
    assert manifest.canonical_json(one) == manifest.canonical_json(cut)


def test_two_processes_write_the_bytes_that_one_writes(
    case: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, output, metrics = case
    monkeypatch.setattr(passes, "PROCESS_BYTES", 1000)
    assert passes._worth(2, 6, 10_000) == 2
    clean = store(tmp_path / "clean", rows, {"a": 3})
    again = run(clean, tmp_path / "two", plan(reasons=REASONS), {"a": 3}, threads=2, pile_bytes=20_000)
    assert content(tmp_path / "two") == content(output)
    assert again == metrics


def test_no_process_is_started_for_little_work() -> None:
    assert passes._worth(8, 100, 10**6) == 1
    assert passes._worth(8, 3, 10**12) == 3
    assert passes._worth(8, 100, 10**12) == 8
    assert passes._worth(8, 0, 0) == 1


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


# ------------------------------------------------------------------------------------------- piles
@settings(max_examples=25)
@given(st.lists(st.binary(min_size=16, max_size=16), unique=True, max_size=80), st.integers(1, 3000), st.data())
def test_piles_are_a_sort(
    tmp_path_factory: pytest.TempPathFactory, places: list[bytes], pile_bytes: int, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("piles")
    lengths = [data.draw(st.integers(0, 200)) for _ in places]
    rows = [(f"s/{i}", "s", "x" * n, b"k" * 16, "{}", p) for i, (p, n) in enumerate(zip(places, lengths, strict=True))]
    cards, schema = piles.Deal.of(sum(lengths), pile_bytes), documents.SCHEMA.append(piles.PLACE)
    cut = data.draw(st.integers(1, 40))
    dealt = []
    for half in (0, 1):
        with piles.Dealer(folder / f"table-{half}", schema, cards) as dealer:
            for start in range(half * cut, len(rows), 2 * cut):
                columns = list(zip(*rows[start : start + cut], strict=True))
                arrays = [pa.array(column, part.type) for column, part in zip(columns, schema, strict=True)]
                dealer.add(pa.record_batch(arrays, schema=schema))
        dealt.append(dealer.dealt)
    found = []
    for number, pile in enumerate(piles.collect(dealt)):
        for path in piles.sort(pile, cards, folder / f"sorted-{number:03d}"):
            found += [place for batch in piles.read(path) for place in batch.column("place").to_pylist()]
    assert found == sorted(places)
    assert {path.name for path in folder.iterdir()} == {"table-0", "table-1"}


def test_there_are_never_more_piles_than_are_allowed_and_large_ones_are_dealt_again() -> None:
    assert piles.Deal.of(10**15, 64_000_000).bits == 8
    assert piles.Deal.of(10**15, 64_000_000, skip=60).bits == 4
    assert piles.Deal.of(0, 64_000_000).bits == 0
    assert piles.Deal.of(65_000_000, 64_000_000).bits == 1


# ------------------------------------------------------------------------------------ bad and empty
def deduplicated(folder: Path, reasons: Mapping[str, str]) -> Path:
    folder.mkdir()
    columns = {"id": list(reasons), "reason": list(reasons.values()), "bytes": [3] * len(reasons)}
    pq.write_table(pa.table(columns), folder / "duplicates.parquet")
    manifest.write(folder, "deduplicate", {})
    return folder


def test_a_duplicate_that_no_source_has_is_an_error(tmp_path: Path) -> None:
    clean = store(tmp_path / "clean", corpus())
    gone = mixing.Removals.read(deduplicated(tmp_path / "duplicates", {"a/file#1": "exact", "a/gone#1": "near"}))
    with pytest.raises(mixing.MixingError, match=r"1 duplicates .*'a/gone#1'.*run the deduplication again"):
        run(clean, tmp_path / "out", mixing.Plan(plan().mix, EPOCHS, HOLDOUT, {}, gone, 1))


@pytest.mark.parametrize("weight", [-1.0, math.inf, math.nan])
def test_a_weight_that_is_no_number_of_epochs_is_refused(weight: float) -> None:
    with pytest.raises(mixing.MixingError, match="weight of 'a'"):
        plan({"a": weight})


@pytest.mark.parametrize("cap", [0.0, -1.0, math.inf, math.nan])
def test_a_cap_that_is_no_size_is_refused(cap: float) -> None:
    with pytest.raises(mixing.MixingError, match="cap_mb of 'a'"):
        plan({"a": 1.0}, {"a": cap})


@pytest.mark.parametrize("how", [EPOCHS, {"kind": "shares", "size_mb": 1}, {"kind": "temperature", "temperature": 2}])
def test_an_empty_source_mixes(tmp_path: Path, how: dict[str, Any]) -> None:
    metrics = run(store(tmp_path / "clean", []), tmp_path / "out", plan(mixing=how, caps={"a": 1}))
    assert metrics["splits"]["train"] == {"documents": 0, "bytes": 0}
    assert table(tmp_path / "out", "train") == []


@given(st.dictionaries(st.text(max_size=8), st.sampled_from(["near", "exact", "near holdout"])), st.lists(st.text()))
def test_removals_find_what_a_dictionary_finds(reasons: dict[str, str], others: list[str]) -> None:
    removals = mixing.Removals.of(reasons)
    ids = [*reasons, *others]
    places = removals.find(ids).tolist()
    found = [removals.names[removals.reasons[place]] if place >= 0 else None for place in places]
    assert found == [reasons.get(name) for name in ids]
    assert removals.counts() == dict(sorted(Counter(reasons.values()).items()))


def test_duplicates_are_read_from_the_stage(tmp_path: Path) -> None:
    reasons = {f"x#{number}": ["near", "exact"][number % 2] for number in range(9)}
    removals = mixing.Removals.read(deduplicated(tmp_path / "some", reasons))
    assert len(removals) == 9
    assert removals.counts() == {"exact": 4, "near": 5}
    assert np.array_equal(removals.digests, mixing.Removals.of(reasons).digests)
    assert len(mixing.Removals.read(deduplicated(tmp_path / "none", {}))) == 0
