"""Recipes: SlimPajama's filters to the letter, and books that balance whatever comes in."""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from pathlib import Path
from typing import Any

import ftfy
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pileline import cleaning, documents, manifest, sources
from pileline.cleaning import CleaningError, Removal
from pileline.cleaning.quality import Short
from pileline.cleaning.recipe import taken
from pileline.cleaning.unicode import FixUnicode
from pileline.ledger import Amount, Ledger
from pileline.parts import Part, folders, names
from pileline.sources import EMPTY, GAPS, MALFORMED, UNDECODABLE, Extracted

SLIMPAJAMA = [{"filter": "fix_unicode", "form": "NFC"}, {"filter": "short", "characters": 200}]
# What ftfy looks for: entities, mojibake, curly quotes, ligatures, odd widths, control characters, line ends, escapes.
DAMAGE = [
    "&amp;",
    "&lt;",
    "<",
    "Ã©",
    "â€™",
    "é",
    "e\u0301",
    "“",
    "ﬁ",
    "ＡＢ",
    "＆amp;",
    "\x1b[31m",
    "\x00",
    "\x7f",
    "\x85",
]
DAMAGE += ["\r\n", "\r", "\n", "\t", "\f", "\u2028", "\ufeff", " ", "plain text", "&", "ÃƒÂ©", "語", "\xa0", "Â\xa0"]


@given(st.lists(st.sampled_from(DAMAGE) | st.text(max_size=4), max_size=20).map("".join))
@example("<b>\n＆amp;é")  # a "<" in an earlier line keeps the entities of later ones
@example("é&lt;\n&amp;é")
def test_fix_unicode_is_ftfy_to_the_byte(text: str) -> None:
    for form in ("NFC", "NFKC"):
        assert FixUnicode(form).apply(text) == ftfy.fix_text(text, normalization=form)  # type: ignore[arg-type]


@given(st.text(st.sampled_from("".join(map(chr, range(128)))), max_size=60))
def test_fix_unicode_is_ftfy_on_ascii(text: str) -> None:
    assert FixUnicode().apply(text) == ftfy.fix_text(text, normalization="NFC")


def test_ftfy_leaves_every_plain_character_alone() -> None:
    plain = "\t\n" + "".join(chr(code) for code in range(32, 127) if chr(code) != "&")
    for first in plain:
        text = "".join(first + second for second in plain)
        assert ftfy.fix_text(text, normalization="NFC") == text


def slimpajama_length(text: str) -> int:
    """The length that SlimPajama's preprocessing compares with 200, written from its description."""
    bare = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return len(re.sub(r"\s+", " ", bare.strip()))


@given(st.text(st.sampled_from("aB.,!  \n\té語İ"), max_size=60), st.integers(1, 40))
def test_short_counts_as_slimpajama(text: str, characters: int) -> None:
    goes = isinstance(Short(characters).apply(text), Removal)
    assert goes == (slimpajama_length(text) < characters)


def test_short_at_its_bound() -> None:
    assert Short().apply("a" * 199 + " ... ") == Removal("short")
    assert Short().apply("a" * 200) == "a" * 200
    assert Short().apply("a" * 150 + "." * 100) == Removal("short")
    assert isinstance(Short().apply("ab  \n  " * 66), Removal)  # runs of blanks are one: 197 characters


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ([{"filter": "shorts"}], "unknown filter 'shorts'; known are: fix_unicode, short"),
        ([{"filter": "short", "words": 3}], "no setting 'words'; it has: characters"),
        ([{"filter": "short", "characters": 0}], "characters is 0"),
        ([{"filter": "fix_unicode", "form": "ABC"}], "none of NFC"),
    ],
)
def test_a_wrong_recipe_is_refused(recipe: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(CleaningError, match=message):
        cleaning.build(recipe)


def test_settings_have_their_defaults() -> None:
    settings = [step.settings for step in cleaning.build([{"filter": "fix_unicode"}, {"filter": "short"}])]
    assert settings == SLIMPAJAMA


def extracted(texts: list[str]) -> list[Extracted]:
    made = []
    for number, text in enumerate(texts):
        reason = None if text.strip() else EMPTY
        made.append(Extracted(f"s/m#{number}", "m", text, len(text.encode()), "{}", reason))
    return made


STRANGE = [
    Extracted("s/bad#0", "bad", "", 77, "{}", UNDECODABLE),
    Extracted("s/worse#0", "worse", "", 5, "{}", MALFORMED),
    Extracted("s/m#9999", "m", "", 12, "{}", GAPS),
]
TEXTS = st.lists(
    st.sampled_from(["word " * 60, "cafÃ© " * 50, "short", " ", "\x00", "“quote” " * 40]) | st.text(max_size=20),
    max_size=12,
)


@given(TEXTS, st.sampled_from([1.0, 0.5]), st.booleans())
def test_the_books_balance_at_every_step(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], fraction: float, strange: bool
) -> None:
    folder = tmp_path_factory.getbasetemp() / "clean"
    folder.mkdir(exist_ok=True)
    items = extracted(texts) + (STRANGE if strange else [])
    made = cleaning.clean(items, "s", cleaning.build(SLIMPAJAMA), folder, fraction, 1)
    metrics = made.metrics("slimpajama")
    ledger = Ledger.from_dict(metrics["ledger"])
    ledger.check("test")
    assert ledger.entered.bytes == sum(item.size for item in items)
    assert ledger.entered.documents == sum(item.reason != GAPS for item in items)

    kept = list(documents.read(folder / cleaning.KEPT))
    removed = pq.read_table(folder / cleaning.REMOVED).to_pylist()
    assert {d.id for d in kept} | {row["id"] for row in removed} == {i.id for i in items if i.reason != GAPS}
    assert sum(len(d.text.encode()) for d in kept) == ledger.kept.bytes
    counted = {reason: amount.documents for reason, amount in ledger.removed.items() if amount.documents}
    assert Counter(row["reason"] for row in removed) == counted

    first, second = metrics["steps"]
    assert second["documents_in"] == first["documents_in"] - first["documents_removed"]
    assert second["bytes_in"] == first["bytes_in"] - first["bytes_removed"] - first["bytes_rewritten"]
    assert second["documents_in"] - second["documents_removed"] == len(kept)
    assert second["bytes_in"] - second["bytes_removed"] - second["bytes_rewritten"] == ledger.kept.bytes
    manifest.canonical_json(metrics)


def test_keys_are_of_the_text_as_extracted(tmp_path: Path) -> None:
    text = "The cafÃ© was “open”. " * 20
    cleaning.clean(extracted([text, "short"]), "s", cleaning.build(SLIMPAJAMA), tmp_path, 1.0, 1)
    (kept,) = documents.read(tmp_path / cleaning.KEPT)
    assert kept.text.startswith('The café was "open".')
    assert kept.key == documents.key_of(text)
    (removed,) = pq.read_table(tmp_path / cleaning.REMOVED).to_pylist()
    assert (removed["text"], removed["reason"], removed["key"]) == ("short", "short", documents.key_of("short"))


def test_the_empty_recipe_keeps_every_text_as_it_is(tmp_path: Path) -> None:
    texts = ["short", "cafÃ©", "\x00 \r\n“", " "]
    made = cleaning.clean(extracted(texts), "s", cleaning.build([]), tmp_path, 1.0, 1)
    assert [document.text for document in documents.read(tmp_path / cleaning.KEPT)] == texts[:3]
    assert made.ledger.to_dict()["removed"] == {"empty": {"documents": 1, "bytes": 1}}


def test_a_text_that_repair_empties_is_removed_as_empty(tmp_path: Path) -> None:
    made = cleaning.clean(extracted(["\x00\x01"]), "s", cleaning.build(SLIMPAJAMA[:1]), tmp_path, 1.0, 1)
    assert made.ledger.to_dict()["removed"] == {"empty": {"documents": 1, "bytes": 2}}


def test_unreadable_members_are_named(tmp_path: Path) -> None:
    metrics = cleaning.clean(STRANGE, "s", [], tmp_path, 1.0, 1).metrics("none")
    assert {(entry["member"], entry["id"], entry["reason"]) for entry in metrics["unreadable"]} == {
        ("bad", "s/bad#0", "undecodable"),
        ("worse", "s/worse#0", "malformed"),
    }
    assert [entry["place"] for entry in metrics["unreadable"]] == sorted(e["place"] for e in metrics["unreadable"])
    assert metrics["ledger"]["removed"][GAPS] == {"documents": 0, "bytes": 12}
    assert sum(metrics["lengths"]["counts"]) == 0


def test_the_same_work_gives_the_same_bytes(tmp_path: Path) -> None:
    items = extracted([f"text number {number} " * 30 for number in range(200)])
    found = []
    for name in "ab":
        (tmp_path / name).mkdir()
        made = cleaning.clean(items, "s", cleaning.build(SLIMPAJAMA), tmp_path / name, 0.5, 1)
        found.append(manifest.write(tmp_path / name, "clean", made.metrics("slimpajama")))
    assert found[0].files == found[1].files
    assert json.dumps(found[0].metrics) == json.dumps(found[1].metrics)
    assert len(found[0].metrics["sample"]) == 8
    assert len(found[0].metrics["examples_removed"]["not sampled"]) == 3


def test_the_fraction_is_met_nested_and_independent_of_the_split() -> None:
    keys = [documents.key_of(str(number)) for number in range(20_000)]
    half = {key for key in keys if taken(key, 0.5, 1)}
    assert abs(len(half) / len(keys) - 0.5) < 4 * np.sqrt(0.25 / len(keys))
    assert {key for key in keys if taken(key, 0.2, 1)} < half
    assert all(taken(key, 1.0, 1) for key in keys)
    test = [key for key in keys if documents.split_of(key, 0.02, 0.03) == "test"]
    share = sum(key in half for key in test) / len(test)
    assert abs(share - 0.5) < 4 * np.sqrt(0.25 / len(test))
    assert half != {key for key in keys if taken(key, 0.5, 2)}


def test_lengths_are_of_what_stayed(tmp_path: Path) -> None:
    made = cleaning.clean(extracted(["語" * 3, "ab", "c" * 1000, " "]), "s", [], tmp_path, 1.0, 1)
    found = {low: count for low, count in zip(cleaning.EDGES, made.lengths.counts, strict=False) if count}
    assert found == {2: 1, 3: 1, 861: 1}
    assert 861 <= made.lengths.quantile(1.0) <= 1024
    assert sum(made.removed_lengths.counts) == 1


@pytest.mark.parametrize("files", [1, 5])
def test_parts_add_up_to_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [json.dumps({"text": f"Text {number}, “quoted”. " * (number % 40)}) for number in range(1500)]
    for file in range(files):
        Path(f"{file}.jsonl").write_text("\n".join(lines[file::files]), encoding="utf-8")

    def cleaned(parts: int) -> tuple[list[documents.Document], Ledger, list[int], list[dict[str, str]]]:
        found: list[documents.Document] = []
        total, lengths, sample = Ledger(), [0] * (len(cleaning.EDGES) - 1), []
        raws = folders(f"raw-{parts}", parts)
        for raw, name in zip(raws, names(parts), strict=True):
            raw.mkdir(parents=True)
            manifest.write(raw, "download", sources.download("s", {"path": "*.jsonl"}, "cache", raw, part=name), [])
        for name, output in zip(names(parts), folders(f"clean-{parts}", parts), strict=True):
            output.mkdir(parents=True)
            source = sources.read_raw(f"raw-{parts}", parts)
            items = sources.extract(source, sources.Reading.from_dict({"format": "jsonl"}), Part.parse(name))
            metrics = cleaning.clean(items, "s", cleaning.build(SLIMPAJAMA), output, 0.9, 1).metrics("r", name)
            found += documents.read(output / cleaning.KEPT)
            own = Ledger.from_dict(metrics["ledger"])
            for reason, amount in own.removed.items():
                total.removed.setdefault(reason, Amount()).add(amount.bytes, amount.documents)
            total.entered.add(own.entered.bytes, own.entered.documents)
            total.kept.add(own.kept.bytes, own.kept.documents)
            total.rewritten += own.rewritten
            lengths = [sum(pair) for pair in zip(lengths, metrics["lengths"]["counts"], strict=True)]
            sample += metrics["sample"]
        return sorted(found), total, lengths, sorted(sample, key=lambda entry: entry["place"])[:8]

    whole = cleaned(1)
    assert 0 < whole[1].kept.documents < 1500
    assert cleaned(3) == whole
    assert cleaned(4) == whole
