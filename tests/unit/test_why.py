"""The command that says why a document is not in a corpus, asked about a small corpus with every fate in it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pileline import documents, manifest, mixing, why
from pileline.boilerplate import Boilerplate
from pileline.documents import Document

HOLDOUT = {"validation": 0.1, "test": 0.1}
# A line that falls in the train split, and not in the part that the task tests on.
MENU = next(line for line in map("Home {} News".format, range(99)) if documents.fraction(documents.key_of(line)) > 0.3)


def document(source: str, number: int, text: str) -> Document:
    return Document(f"{source}/file.txt#{number}", source, text, documents.key_of(text))


ROWS = [
    document(source, number, f"The {number}th   story of {source} (parentheses)\ntells of the number {number * number}")
    for source in ("alpha", "beta")
    for number in range(120)
]
ROWS += [document("beta", 900, MENU), document("beta", 901, "menu")]


def split(row: Document) -> str:
    return documents.split_of(row.key, **HOLDOUT)


TRAINING = [row for row in ROWS if split(row) == "train" and row.id.startswith("alpha")]
TESTED = next(row for row in ROWS if split(row) == "test" and row.source == "alpha")
FIRST, COPY, NEAR, LEAK, SHORT = TRAINING[:5]
PAIRS = [
    (COPY.id, "exact", FIRST.id, 1.0),
    (FIRST.id, "near", NEAR.id, 0.875),
    (LEAK.id, "near holdout", TESTED.id, 0.9),
]


def clean(root: Path, parts: int) -> None:
    for source in ("alpha", "beta"):
        rows = [row for row in ROWS if row.source == source and row != SHORT]
        for number in range(parts):
            folder = root / "clean/plain" / source / f"{number + 1}-of-{parts}"
            folder.mkdir(parents=True)
            documents.write(folder / "kept.parquet", rows[number::parts])
            with documents.Writer(folder / "removed.parquet", documents.REMOVED_SCHEMA) as writer:
                if source == "alpha" and number == 0:
                    writer.write((*SHORT, "gopher_quality: too few words"))
            manifest.write(folder, "clean", {})


def mix(root: Path, parts: int) -> None:
    duplicates = root / "duplicates/demo"
    duplicates.mkdir(parents=True)
    rows = [
        {"id": name, "reason": reason, "partner": partner, "similarity": similarity, "split": "train"}
        for name, reason, partner, similarity in PAIRS
    ]
    pq.write_table(pa.Table.from_pylist(rows), duplicates / "duplicates.parquet")
    manifest.write(duplicates, "deduplicate", {})
    settings = {"alpha": {"weight": 2.0, "cap_mb": 0.003}, "beta": {"weight": 0.5, "cap_mb": None}}
    stripped = Boilerplate("line", frozenset({documents.normalize_for_key(MENU)}))
    removals = mixing.Removals.read(duplicates)
    plan = mixing.Plan(settings, {"kind": "epochs"}, HOLDOUT, {"beta": 0.3}, removals, 1, stripped)
    tables = mixing.tables(root / "clean/plain", settings, dict.fromkeys(settings, parts))
    supply = mixing.survey(tables, plan)
    epochs = mixing.resolve(plan, supply)
    folder = root / "corpora/demo"
    folder.mkdir(parents=True)
    counted = mixing.mix(tables, plan, epochs, folder)
    manifest.write(folder, "mix", mixing.metrics("demo", "plain", plan, supply, epochs, counted))


@pytest.fixture(scope="module", params=[1, 3])
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    clean(folder, request.param)
    mix(folder, request.param)
    return folder


def ask(root: Path, *arguments: Any) -> int:
    return why.main(["--results", str(root), "--corpus", "demo", *map(str, arguments)])


def fates(root: Path) -> dict[str, str]:
    """Id to what the corpus's own tables say became of it."""
    found = {row["id"]: row["reason"] for row in pq.read_table(root / "corpora/demo/removed.parquet").to_pylist()}
    for name in mixing.SPLITS:
        ids = [row.id for row in documents.read(root / f"corpora/demo/{name}.parquet")]
        found |= {identity: f"{name}, {ids.count(identity)} time" for identity in ids}
    found |= {name: reason for name, reason, _, _ in PAIRS}
    return found | {SHORT.id: "gopher_quality: too few words"}


def test_every_document_gets_the_answer_that_the_tables_hold(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = fates(root)
    assert set(expected) == {row.id for row in ROWS}
    reasons = {"exact", "near", "near holdout", "task", "cap", "weight", "boilerplate"}
    assert reasons < set(expected.values()), "the made-up corpus has every fate"
    assert ask(root, *expected) == 0
    told = capsys.readouterr().out.strip().split("\n\n")
    assert len(told) == len(expected)
    for name, text in zip(expected, told, strict=True):
        first, *_, outcome = text.splitlines()
        assert first == name
        inside = " time" in expected[name]
        assert outcome.startswith(f"=> in demo: {expected[name]}" if inside else f"=> not in demo: {expected[name]}")


def test_a_duplicate_names_its_partner_and_where_that_stands(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(root, COPY.id, LEAK.id) == 0
    copy, leak = capsys.readouterr().out.strip().split("\n\n")
    assert f"partner   {FIRST.id}: itself removed as near for {NEAR.id}" in copy
    assert f"=> not in demo: exact, it has the text of {FIRST.id}" in copy
    assert f"partner   {TESTED.id}: test, 1 time" in leak
    assert f"resembles held-out text: 0.900 with {TESTED.id}" in leak


def test_reasons_of_mixing_state_the_setting_behind_them(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    by_reason = {reason: name for name, reason in fates(root).items()}
    ask(root, by_reason["cap"], by_reason["weight"])
    out = capsys.readouterr().out
    assert "cap, the cap of 0.003 MB on alpha" in out
    assert "weight, at 0.5 epochs of beta" in out


def test_a_phrase_finds_documents_whatever_their_case_and_blanks(root: Path, capsys: Any) -> None:
    assert ask(root, "--text", "STORY of alpha (parentheses) tells of") == 0
    captured = capsys.readouterr().out
    assert captured.count("=> ") == 10
    assert "110 more documents have this text" in captured
    assert ask(root, "--text", "the number 10201", "--source", "beta") == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("beta/")] == ["beta/file.txt#101"]
    assert ask(root, "--text", ".*") == 1, "a phrase is no pattern"


def test_a_file_finds_the_document_by_its_key(root: Path, tmp_path: Path, capsys: Any) -> None:
    row = ROWS[7]
    path = tmp_path / "page.txt"
    path.write_text(row.text.upper().replace("(", "« ").replace("\n", " — "))
    assert ask(root, "--file", path) == 0
    assert capsys.readouterr().out.startswith(row.id)
    path.write_text(row.text + " and much more " * 200)
    assert ask(root, "--file", path) == 1


def test_a_removed_document_is_found_by_its_text(root: Path, capsys: Any) -> None:
    assert ask(root, "--text", SHORT.text) == 0
    assert "=> not in demo: gopher_quality: too few words" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("alpha/file.txt#1200", "alpha/file.txt#120"[:-1]),
        ("alpa/file.txt#17", "in any of alpha, beta"),
        ("alpha/fil.txt#17", "alpha/file.txt#17"),
    ],
)
def test_an_unknown_id_gets_the_nearest_ones(root: Path, capsys: Any, asked: str, said: str) -> None:
    assert ask(root, ROWS[0].id, asked) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith(ROWS[0].id), "what there is, is told all the same"
    assert f"{asked}: no document of this id" in captured.err
    assert said in captured.err


def test_questions_that_cannot_be_answered_say_so(root: Path, tmp_path: Path, capsys: Any) -> None:
    assert why.main(["--results", str(root), "--corpus", "dmo", "alpha/x#1"]) == 2
    assert "there are: demo" in capsys.readouterr().err
    assert why.main(["--results", str(tmp_path), "--corpus", "demo", "alpha/x#1"]) == 2
    assert "run the line first" in capsys.readouterr().err
    assert ask(root, "--text", "x", "--source", "alpa") == 2
    assert "perhaps alpha" in capsys.readouterr().err
    assert ask(root, "--text", " \n") == 2
    assert ask(root, "--file", tmp_path / "none.txt") == 2
    for wrong in ([], ["a/b#1", "--text", "x"], ["--text", "x", "--most", "0"]):
        with pytest.raises(SystemExit) as stopped:
            ask(root, *wrong)
        assert stopped.value.code == 2


def test_results_that_are_not_whole_are_refused(root: Path, tmp_path: Path, capsys: Any) -> None:
    part = tmp_path / "results"
    shutil.copytree(root, part)
    next((part / "clean/plain/alpha").glob("1-of-*/manifest.json")).unlink()
    assert ask(part, ROWS[0].id) == 2
    assert "not all parts" in capsys.readouterr().err
    (part / "corpora/demo/removed.parquet").write_bytes(b"")
    assert ask(part, "beta/file.txt#1") == 2
    assert "removed.parquet: missing, or changed" in capsys.readouterr().err


def test_of_a_source_cut_anew_the_last_parts_count(tmp_path: Path, capsys: Any) -> None:
    clean(tmp_path, 1)
    mix(tmp_path, 1)
    clean(tmp_path, 2)
    assert ask(tmp_path, ROWS[0].id) == 0
    assert "1-of-2" in capsys.readouterr().out


def test_the_command_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        why.main(["--help"])
    assert stopped.value.code == 0
    assert "Exit status" in capsys.readouterr().out
