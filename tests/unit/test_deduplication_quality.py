"""Injected duplicates against similarities of Python sets, and the tables of hashes against dictionaries."""

import pickle
import random
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pileline import documents
from pileline.deduplication import Method, injected, lookup, quality
from pileline.deduplication.codes import normalized

SHINGLE = 13


def prose(seed: int, count: int = 300) -> str:
    draw = random.Random(seed)
    return " ".join("".join(draw.choices("abcdefghijklmnop", k=draw.randint(2, 9))).capitalize() for _ in range(count))


def jaccard(left: str, right: str) -> float:
    a, b = (
        {text[place : place + SHINGLE] for place in range(max(1, len(text) - SHINGLE + 1))}
        for text in map(normalized, (left, right))
    )
    return len(a & b) / len(a | b)


def test_copies_are_what_they_are_called() -> None:
    text = prose(1)
    made = injected.copies(text, SHINGLE, 1)
    first = dict(reversed(made))
    for kind in ("exact", "case", "whitespace"):
        assert documents.key_of(first[kind]) == documents.key_of(text)
        assert (first[kind] == text) == (kind == "exact")
    for share in (0.05, 0.1, 0.2):
        copy = first[f"edited {100 * share:.0f} %"]
        assert sum(a != b for a, b in zip(text, copy, strict=True)) == pytest.approx(share * len(text), abs=1)
        assert jaccard(text, copy) == pytest.approx((1 - share) / (1 + share), abs=0.02)
    assert text.startswith(first["truncated"])
    assert jaccard(text, first["truncated"]) == pytest.approx(0.5, abs=0.01)
    scattered = [copy for kind, copy in made if kind == "scattered"]
    for wanted, copy in zip(injected.WANTED, scattered, strict=True):
        assert jaccard(text, copy) == pytest.approx(wanted, abs=0.12)


def test_quality_is_measured_against_true_similarity(tmp_path: Path) -> None:
    texts = [prose(seed) for seed in range(12)]
    told = quality(texts, Method(kind="none", keep="longest"), 3, tmp_path)
    made = [(kind, jaccard(text, copy)) for n, text in enumerate(texts) for kind, copy in injected.copies(text, 13, n)]
    planted, expected = Counter(k for k, _ in made), Counter(kind for kind, true in made if true >= 0.8)
    assert told["kinds"] == [
        {"kind": kind, "planted": planted[kind], "expected": expected[kind], "found": entry["found"]}
        for kind, entry in zip(planted, told["kinds"], strict=True)
    ]
    found = {entry["kind"]: entry["found"] for entry in told["kinds"]}
    assert [found[kind] for kind in ("exact", "case", "whitespace", "edited 5 %")] == [12] * 4
    assert (found["edited 20 %"], found["truncated"]) == (0, 0)
    precision = told["precision"]
    assert precision["removed"] == sum(found.values())
    assert precision["precision"] == precision["planted"] / precision["removed"] == 1.0
    assert precision["collisions"] > precision["removed"]
    assert precision["collision_precision"] < 0.9
    inside = [true for kind, true in made if kind == "scattered" and true >= 0.4]
    assert sum(told["recall"]["pairs"]) == len(inside)
    assert told["recall"]["pairs"] == np.histogram(inside, told["recall"]["edges"])[0].tolist()
    assert list(tmp_path.iterdir()) == []


def test_few_bands_miss_duplicates_and_say_so(tmp_path: Path) -> None:
    texts = [prose(seed) for seed in range(12)]
    told = quality(texts, Method(kind="minhash", bands=1, rows=20), 3, tmp_path)
    kinds = {entry["kind"]: entry for entry in told["kinds"]}
    assert kinds["edited 5 %"]["found"] < kinds["edited 5 %"]["expected"] == 12
    assert kinds["exact"]["found"] == 12


def test_without_a_document_there_is_no_quality(tmp_path: Path) -> None:
    told = quality([], Method(), 1, tmp_path)
    assert told["kinds"] == []
    assert told["precision"]["precision"] is None
    assert sum(told["recall"]["pairs"]) == 0


ENTRIES = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 6)), max_size=60)


@given(ENTRIES, st.lists(st.integers(0, 45), max_size=40), st.sampled_from([1, 5, 1 << 22]), st.integers(1, 4))
@settings(max_examples=60)
def test_a_table_finds_what_a_dictionary_finds(
    entries: list[tuple[int, int]], asked: list[int], waiting: int, groups: int
) -> None:
    spread = np.uint64(0x9E3779B97F4A7C15)  # so that small numbers fall in all partitions
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(lookup, "_WAITING", waiting)
        patch.setattr(lookup, "_COUNTED", waiting)
        builder = lookup.Builder(Path(name) / "table", 64)
        for number, owner in entries:
            builder.add(np.array([number], np.uint64) * spread, np.array([owner], np.int32))
        table = pickle.loads(pickle.dumps(builder.build()))
        places, found_at = table.find(np.array(asked, np.uint64) * spread)
        held = Counter(number for number, _ in entries)
        assert sorted(places.tolist()) == [place for place, number in enumerate(asked) if number in held]
        assert [held[asked[place]] for place in places.tolist()] == table.counts(found_at).tolist()
        group = places % groups
        found = table.shared(group, found_at, 7)
        expected = Counter(
            (place % groups, owner) for place in places.tolist() for n, owner in entries if n == asked[place]
        )
        assert list(zip(*(column.tolist() for column in found), strict=True)) == [
            (*pair, times) for pair, times in sorted(expected.items())
        ]
