"""Normalized code points, n-grams, decontamination and boilerplate against plain Python: strings, sets and counts."""

import random
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pileline import boilerplate, deduplication, documents, manifest
from pileline.deduplication import codes, words
from pileline.deduplication.codes import Codes, normalized
from pileline.deduplication.inventory import fractions
from pileline.documents import Document

from tests.unit.test_deduplication import run, store

TEXTS = st.lists(st.text(alphabet="aB c\n_.ﬁß①ẞé\u0301这\u0000𝄞\ud800", max_size=25), min_size=1, max_size=9)


def strings(made: Codes) -> list[str]:
    whole = made.values.tobytes().decode("utf-32-le", "surrogatepass")
    return [whole[start : start + length] for start, length in zip(made.starts, made.lengths, strict=True)]


@given(TEXTS)
@settings(max_examples=300)
def test_code_points_are_those_of_the_normalized_text(texts: list[str]) -> None:
    made = Codes.normalized(texts)
    assert strings(made) == [normalized(text) for text in texts]
    assert len(made.values) == sum(len(normalized(text)) + 1 for text in texts)
    assert strings(Codes.of(texts)) == texts


@given(st.text(max_size=60))
@settings(max_examples=300)
def test_any_text_is_normalized_as_for_its_key(text: str) -> None:
    assert strings(Codes.normalized([text, "x"])) == [normalized(text), "x"]


def test_every_code_point_is_told_as_the_regular_expression_tells_it() -> None:
    everything = "".join(map(chr, range(0x110000)))
    found = np.flatnonzero(codes._letters_and_digits()).tolist()
    assert found == [match.start() for match in re.finditer(r"[^\W_]", everything)]


@given(TEXTS, st.integers(1, 4))
def test_ngrams_are_equal_exactly_where_runs_of_words_are(texts: list[str], size: int) -> None:
    hashes, counts = words.ngrams(Codes.normalized(texts), size, seed=3)
    cut = [[word for word in normalized(text).split(" ") if word] for text in texts]
    runs = [tuple(some[at : at + size]) for some in cut for at in range(len(some) - size + 1)]
    assert counts.tolist() == [max(len(some) - size + 1, 0) for some in cut]
    named: dict[tuple[str, ...], int] = {}
    for one, value in zip(runs, hashes.tolist(), strict=True):
        assert named.setdefault(one, value) == value
    assert len(set(named.values())) == len(named)
    kept, numbers = words.distinct(hashes, counts)
    assert sorted(set(hashes.tolist())) == sorted(set(kept.tolist()))
    assert numbers.tolist() == [len({tuple(s[at : at + size]) for at in range(len(s) - size + 1)}) for s in cut]


@given(st.lists(st.binary(min_size=16, max_size=16), max_size=20))
def test_fractions_are_those_of_the_documents(keys: list[bytes]) -> None:
    assert fractions(np.array(keys, "S16")).tolist() == [documents.fraction(key) for key in keys]


# ------------------------------------------------------------------------------------- decontamination
TRAINING, TESTED = b"\xff", b"\x00"  # first bytes of keys: in train; in the test of a task on 5 %


def task_corpus(draw: random.Random) -> list[Document]:
    """Tests in source a, training text in both: pieces of tests and phrases of few words in all kinds of places."""
    vocabulary = ["".join(draw.choices("abcdefgh", k=draw.randint(1, 5))) for _ in range(3000)]
    tests = [draw.choices(vocabulary, k=draw.randint(1, 40)) for _ in range(12)]
    phrase = draw.choices(vocabulary, k=7)
    tests[0] = [*tests[0][:3], *phrase, *tests[0][3:]]
    rows = [("a", TESTED, test) for test in tests]
    for _ in range(60):
        test, own = draw.choice(tests), draw.choices(vocabulary, k=400)
        start, place = draw.randrange(len(test)), draw.randrange(len(own))
        piece = draw.choice([phrase, test[start : start + draw.randint(1, 12)]])
        rows.append((draw.choice("ab"), TRAINING, [*own[:place], *piece, *own[place:]]))
    joined = [(source, first, draw.choice([" ", ", ", "\n"]).join(text)) for source, first, text in rows]
    return [
        Document(f"{source}/x#{number}", source, text, first + documents.key_of(text)[1:])
        for number, (source, first, text) in enumerate(joined)
    ]


def grams(row: Document, size: int) -> set[tuple[str, ...]]:
    cut = normalized(row.text).split(" ")
    return {tuple(cut[at : at + size]) for at in range(len(cut) - size + 1)}


@pytest.mark.parametrize("seed", range(4))
def test_decontamination_agrees_with_sets_of_words(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    size, at_most = 5, 4
    rows = task_corpus(random.Random(seed))
    tests, training = ([row for row in rows if row.key[:1] == first] for first in (TESTED, TRAINING))
    tests = [row for row in tests if documents.fraction(row.key) < 0.05]
    held = Counter(
        gram for row in training for gram in grams(row, size) & set().union(*(grams(t, size) for t in tests))
    )
    rare = {gram for gram, count in held.items() if count <= at_most}
    expected = {row.id: grams(row, size) & rare for row in training if grams(row, size) & rare}
    assert 3 < len(expected) < len(training)
    assert len(rare) < len(held)
    for name, waiting in (("one", 1 << 22), ("two", 3)):
        monkeypatch.setattr("pileline.deduplication.contaminated._WAITING", waiting)
        settings_ = {"words": size, "at_most": at_most}
        removed, metrics = run(
            store(tmp_path / name / "clean", rows),
            tmp_path / name / "out",
            deduplication.Method(kind="none"),
            tasks={"t": {"source": "a", "test": 0.05}},
            decontamination=settings_,
        )
        found = {row["id"]: row for row in removed if row["reason"] == "contaminated"}
        assert set(found) == set(expected)
        for number, row in found.items():
            shared = {test.id: len(expected[number] & grams(test, size)) for test in tests}
            assert shared[row["partner"]] == max(shared.values())
            (partner,) = [test for test in tests if test.id == row["partner"]]
            assert row["similarity"] == shared[row["partner"]] / len(grams(partner, size))
        told = metrics["decontamination"]
        sizes = {row.id: len(row.text.encode()) for row in rows}
        matched = set().union(*expected.values())
        assert told["tasks"] == {
            "t": {"documents": len(found), "bytes": sum(sizes[n] for n in found), "ngrams": len(matched)}
        }
        assert told["common"] == len(held) - len(rare)
        assert told["short"] == sum(not grams(test, size) for test in tests)
        assert all(tuple(example["text"].split(" ")) in held for example in told["examples"])


def test_copies_of_a_leak_do_not_make_it_a_phrase(tmp_path: Path) -> None:
    draw = random.Random(1)
    leak = " ".join("".join(draw.choices("abcdefgh", k=6)) for _ in range(13))
    long = " ".join("".join(draw.choices("ijklmnop", k=6)) for _ in range(60))
    rows = [Document("a/x#0", "a", f"{leak} and what is asked {long[:300]}", TESTED + bytes(15))]
    rows += [Document(f"b/x#{n}", "b", f"{long} {leak}", TRAINING + bytes(15)) for n in range(5)]
    removed, metrics = run(
        store(tmp_path / "clean", rows),
        tmp_path / "out",
        deduplication.Method(kind="none", threshold=1.0),
        tasks={"t": {"source": "a", "test": 0.05}},
        decontamination={"words": 13, "at_most": 1},
    )
    assert [row["reason"] for row in removed] == ["contaminated"] * 5
    assert metrics["decontamination"]["tasks"]["t"]["documents"] == 5


def test_without_decontamination_nothing_is_told_and_nothing_leaves(tmp_path: Path) -> None:
    clean = store(tmp_path / "clean", task_corpus(random.Random(0)))
    removed, metrics = run(clean, tmp_path / "out", deduplication.Method(kind="none"))
    assert "contaminated" not in {row["reason"] for row in removed}
    assert metrics["decontamination"] is None


@pytest.mark.parametrize("settings_", [{"words": 0}, {"at_most": 1.5}, {"wrods": 13}])
def test_a_wrong_setting_of_decontamination_is_refused(settings_: dict) -> None:
    with pytest.raises(deduplication.DecontaminationError, match="decontamination: "):
        deduplication.Decontamination.from_dict(settings_)


def test_a_task_of_a_source_that_is_not_read_is_refused(tmp_path: Path) -> None:
    clean = store(tmp_path / "clean", task_corpus(random.Random(0)))
    tasks = {"t": {"source": "c", "test": 0.1}}
    with pytest.raises(deduplication.InventoryError, match="'t' tests on source 'c'"):
        run(clean, tmp_path / "out", deduplication.Method(), tasks=tasks, decontamination={})


# ------------------------------------------------------------------------------------------- boilerplate
LINES = ["Home | News | Contact us", "home news contact us", "ALL RIGHTS RESERVED.", "", "   ", "-----", "x", "short"]
BREAKS = {"line": r"\n", "paragraph": r"\n[^\S\n]*\n\s*"}


@pytest.mark.parametrize("unit", ["line", "paragraph"])
@pytest.mark.parametrize("waiting", [1 << 22, 5])
def test_boilerplate_agrees_with_counts_of_units(
    tmp_path: Path, unit: str, waiting: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pileline.deduplication.lookup._WAITING", waiting)
    monkeypatch.setattr("pileline.deduplication.boilerplate._BLOCK", waiting)
    draw = random.Random(4)
    rows = []
    for number in range(60):
        lines = [f"{draw.choice(LINES)}{draw.choice(['', f' of {draw.randrange(9)} pages'])}" for _ in range(8)]
        text = "".join(line + draw.choice(["\n", "\n\n", "\n \n\n"]) for line in lines)
        rows.append(Document(f"a/x#{number}", "a", text, draw.choice([b"\xff", b"\x00"]) + documents.key_of(text)[1:]))
    settings_ = {"unit": unit, "documents": 4, "characters": 7}
    method = deduplication.Method.from_dict({"kind": "none", "boilerplate": settings_})
    removed, metrics = run(store(tmp_path / "clean", rows), tmp_path / "out", method)
    gone = {row["id"] for row in removed}
    training = [row for row in rows if row.key[0] == 0xFF and row.id not in gone]
    cut = {row.id: re.split(BREAKS[unit], row.text) for row in training}
    counts = Counter(
        text for units in cut.values() for text in {documents.normalize_for_key(one) for one in units} if len(text) >= 7
    )
    expected = {text: count for text, count in counts.items() if count >= 4}
    assert 1 < len(expected) < len(counts)
    table = pq.read_table(tmp_path / "out" / "boilerplate.parquet").to_pylist()
    assert table == sorted(
        ({"text": text, "documents": count} for text, count in expected.items()),
        key=lambda row: (-row["documents"], row["text"]),
    )
    taken = [one for units in cut.values() for one in units if documents.normalize_for_key(one) in expected]
    told = metrics["boilerplate"]
    assert (told["lines"], told["occurrences"]) == (len(expected), len(taken))
    assert told["bytes"] == sum(len(one.encode()) for one in taken)
    read = boilerplate.read(tmp_path / "out")
    assert (read.unit, read.texts) == (unit, frozenset(expected))
    for row in training:
        left = re.split(BREAKS[unit], boilerplate.strip(row.text, read))
        stays = [one for one in cut[row.id] if documents.normalize_for_key(one) not in expected]
        assert [one.strip() for one in left if one.strip()] == [one.strip() for one in stays if one.strip()]


@given(st.lists(st.sampled_from([*LINES, "\n", "\n \n", "é"]), max_size=12), st.sampled_from(["line", "paragraph"]))
def test_stripping_takes_whole_units_and_leaves_the_rest_as_it_is(pieces: list[str], unit: str) -> None:
    text = "\n".join(pieces)
    assert "".join(boilerplate.cut(text, unit)) == text
    nothing = boilerplate.Boilerplate(unit, frozenset(["stands nowhere"]))
    assert boilerplate.strip(text, nothing) is text
    found = boilerplate.Boilerplate(unit, frozenset(["home news contact us"]))
    stripped = boilerplate.strip(text, found)
    kept = [one for one in boilerplate.cut(text, unit)[::2] if documents.normalize_for_key(one) not in found.texts]
    assert "home news" not in documents.normalize_for_key(stripped) or unit == "paragraph"
    assert boilerplate.cut(stripped, unit)[::2] == (kept or [""]) or unit == "paragraph"
    assert stripped == text or len(stripped) < len(text)


def test_a_stripped_document_keeps_its_breaks_and_may_be_empty() -> None:
    menu = boilerplate.Boilerplate("line", frozenset(["home news contact us"]))
    line = LINES[0]
    assert boilerplate.strip(f"{line}\nOne\n\n{line}\nTwo\n", menu) == "One\n\nTwo\n"
    assert boilerplate.strip(f"One\n{line}", menu) == "One"
    assert boilerplate.strip(f"{line}\n{line}", menu) == ""
    menu = boilerplate.Boilerplate("paragraph", frozenset(["home news contact us"]))
    assert boilerplate.strip(f"{line}\n\nOne\n{line}\n\n\n{line}\n\nTwo", menu) == f"One\n{line}\n\nTwo"


def test_the_table_is_written_where_nothing_is_asked(tmp_path: Path) -> None:
    removed, metrics = run(store(tmp_path / "clean", []), tmp_path / "out", deduplication.Method(kind="none"))
    assert (removed, metrics["boilerplate"]) == ([], None)
    assert manifest.read(tmp_path / "out").path("boilerplate.parquet").exists()
    assert boilerplate.strip("text", boilerplate.read(tmp_path / "out")) == "text"
