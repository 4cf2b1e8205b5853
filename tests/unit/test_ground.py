"""The ground floor: manifests, the ledger, the document table, progress and plots."""

from __future__ import annotations

import itertools
import json
import random
import re
import unicodedata
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pileline import documents, manifest, plots
from pileline.documents import Document
from pileline.ledger import Amount, Ledger, LedgerError
from pileline.progress import Progress, clock, readable

from tests.unit.costs import times_as_long

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


# ------------------------------------------------------------------------------------------- manifests
def test_a_manifest_names_every_file_with_size_and_hash(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/a.bin").write_bytes(b"abc")
    manifest.write(tmp_path, "clean", {"kept": 3})
    read = manifest.read(tmp_path, "clean")
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, the hash of "abc"
    assert read.files == {"deep/a.bin": {"bytes": 3, "sha256": abc}}
    assert read.metrics == {"kept": 3}
    read.verify()
    assert read.path("deep/a.bin").read_bytes() == b"abc"


def test_the_same_work_gives_the_same_manifest_bytes(tmp_path: Path) -> None:
    texts = []
    for metrics in ({"a": 1, "b": [2]}, {"b": [2], "a": 1}):
        manifest.write(tmp_path, "clean", metrics)
        texts.append((tmp_path / "manifest.json").read_bytes())
    assert texts[0] == texts[1]


@pytest.mark.parametrize("damage", ["flip", "shorten", "remove"])
def test_a_changed_file_is_refused_by_name(tmp_path: Path, damage: str) -> None:
    (tmp_path / "a.bin").write_bytes(b"abc")
    written = manifest.write(tmp_path, "clean", {})
    if damage == "remove":
        (tmp_path / "a.bin").unlink()
    else:
        (tmp_path / "a.bin").write_bytes(b"abd" if damage == "flip" else b"ab")
    for use in (written.verify, lambda: written.path("a.bin")):
        with pytest.raises(manifest.ManifestError, match=r"a\.bin.*run again"):
            use()


def test_manifests_of_others_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    with pytest.raises(manifest.ManifestError, match="not found; run the stage"):
        manifest.read(tmp_path)
    manifest.write(tmp_path, "clean", {})
    with pytest.raises(manifest.ManifestError, match="written by stage 'clean', expected 'mix'"):
        manifest.read(tmp_path, "mix")
    text = (tmp_path / "manifest.json").read_text()
    (tmp_path / "manifest.json").write_text(text[:-9])
    with pytest.raises(manifest.ManifestError, match="not readable as JSON"):
        manifest.read(tmp_path)
    (tmp_path / "manifest.json").write_text(text.replace('"schema_version": 1', '"schema_version": 0'))
    with pytest.raises(manifest.ManifestError, match="schema version 0, expected 1"):
        manifest.read(tmp_path)
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(manifest.ManifestError, match="schema version None, expected 1"):
        manifest.read(tmp_path)


def test_a_manifest_too_large_to_be_compared_and_one_with_nan_are_refused(tmp_path: Path) -> None:
    with pytest.raises(manifest.ManifestError, match="summarise"):
        manifest.write(tmp_path, "clean", {"long": "x" * 1_000_000})
    with pytest.raises(ValueError, match="JSON compliant"):
        manifest.write(tmp_path, "clean", {"loss": float("nan")})


# ---------------------------------------------------------------------------------------------- ledger
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6), st.sampled_from(["", "short", "not text"]))))
def test_a_ledger_balances_whatever_is_kept_and_removed(steps: list[tuple[int, int, str]]) -> None:
    ledger = Ledger()
    for size_in, size_out, reason in steps:
        if reason:
            ledger.remove(size_in, reason)
        else:
            ledger.keep(size_in, size_out)
    ledger.check("here")
    assert ledger.entered.bytes == sum(step[0] for step in steps)
    assert Ledger.from_dict(json.loads(json.dumps(ledger.to_dict()))) == ledger


def test_a_ledger_that_lost_a_document_is_refused() -> None:
    ledger = Ledger()
    ledger.keep(10)
    ledger.entered.add(5)
    with pytest.raises(LedgerError, match="wikipedia: in 2 documents, 15 bytes, but kept and removed sum to 1"):
        ledger.check("wikipedia")
    assert Ledger(kept=Amount(1, 10)) != ledger


# ------------------------------------------------------------------------------------------- documents
@given(st.lists(TEXT, max_size=30))
def test_a_table_gives_back_what_was_written(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    path = tmp_path_factory.mktemp("table") / "t.parquet"
    rows = [Document(f"s/{n}", "s", text, documents.key_of(text), '{"n": 1}') for n, text in enumerate(texts)]
    documents.write(path, rows)
    assert list(documents.read(path)) == rows
    assert pd.read_parquet(path)["text"].tolist() == texts


def test_a_table_is_read_in_batches_and_its_bytes_are_stable(tmp_path: Path) -> None:
    rows = [Document(str(n), "s", f"text {n}", documents.key_of(str(n))) for n in range(2 * 4096 + 1)]
    for name in ("a", "b"):
        documents.write(tmp_path / name, rows)
    assert [batch.num_rows for batch in documents.batches(tmp_path / "a", ["id"])] == [4096, 4096, 1]
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@given(TEXT)
def test_case_punctuation_blanks_and_composition_do_not_change_a_key(text: str) -> None:
    key = documents.key_of(text)
    if documents.normalize_for_key(text):
        assert documents.key_of(f"  {text}\n") == key
        assert documents.key_of(unicodedata.normalize("NFD", text)) == key


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
def test_long_runs_of_combining_marks_are_normalized_as_by_python(form: Any) -> None:
    draw = random.Random(1)
    marks = [letter for letter in map(chr, range(0x20000)) if unicodedata.combining(letter)] + list(
        "\u0f73\u0f75\u0f81"
    )
    for length in (1023, 1024, 3000):
        text = "".join(base + "".join(draw.choices(marks, k=length)) for base in ("", "é", "x y가", "\u0f40"))
        assert documents.normalize(form, text) == unicodedata.normalize(form, text)


def test_eight_times_the_combining_marks_take_about_eight_times_as_long() -> None:
    """Not 64 times, as Python's own normalization takes."""
    few, many = ("a" + "\u0301\u0316" * number for number in (5_000, 40_000))
    assert times_as_long(lambda: documents.key_of(many), lambda: documents.key_of(few)) < 24
    assert documents.key_of(many) == documents.key_of("a" + "\u0316" * 9 + "\u0301")


def test_texts_that_differ_have_different_keys() -> None:
    assert documents.key_of("To be, or not to be") == documents.key_of("to be or NOT to be!")
    assert documents.key_of("To be, or not to be") != documents.key_of("to be or not to bee")
    assert documents.key_of("!!!") != documents.key_of("???"), "nothing is left of either, yet they differ"


def test_splits_have_their_shares_and_a_document_keeps_its_side() -> None:
    keys = [documents.key_of(f"document {n}") for n in range(20_000)]
    splits = [documents.split_of(key, validation=0.02, test=0.03) for key in keys]
    # Three standard deviations of a binomial count
    assert abs(splits.count("test") - 600) < 3 * (20_000 * 0.03 * 0.97) ** 0.5
    assert abs(splits.count("validation") - 400) < 3 * (20_000 * 0.02 * 0.98) ** 0.5
    assert all(0 <= documents.fraction(key) < 1 for key in keys)
    larger = [documents.split_of(key, validation=0.02, test=0.05) for key in keys]
    assert all(after == "test" for before, after in zip(splits, larger, strict=True) if before == "test")


# -------------------------------------------------------------------------------------------- progress
def ticking(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let so many seconds pass between two looks at the clock."""
    times = itertools.count(step=seconds)
    monkeypatch.setattr("pileline.progress.time", SimpleNamespace(monotonic=lambda: next(times)))


def test_progress_says_what_is_done_how_fast_and_what_is_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ticking(monkeypatch, 2.0)
    with Progress("reading", total=4_000_000, unit="B", every=0.0) as progress:
        progress.add(1_000_000, note="wikipedia")
        progress.add(3_000_000)
    first, second, last = capsys.readouterr().out.splitlines()
    assert first == "reading: 1.0 MB of 4.0 MB (25 %) in 0:02, 500.0 kB/s, 0:06 left | wikipedia"
    assert second == "reading: 4.0 MB of 4.0 MB (100 %) in 0:04, 1.0 MB/s"
    assert last == "reading: 4.0 MB of 4.0 MB (100 %) in 0:06, 666.7 kB/s"


def test_progress_prints_few_lines_however_often_it_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ticking(monkeypatch, 2**-10)
    with Progress("counting", unit="documents", every=5.0) as progress:
        for _ in range(10_000):
            progress.add(1)
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["5,120", "10,000"]


def test_progress_counts_every_step_and_what_an_earlier_run_did(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("training", total=3000, unit="steps", every=0.0, before=1000) as progress:
        progress.add(500)
    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith("training: 1,500 of 3,000 steps (50 %) in ")


def test_progress_speaks_more_rarely_the_longer_it_takes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ticking(monkeypatch, 1.0)
    told = []
    with Progress("training", total=40_000, unit="steps") as progress:
        for second in range(1, 40_001):
            progress.add(1)
            if capsys.readouterr().out:
                told.append(second)
    gaps = [after - before for before, after in itertools.pairwise(told)]
    assert gaps[:40] == [5] * 40, "in the first minutes every five seconds"
    assert gaps == sorted(gaps), "then at a fiftieth of the time"
    assert gaps[-1] == 60, "and at least every minute"
    assert len(told) < 1000, "11 hours"


def test_numbers_for_people() -> None:
    assert [readable(5, "B"), readable(1_234_567, "B"), readable(12_345, "tokens")] == ["5 B", "1.2 MB", "12.3k tokens"]
    assert [clock(59.4), clock(61), clock(3723)] == ["0:59", "1:01", "1:02:03"]


# ----------------------------------------------------------------------------------------------- plots
def test_a_plot_is_svg_with_an_alternative_that_follows_the_page() -> None:
    figure, axes = plots.figure()
    axes.plot([1, 2, 3], [3, 1, 2], label="loss")
    axes.set_title("<Loss>")
    axes.legend()
    text = plots.svg(figure, 'Loss & "more"')
    root = ElementTree.fromstring(text)
    assert root.attrib["aria-label"] == 'Loss & "more"'
    assert root.attrib["role"] == "img"
    assert "var(--plot-ink" in text
    assert not re.search(r"#0[1-9]0[1-9]0[1-9]", text), "a placeholder colour is left"
    assert "Date" not in text


def test_the_same_plot_has_the_same_bytes_and_two_plots_share_no_ids() -> None:
    def draw(height: float) -> str:
        figure, axes = plots.figure()
        axes.plot([1, 2], [1, height])
        return plots.svg(figure, "a line")

    assert draw(2) == draw(2)
    ids = [set(re.findall(r'\bid="([^"]+)"', draw(height))) for height in (2, 3)]
    assert not ids[0] & ids[1]
    for height in (2, 3):
        text = draw(height)
        used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', text))
        assert used <= set(re.findall(r'\bid="([^"]+)"', text))
