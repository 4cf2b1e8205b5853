"""The stage's library on small corpora against brute force over all pairs, and its promises."""

import itertools
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from pileline import deduplication, documents, manifest
from pileline.deduplication import lookup, minhash
from pileline.deduplication.codes import Codes, groups
from pileline.deduplication.contained import HASH_BITS, Protected
from pileline.documents import Document
from pileline.parts import folders

HOLDOUT = {"validation": 0.1, "test": 0.15}
PROTECTED = {"a": 0.35}
METHOD = deduplication.Method(kind="minhash", shingle=5, bands=40, rows=3)


def corpus(seed: int = 1) -> list[Document]:
    """Documents of two sources: originals, edited copies, exact copies in other letters and across sources."""
    draw = random.Random(seed)
    vocabulary = ["".join(draw.choices("abcdefghijk", k=draw.randint(2, 7))) for _ in range(400)]
    texts: list[str] = []
    for _ in range(90):
        words = draw.choices(vocabulary, k=draw.randint(4, 60))
        texts.append(" ".join(words))
        for _ in range(draw.choice([0, 0, 1, 3])):
            copy = list(words)
            for place in draw.sample(range(len(copy)), k=min(len(copy), draw.choice([0, 1, 1, 2, 4]))):
                copy[place] = draw.choice(vocabulary)
            texts.append(draw.choice([str.upper, str.title, str.lower])(" ".join(copy)) + draw.choice(["", "!", "."]))
    texts += ["!!!", "???", "!!!", "这本书很好", "这本书很好！", "x", "x."]
    draw.shuffle(texts)
    sources = [draw.choice("ab") for _ in texts]
    return [
        Document(f"{source}/file#{number}", source, text, documents.key_of(text))
        for number, (source, text) in enumerate(zip(sources, texts, strict=True))
    ]


def store(folder: Path, rows: list[Document], parts: int = 1) -> Path:
    """Cleaned sources a and b, their rows dealt to so many parts."""
    for source in "ab":
        mine = [row for row in rows if row.source == source]
        for number, part in enumerate(folders(folder / source, parts)):
            part.mkdir(parents=True)
            documents.write(part / "kept.parquet", mine[number::parts])
            manifest.write(part, "clean", {})
    return folder


def run(
    clean: Path,
    output: Path,
    method: deduplication.Method,
    seed: int = 1,
    sources: tuple[str, ...] = ("b", "a"),
    guards: tuple[str, ...] = (),
    parts: int = 1,
    threads: int = 1,
    tasks: dict[str, Any] | None = None,
    decontamination: dict[str, int] | None = None,
) -> tuple[list[dict[str, Any]], Any]:
    """The stage as the notebook runs it; returns the table's rows and the metrics."""
    output.mkdir()
    inventory = deduplication.read(clean, list(sources), HOLDOUT, PROTECTED, guards, dict.fromkeys("ab", parts))
    findings = deduplication.find_exact(inventory, method)
    scanned = deduplication.scan(
        inventory, findings.staying, method, seed, output, tasks or {}, decontamination, threads
    )
    deduplication.find_contained(findings, scanned)
    deduplication.find_contaminated(findings, scanned)
    order = deduplication.keep_order(findings, method)
    protected, near = inventory.protected[order], method.kind == "minhash"
    found = deduplication.relevant(deduplication.buckets(scanned.hashes, order), protected, near)
    shingler = deduplication.Shingler(method.shingle, seed)
    similarity = deduplication.similarity_between(inventory, order, np.unique(found.member), shingler, output)
    resolution = deduplication.resolve(found, protected, near, method.threshold, similarity)
    deduplication.add_near(findings, order, resolution)
    deduplication.write(findings, output / "duplicates.parquet")
    boilerplate = deduplication.find_boilerplate(inventory, findings.staying, method.boilerplate, seed, output, threads)
    boilerplate.write(output)
    ledgers = deduplication.ledgers(findings)
    metrics = deduplication.metrics("small", method, findings, scanned, found, resolution, ledgers)
    metrics["decontamination"] = deduplication.decontamination(findings, scanned, decontamination)
    metrics["boilerplate"] = boilerplate.metrics(method.boilerplate)
    manifest.write(output, "deduplicate", metrics)
    return pq.read_table(output / "duplicates.parquet").to_pylist(), metrics


def shingles(text: str, size: int = 5) -> set[str]:
    text = documents.normalize_for_key(text) or text
    return {text[i : i + size] for i in range(max(1, len(text) - size + 1))}


def jaccard(left: Document, right: Document) -> float:
    a, b = shingles(left.text), shingles(right.text)
    return len(a & b) / len(a | b)


def containment(training: Document, protected: Document) -> float:
    """The larger share of one text that stands in the other, of those that have at least 50 shingles."""
    a, b = shingles(training.text), shingles(protected.text)
    return max((len(a & b) / len(whole) for whole in (a, b) if len(whole) >= 50), default=0.0)


def split(row: Document) -> str:
    return documents.split_of(row.key, **HOLDOUT)


def guarded(row: Document) -> bool:
    return split(row) != "train" or documents.fraction(row.key) < PROTECTED.get(row.source, 0)


@pytest.fixture(scope="module", params=["none", "exact", "minhash"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp(request.param)
    rows = corpus()
    method = deduplication.Method(kind=request.param, shingle=5, bands=40, rows=3)
    removed, metrics = run(store(folder / "clean", rows), folder / "out", method)
    return request.param, {row.id: row for row in rows}, {row["id"]: row for row in removed}, metrics


def test_the_corpus_of_these_tests_has_every_case(case: Any) -> None:
    kind, rows, removed, _ = case
    reasons = {(row["reason"], row["split"] == "train") for row in removed.values()}
    expected = {("near holdout", True), ("exact", False)}
    expected |= {("exact", True)} if kind != "none" else set()
    expected |= {("near", True)} if kind == "minhash" else set()
    assert reasons == expected
    assert any(split(row) == "train" and guarded(row) for row in rows.values())


def test_each_removal_has_a_partner_with_the_stated_similarity(case: Any) -> None:
    _, rows, removed, _ = case
    for name, row in removed.items():
        mine, partner = rows[name], rows[row["partner"]]
        assert name != row["partner"]
        assert row["bytes"] == len(mine.text.encode())
        assert (row["source"], row["partner_source"], row["split"]) == (mine.source, partner.source, split(mine))
        overlap = containment(mine, partner) if row["reason"] == "near holdout" else 0.0
        measured = overlap if overlap >= 0.8 and mine.key != partner.key else jaccard(mine, partner)
        assert row["similarity"] == pytest.approx(measured)
        if row["reason"] == "exact":
            assert mine.key == partner.key
            assert split(mine) == split(partner)
        else:
            assert row["similarity"] >= 0.8
            assert split(mine) == "train"
            assert not guarded(mine)
            assert guarded(partner) == (row["reason"] == "near holdout")


def test_partners_lead_to_a_document_that_stays(case: Any) -> None:
    _, _, removed, _ = case
    for row in removed.values():
        if row["reason"] != "exact":
            assert row["partner"] not in removed
        else:
            partner = removed.get(row["partner"])
            assert partner is None or partner["reason"] != "exact"


def test_holdout_loses_exact_copies_and_nothing_else(case: Any) -> None:
    _, rows, removed, _ = case
    for part in ("validation", "test"):
        mine = [row for row in rows.values() if split(row) == part]
        kept = [row for row in mine if row.id not in removed]
        assert len(kept) == len({row.key for row in mine}) == len({row.key for row in kept})


def test_training_keeps_nothing_like_the_holdout_or_like_itself(case: Any) -> None:
    """40 bands of 3 rows find a pair of 0.8 with probability 1 - 1e-12, so this is brute force over all pairs."""
    kind, rows, removed, _ = case
    kept = [row for row in rows.values() if row.id not in removed and not guarded(row)]
    for row, other in itertools.product(kept, filter(guarded, rows.values())):
        assert jaccard(row, other) < 0.8
        assert containment(row, other) < 0.8
    if kind != "none":
        assert len({row.key for row in kept}) == len(kept)
    if kind == "minhash":
        assert max(jaccard(row, other) for row, other in itertools.combinations(kept, 2)) < 0.8


def test_exact_copies_of_training_stay_where_the_kind_is_none(case: Any) -> None:
    kind, rows, removed, _ = case
    train = [row for row in rows.values() if not guarded(row) and row.id not in removed]
    assert (len({row.key for row in train}) < len(train)) == (kind == "none")


def test_books_balance_and_metrics_state_the_counts(case: Any) -> None:
    _, rows, removed, metrics = case
    for source, ledger in metrics["ledgers"].items():
        mine = [row for row in rows.values() if row.source == source]
        assert ledger["in"] == {"documents": len(mine), "bytes": sum(len(row.text.encode()) for row in mine)}
        assert sum(part["documents"] for part in ledger["removed"].values()) == sum(
            row["source"] == source for row in removed.values()
        )
    near = [row for row in removed.values() if row["reason"] != "exact"]
    assert metrics["candidates"] == sum(metrics["similarity_histogram"]["counts"])
    assert 0 < len(metrics["pairs"]) <= min(12, len(near))
    assert metrics["protected"]["test"]["documents"] == sum(split(row) == "test" for row in rows.values())
    assert metrics["clusters"]["count"] == len({row["partner"] for row in removed.values()})


@pytest.mark.parametrize("keep", ["longest", "first"])
def test_the_result_does_not_depend_on_the_order_of_rows(tmp_path: Path, keep: str) -> None:
    method = deduplication.Method(kind="minhash", shingle=5, bands=40, rows=3, keep=keep)
    rows = corpus(2)
    run(store(tmp_path / "one", rows), tmp_path / "first", method)
    random.Random(5).shuffle(rows)
    run(store(tmp_path / "two", rows), tmp_path / "second", method)
    for name in ("duplicates.parquet", "manifest.json"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    names = ["boilerplate.parquet", "duplicates.parquet", "manifest.json"]
    assert sorted(path.name for path in (tmp_path / "first").iterdir()) == names


def training_key(text: str) -> bytes:
    """A key that lies in train for any text: what is tested here is not the split."""
    return b"\xff" + documents.key_of(text)[1:]


def test_the_keep_policy_decides_who_stays(tmp_path: Path) -> None:
    base = " ".join(f"word{number}" for number in range(40))
    texts = {"b/x#2": base + " end", "b/x#10": base, "a/x#1": base + " the longest of all"}
    rows = [Document(name, name[0], text, training_key(text)) for name, text in texts.items()]
    clean = store(tmp_path / "clean", rows)
    for keep, stays in (("longest", "a/x#1"), ("first", "b/x#2")):
        method = deduplication.Method(kind="minhash", shingle=5, bands=40, rows=3, keep=keep, threshold=0.7)
        removed, _ = run(clean, tmp_path / keep, method)
        assert {row["id"] for row in removed} == set(texts) - {stays}
        assert {row["partner"] for row in removed} == {stays}


def test_equal_keys_guard_a_task_even_where_cleaning_changed_the_text(tmp_path: Path) -> None:
    low = b"\x48" + bytes(15)  # in train, and below the 0.35 that the task protects of source a
    rows = [Document("a/x#1", "a", "one thing", low), Document("b/x#1", "b", "quite another thing", low)]
    clean = store(tmp_path / "clean", rows)
    removed, _ = run(clean, tmp_path / "out", deduplication.Method(kind="none"))
    assert [(row["id"], row["reason"], row["partner"]) for row in removed] == [("b/x#1", "near holdout", "a/x#1")]


def verse(count: int, seed: int) -> str:
    draw = random.Random(seed)
    return " ".join("".join(draw.choices("abcdefghijklmnop", k=5)) for _ in range(count))


@pytest.mark.parametrize("kind", ["none", "exact", "minhash"])
def test_held_out_text_inside_a_longer_document_leaves_but_a_phrase_does_not(tmp_path: Path, kind: str) -> None:
    held, phrase = verse(40, 1), verse(8, 2)  # 235 and 43 shingles
    test_key, other_key = bytes(16), b"\x01" + bytes(15)
    rows = [
        Document("b/x#1", "b", held, test_key),
        Document("b/x#2", "b", phrase, other_key),
        Document("a/x#1", "a", f"{verse(300, 3)} {held.upper()} {verse(300, 4)}", b"\xff" + bytes(15)),
        Document("a/x#2", "a", f"{verse(300, 5)} {phrase} {verse(300, 6)}", b"\xfe" + bytes(15)),
        Document("a/x#3", "a", held[60:140], b"\xfd" + bytes(15)),  # a piece of 76 shingles
        Document("a/x#4", "a", held[60:100], b"\xfc" + bytes(15)),  # one of 36, a phrase
    ]
    method = deduplication.Method(kind=kind, shingle=5, bands=40, rows=3)
    removed, metrics = run(store(tmp_path / "clean", rows), tmp_path / "out", method)
    found = [(row["id"], row["reason"], row["partner"], row["similarity"]) for row in removed]
    assert found == [("a/x#1", "near holdout", "b/x#1", 1.0), ("a/x#3", "near holdout", "b/x#1", 1.0)]
    assert metrics["contained"]["documents"] == 2


def test_containment_agrees_with_sets_however_little_is_counted_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Texts cut from one another at random, against Python sets over all pairs."""
    draw, whole = random.Random(3), verse(400, 7)
    cut = [whole[(start := draw.randrange(2000)) : start + draw.randrange(400)] for _ in range(120)]
    texts = [documents.normalize_for_key(text + draw.choice(["", verse(10, n)])) for n, text in enumerate(cut)]
    guards, training = texts[:50], texts[50:]
    pairs = {}
    for number, text in enumerate(training):
        overlaps = [
            containment(Document("", "", text, b""), Document("", "", guard, b"")) if guard else 0.0 for guard in guards
        ]
        if max(overlaps) >= 0.8:
            pairs[number] = (overlaps.index(max(overlaps)), max(overlaps))
    assert 10 < len(pairs) < len(training)
    shingler = deduplication.Shingler(5, seed=1)
    for entries in (1 << 21, 7):
        monkeypatch.setattr("pileline.deduplication.lookup._COUNTED", entries)
        monkeypatch.setattr("pileline.deduplication.lookup._WAITING", entries)
        hashes, sizes = minhash.distinct(*shingler.hashes(Codes.of(guards)))
        builder = lookup.Builder(tmp_path / str(entries), HASH_BITS)
        for number, some in enumerate(np.split(hashes, np.cumsum(sizes)[:-1])):
            builder.add(some, np.full(len(some), number, np.int32))
        table = Protected(pickle.loads(pickle.dumps(builder.build())), sizes)
        found: dict[int, tuple[int, float]] = {}
        first = 0
        for group in groups(training):
            columns = table.overlapping(*shingler.hashes(Codes.of(group)), 0.8)
            for number, owner, overlap in zip(*(column.tolist() for column in columns), strict=True):
                found[first + number] = (owner, overlap)
            first += len(group)
        assert found == pairs


@pytest.mark.parametrize("kind", ["none", "minhash"])
def test_protected_documents_of_a_guard_guard_and_count_nowhere(tmp_path: Path, kind: str) -> None:
    test, task, free = bytes(16), b"\x48" + bytes(15), b"\xf0" + bytes(15)
    texts = [verse(40, seed) for seed in range(4)]
    rows = [
        Document("a/x#1", "a", texts[3], free),  # training text of the guard: guards nothing
        Document("a/x#2", "a", texts[0], test),
        Document("a/x#3", "a", texts[1], task),
        Document("a/x#4", "a", texts[0], test),
        Document("b/x#1", "b", f"{verse(99, 9)} {texts[0]}", b"\xf1" + bytes(15)),
        Document("b/x#2", "b", texts[1] + " end", b"\xf2" + bytes(15)),
        Document("b/x#3", "b", texts[2], b"\xf3" + bytes(15)),
        Document("b/x#4", "b", texts[3], b"\xf4" + bytes(15)),
        Document("b/x#5", "b", "of the same key as a task's", task),
    ]
    clean = store(tmp_path / "clean", rows)
    method = deduplication.Method(kind=kind, shingle=5, bands=40, rows=3)
    removed, metrics = run(clean, tmp_path / "out", method, sources=("b",), guards=("a",))
    assert [(row["id"], row["reason"], row["partner"], row["partner_source"]) for row in removed] == [
        ("b/x#1", "near holdout", "a/x#2", "a"),
        ("b/x#2", "near holdout", "a/x#3", "a"),
        ("b/x#5", "near holdout", "a/x#3", "a"),
    ]
    assert set(metrics["ledgers"]) == {"b"}
    assert metrics["ledgers"]["b"]["in"]["documents"] == 5
    counts = {name: entry["documents"] for name, entry in metrics["protected"].items()}
    assert counts == {"validation": 0, "test": 0, "task": 0, "guards": 3}
    assert run(clean, tmp_path / "alone", method, sources=("b",))[0] == []


def test_an_empty_corpus_has_no_duplicates(tmp_path: Path) -> None:
    removed, metrics = run(store(tmp_path / "clean", []), tmp_path / "out", METHOD)
    assert removed == []
    assert metrics["candidates"] == 0


def test_a_source_of_copies_raises_an_alarm(tmp_path: Path) -> None:
    rows = [Document(f"a/x#{number}", "a", "same text", training_key("same text")) for number in range(3)]
    _, metrics = run(store(tmp_path / "clean", rows), tmp_path / "out", METHOD)
    assert len(metrics["alarms"]) == 1
    assert metrics["alarms"][0].startswith("a lost 67 %")


def test_two_documents_of_one_id_are_refused(tmp_path: Path) -> None:
    rows = [Document("a/x#1", "a", text, documents.key_of(text)) for text in ("one", "two")]
    with pytest.raises(deduplication.InventoryError, match="a/x#1"):
        deduplication.read(store(tmp_path / "clean", rows), ["b", "a"], HOLDOUT, {})


def test_priority_prefers_a_source_for_exact_and_near_copies(tmp_path: Path) -> None:
    base = " ".join(f"word{number}" for number in range(40))
    texts = {"b/x#1": base + " the longest of all", "a/x#2": base, "a/x#1": base, "b/x#2": "twice", "a/x#3": "Twice!"}
    rows = [Document(name, name[0], text, training_key(text)) for name, text in texts.items()]
    clean = store(tmp_path / "clean", rows)
    for first, stay in (("a", {"a/x#1", "a/x#3"}), ("b", {"b/x#1", "b/x#2"}), ("[b-z]", {"b/x#1", "b/x#2"})):
        settings_ = {"kind": "minhash", "shingle": 5, "bands": 40, "rows": 3, "threshold": 0.7}
        method = deduplication.Method.from_dict(settings_ | {"keep": "priority", "priority": [first]})
        removed, _ = run(clean, tmp_path / first, method)
        assert set(texts) - {row["id"] for row in removed} == stay


def test_memory_is_stated_by_what_is_held(case: Any) -> None:
    _, rows, _, metrics = case
    held = metrics["state_bytes"]
    assert (held["inventory"], held["findings"]) == (42 * len(rows), 17 * len(rows))
    assert held["signatures"] == 8 * 40 * len(rows)
    assert metrics["state_bytes_per_document"] == pytest.approx(sum(held.values()) / len(rows), abs=0.05)


def test_an_alarm_has_the_share_that_the_method_states(tmp_path: Path) -> None:
    rows = [Document(f"a/x#{number}", "a", "same text", training_key("same text")) for number in range(3)]
    clean = store(tmp_path / "clean", rows)
    for alarm, alarms in ((0.6, 1), (0.7, 0)):
        _, metrics = run(clean, tmp_path / str(alarm), deduplication.Method(kind="exact", alarm=alarm))
        assert (len(metrics["alarms"]), metrics["alarm"]) == (alarms, alarm)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"kind": "fuzzy"}, "none or exact or minhash"),
        ({}, "no kind"),
        ({"kind": "minhash", "treshold": 0.8}, "unknown setting treshold"),
        ({"kind": "minhash", "threshold": 0}, "above 0 and up to 1"),
        ({"kind": "minhash", "bands": 2.0}, "whole number"),
        ({"kind": "minhash", "keep": "shortest"}, "longest or first or priority"),
        ({"kind": "minhash", "keep": "priority"}, "takes a list"),
        ({"kind": "minhash", "priority": ["a"]}, "takes a list"),
        ({"kind": "exact", "priority": "a"}, "list of names"),
        ({"kind": "exact", "alarm": 50}, "share from 0 to 1"),
        ({"kind": "none", "boilerplate": {"unit": "word"}}, "line or paragraph"),
        ({"kind": "none", "boilerplate": {"documents": 1}}, "from 2 up"),
        ({"kind": "none", "boilerplate": {"lines": 3}}, "null or unit"),
        ({"kind": "none", "boilerplate": 3}, "null or unit"),
    ],
)
def test_a_wrong_setting_is_refused_with_what_would_do(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(deduplication.MethodError, match=message):
        deduplication.Method.from_dict(setting)
    assert deduplication.Method.from_dict({"kind": "none"}).threshold == 0.8
