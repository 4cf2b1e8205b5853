"""Archives and formats: every text found, every byte named, nothing trusted."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import tarfile
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pileline import manifest, sources
from pileline.sources import GAPS, Reading, SourceError, archives, streams
from pileline.sources.patterns import Patterns, matches

from tests.unit.files_to_read import packaged, read, reasons, tar, texts, zipped

# ------------------------------------------------------------------------------------------------ patterns


@pytest.mark.parametrize(
    ("name", "glob", "expected"),
    [
        ("a/b/c.txt", "*.txt", True),  # without "/" the name alone
        ("a/b/c.txt", "a/*.txt", False),  # `*` stays within a folder
        ("a/b/c.txt", "a/*/c.txt", True),
        ("a/b/c.txt", "**/*.txt", True),
        ("c.txt", "**/*.txt", True),
        ("a/b/c.txt", "a/**", True),
        ("a/b/c.txt", "**", True),
        ("a/b/c.txt", "a/?/c.txt", True),
        ("a/b/c.txt", "a/?.txt", False),
        ("a/[1].txt", "a/[1].txt", True),  # brackets are plain
        ("hamlet_gut_f.txt", "*_gut.txt", False),
    ],
)
def test_globs(name: str, glob: str, expected: bool) -> None:
    assert matches(name, glob) is expected


def test_except_wins() -> None:
    patterns = Patterns(("*.txt",), ("metadata.txt",))
    assert patterns.select("x/poems.txt")
    assert not patterns.select("x/metadata.txt")


# ------------------------------------------------------------------------------------------------ archives


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("p.zip", zipped),
        ("p.whl", zipped),
        ("p.tar", lambda members: tar(members, "w")),
        ("p.tar.gz", tar),
        ("p.tgz", tar),
        ("p.tar.bz2", lambda members: tar(members, "w:bz2")),
        ("p.tar.xz", lambda members: tar(members, "w:xz")),
        ("p.tar.zst", lambda members: pa.compress(tar(members, "w"), "zstd", asbytes=True)),
    ],
)
def test_archives_of_all_kinds(tmp_path: Path, name: str, pack: Any) -> None:
    documents = read(
        tmp_path, name, pack({"p/b.txt": b"second", "p/a.txt": b"first", "p/x.py": b"code"}), members="*.txt"
    )
    assert texts(documents) == ["second", "first"]  # in the archive's order
    assert [item.id for item in documents] == ["s/p/b.txt#0", "s/p/a.txt#0"]
    assert dict(sources.contents(tmp_path / name)) == {"p/b.txt": 6, "p/a.txt": 5, "p/x.py": 4}


@pytest.mark.parametrize(("name", "pack"), [("p.zip", zipped), ("p.tar.gz", tar)])
def test_contents_lists_what_reading_would_give(tmp_path: Path, name: str, pack: Any) -> None:
    packed = {"a.txt": b"plain", "b.txt.gz": gzip.compress(b"packed twice"), "c.zip": zipped({"x": b"inner"})}
    (tmp_path / name).write_bytes(pack(packed))
    found = archives.members(tmp_path / name, Patterns())
    read_through = [(member.name, len(member.stream.read())) for member in found if member.stream]
    assert sources.contents(tmp_path / name) == read_through
    assert sources.contents(tmp_path / name)[:2] == [("a.txt", 5), ("b.txt.gz", 12)]


def test_contents_of_a_zip_and_of_a_plain_file_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "p.zip").write_bytes(zipped({"a.txt": b"text"}))
    (tmp_path / "t.txt").write_bytes(b"plain")
    monkeypatch.setattr(streams._Counted, "readinto", None)
    assert sources.contents(tmp_path / "p.zip") == [("a.txt", 4)]
    assert sources.contents(tmp_path / "t.txt") == [("t.txt", 5)]


@pytest.mark.parametrize("inner", ["in.tar.gz", "in.zip"])
@pytest.mark.parametrize("outer", ["out.tar.gz", "out.whl"])
def test_an_archive_in_an_archive_is_opened_when_named(tmp_path: Path, outer: str, inner: str) -> None:
    def pack(name: str, members: dict[str, bytes]) -> bytes:
        return tar(members) if name.endswith("gz") else zipped(members)

    nested = pack(inner, {"d/text.txt": b"deep", "d/other.md": b"no"})
    data = pack(outer, {"p/broken.zip": b"not opened", f"p/{inner}": nested})
    documents = read(tmp_path, outer, data, members=f"**/{inner}/*/*.txt")
    assert [(item.id, item.text) for item in documents] == [(f"s/p/{inner}/d/text.txt#0", "deep")]


def test_archives_too_deep_are_refused(tmp_path: Path) -> None:
    data = zipped({"text.txt": b"deep"})
    for _ in range(3):
        data = zipped({"a.zip": data})
    with pytest.raises(SourceError, match="archives deep"):
        read(tmp_path, "a.zip", data, members="a.zip/a.zip/a.zip/*.txt")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("t.txt.gz", gzip.compress(b"text")),
        ("t.txt.bz2", bz2.compress(b"text")),
        ("t.txt.xz", lzma.compress(b"text")),
        ("t.txt.zst", pa.compress(b"text", "zstd", asbytes=True)),
        ("t.txt", b"text"),
    ],
    ids=["gz", "bz2", "xz", "zst", "plain"],
)
def test_single_files_are_decompressed(tmp_path: Path, name: str, data: bytes) -> None:
    assert texts(read(tmp_path, name, data)) == ["text"]


def test_links_are_counted_unless_left_out(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        link = tarfile.TarInfo("p/passwd.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        good = tarfile.TarInfo("p/good.txt")
        good.size = 4
        archive.addfile(good, io.BytesIO(b"good"))
    documents = read(tmp_path, "p.tar.gz", buffer.getvalue(), members="*.txt")
    assert texts(documents) == ["good"]
    assert [(item.id, item.reason) for item in documents if item.reason] == [("s/p/passwd.txt#0", "a link or device")]
    assert texts(read(tmp_path, "p.tar.gz", buffer.getvalue(), members="*.txt", **{"except": "passwd.txt"})) == ["good"]
    assert sources.contents(tmp_path / "p.tar.gz") == [("p/good.txt", 4)]


def test_a_link_in_a_zip_is_counted(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo("link.txt")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    assert reasons(read(tmp_path, "p.zip", buffer.getvalue())) == [("a link or device", 0)]


def test_a_member_that_stands_twice_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for _ in range(2):
            archive.addfile(tarfile.TarInfo("a.txt"))
    with pytest.raises(SourceError, match="twice"):
        read(tmp_path, "p.tar.gz", buffer.getvalue())


@pytest.mark.parametrize("name", ["bomb.zip", "bomb.tar.gz", "bomb.txt.gz"])
def test_bombs_are_stopped(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "EXPANSION_FLOOR", 1_000_000)
    zeros = bytes(20_000_000)
    packed = {"bomb.zip": zipped, "bomb.tar.gz": tar}.get(name, lambda members: gzip.compress(members["zeros.txt"]))
    with pytest.raises(SourceError, match="200 times its size"):
        read(tmp_path, name, packed({"zeros.txt": zeros}))


def test_a_bomb_in_a_tar_header_is_not_read(tmp_path: Path) -> None:
    header = tarfile.TarInfo("././@PaxHeader")
    header.type, header.size = tarfile.XHDTYPE, 100_000_000
    data = gzip.compress(header.tobuf() + bytes(100_000_000), 1)
    tracemalloc.start()
    with pytest.raises(SourceError, match="header of 100,000,000 bytes"):
        read(tmp_path, "p.tar.gz", data)
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("keep", [10, 300, -10])
@pytest.mark.parametrize("name", ["p.zip", "p.tar.gz", "p.txt.gz"])
def test_damage_is_named(tmp_path: Path, name: str, keep: int) -> None:
    text = "".join(str(number * number) for number in range(2000)).encode()
    packed = {"p.zip": zipped, "p.tar.gz": tar}.get(name, lambda members: gzip.compress(members["a.txt"]))(
        {"a.txt": text}
    )
    with pytest.raises(SourceError, match=r"p\..*: damaged"):
        read(tmp_path, name, packed[:keep])


def test_a_broken_checksum_is_damage(tmp_path: Path) -> None:
    data = bytearray(zipped({"a.txt": b"0123456789" * 100}))
    data[40] ^= 0xFF
    with pytest.raises(SourceError, match="damaged"):
        read(tmp_path, "p.zip", bytes(data))


def test_a_member_beyond_the_bound_is_counted_or_refused_and_lines_are_read(tmp_path: Path) -> None:
    data = b"line of text\n" * 100_000
    assert reasons(read(tmp_path, "t.txt", data, member_mb=1)) == [("too long", 1_300_000)]
    with pytest.raises(SourceError, match="`member_mb`"):
        read(tmp_path, "t.json", data, member_mb=1, format="json_records")
    assert len(texts(read(tmp_path, "t.txt", data, member_mb=1, format="lines"))) == 100_000


# ------------------------------------------------------------------------------------------------ formats


def test_text_in_an_encoding(tmp_path: Path) -> None:
    assert texts(read(tmp_path, "t.txt", "café".encode("latin-1"), encoding="latin-1")) == ["café"]
    assert texts(read(tmp_path, "t.txt", "\ufeffcafé".encode())) == ["café"]
    assert texts(read(tmp_path, "t.txt", "café".encode("utf-16"), encoding="utf-16")) == ["café"]


def test_an_undecodable_member_is_counted(tmp_path: Path) -> None:
    documents = read(tmp_path, "p.zip", zipped({"bad.txt": b"\xff\xfe\x00ab", "good.txt": b"good"}))
    assert reasons(documents) == [("undecodable", 5)]
    assert texts(documents) == ["good"]


def test_lines(tmp_path: Path) -> None:
    documents = read(tmp_path, "t.txt", b"one\r\n\n  two \nb\xff\nthree", format="lines")
    assert texts(documents) == ["one", "  two ", "three"]
    assert reasons(documents) == [("empty", 0), ("undecodable", 2)]
    assert [item.id for item in documents] == [f"s/t.txt#{number}" for number in range(5)]


def test_jsonl(tmp_path: Path) -> None:
    lines = [
        '{"text": "one", "url": "u", "n": 1}',
        "",
        "{broken",
        '{"other": 1}',
        '["text"]',
        '{"text": "\\ud800"}',
        "null",
    ]
    documents = read(tmp_path, "t.jsonl", "\n".join(lines).encode(), format="jsonl", metadata=["url", "none"])
    assert texts(documents) == ["one"]
    assert json.loads(documents[0].metadata) == {"url": "u"}
    counted = [("malformed", 7), ("no text", 12), ("no text", 8), ("undecodable", 3), ("malformed", 4)]
    assert reasons(documents) == counted


@pytest.mark.parametrize("wrap", [list, lambda values: {f"k{i}": value for i, value in enumerate(values)}])
def test_json_records(tmp_path: Path, wrap: Any) -> None:
    values = [{"extract": "one", "topic": "Arts"}, {"extract": 7}, {"extract": " \n"}, "text", {"extract": "語"}]
    data = json.dumps(wrap(values)).encode()
    documents = read(tmp_path, "t.json", data, format="json_records", text="extract", metadata=["topic"])
    assert texts(documents) == ["one", "語"]
    assert documents[0].metadata == '{"topic": "Arts"}'
    assert reasons(documents) == [("no text", 0), ("empty", 2), ("no text", 0)]


@pytest.mark.parametrize("data", [b"{", b'"text"', b"[" * 100_000])
def test_json_that_is_none(tmp_path: Path, data: bytes) -> None:
    assert reasons(read(tmp_path, "t.json", data, format="json_records")) == [("malformed", len(data))]


def test_yaml_conversations(tmp_path: Path) -> None:
    data = b"categories: [ai]\nconversations:\n- - Hello?\n  - Hi.\n- A turn alone\n- - 42\n  - Yes.\n"
    documents = read(tmp_path, "t.yml", data, format="yaml_conversations", metadata="categories")
    assert texts(documents) == ["Hello?\nHi.\n\nA turn alone\n\n42\nYes."]
    assert json.loads(documents[0].metadata) == {"categories": ["ai"]}
    pieces = read(tmp_path, "t.yml", data, format="yaml_conversations", split=15)
    assert texts(pieces) == ["Hello?\nHi.", "A turn alone", "42\nYes."]


def test_yaml_turns_are_text_as_written(tmp_path: Path) -> None:
    lines = [
        "conversations:",
        "- - No",
        "  - 12:30",
        "  - 1_000",
        "  - 'Note: quoted'",
        "  - Note: colon",
        "  -",  # a turn left empty is none
        "  - 2020-01-01",
        "- Talk: alone",
        "  more:",
        "- 007",
        "- - null",
    ]
    documents = read(tmp_path, "t.yml", "\n".join(lines).encode(), format="yaml_conversations")
    turns = "No\n12:30\n1_000\nNote: quoted\nNote: colon\n2020-01-01\n\nTalk: alone\nmore:\n\n007\n\nnull"
    assert texts(documents) == [turns]
    assert reasons(documents) == []


def test_yaml_turns_that_are_none_are_counted_with_their_bytes(tmp_path: Path) -> None:
    lines = [
        "# 語",
        "categories: [語, 1, {year: 2020}]",
        "conversations:",
        "- - Hello?",
        "  - [語, nested]",
        "  - !own tag",
        "  - Why: [a, b]",
        "- - Bye.",
        "conversations: [Again.]",  # of a key given twice YAML would keep the last
    ]
    data = "\n".join(lines).encode()
    documents = read(tmp_path, "t.yml", data, format="yaml_conversations", metadata="categories")
    assert texts(documents) == ["Hello?\n\nBye.\n\nAgain."]
    assert json.loads(documents[0].metadata) == {"categories": ["語", "1", {"year": "2020"}]}
    sizes = [len("[語, nested]".encode()), len(b"!own tag"), len(b"Why: [a, b]")]
    assert reasons(documents) == [("malformed", size) for size in sizes]


@pytest.mark.parametrize(
    "data",
    [
        b"conversations: [",
        b"categories: [a]",
        b"a: &a [x, x]\nconversations: [*a, *a]",  # aliases could stand for gigabytes
        b"conversations: !!python/object/apply:os.system ['true']",  # and tags for code
    ],
)
def test_yaml_that_is_none(tmp_path: Path, data: bytes) -> None:
    assert reasons(read(tmp_path, "t.yml", data, format="yaml_conversations")) == [("malformed", len(data))]


def test_rated_snippets(tmp_path: Path) -> None:
    data = (
        b"1_1\t-0.5\tIt broke.\r\n1_2\t0.1\tI cried.\r\nbad line\r\n2_1\tnan?\tx\r\n2_2\t2\tGood.\r\n3\t1\tAlone.\r\n"
    )
    documents = read(tmp_path, "t.txt", data, format="rated_snippets")
    assert texts(documents) == ["It broke. I cried.", "Good.", "Alone."]
    assert [json.loads(item.metadata) for item in documents if item.reason is None] == [
        {"review": "1", "rating": -0.2},
        {"review": "2", "rating": 2.0},
        {"review": "3", "rating": 1.0},
    ]
    assert reasons(documents) == [("malformed", 8), ("malformed", 10)]


# ------------------------------------------------------------------------------------------------ extraction


@given(text=st.text(st.sampled_from(list("ab é語\n\n\r ")), max_size=120), most=st.integers(1, 30))
def test_every_byte_of_a_split_text_is_accounted_for(
    tmp_path_factory: pytest.TempPathFactory, text: str, most: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / "split"
    documents = read(folder, "t.txt", text.encode(), split=most)
    assert sum(item.size for item in documents) == len(text.encode())
    assert all(item.size == len(item.text.encode()) for item in documents if item.reason != GAPS)
    assert len({item.id for item in documents if item.reason != GAPS}) == sum(i.reason != GAPS for i in documents)


def test_no_member_that_matches_is_an_error_that_lists_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no member matches \['\*\.md'\].*\n  p/a\.txt\n"):
        read(tmp_path, "p.zip", zipped({"p/a.txt": b"a"}), members="*.md")


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes(b"text")
    raw = packaged(tmp_path, "t.txt")
    (tmp_path / "t.txt").write_bytes(b"tampered")
    with pytest.raises(SourceError, match="changed since"):
        next(sources.extract(raw, Reading()))


def test_files_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("texts/deep").mkdir(parents=True)
    Path("texts/deep/a.txt").write_text("one")
    Path("texts/b.zip").write_bytes(zipped({"deep/a.txt": b"two"}))
    Path("out/1-of-1").mkdir(parents=True)
    manifest.write("out/1-of-1", "download", sources.download("mine", {"path": "texts/**"}, "cache", "out/1-of-1"))
    documents = list(sources.extract(sources.read_raw("out", 1), Reading()))
    assert [(item.id, item.text) for item in documents] == [
        ("mine/texts/b.zip/deep/a.txt#0", "two"),
        ("mine/texts/deep/a.txt#0", "one"),
    ]


@pytest.mark.parametrize(
    ("reading", "message"),
    [
        ({"format": "docx"}, "known are: text, lines"),
        ({"member": "x"}, "unknown setting 'member'.*except"),
        ({"fraction": 0}, "fraction"),
        ({"split": 0}, "split"),
        ({"encoding": "klingon"}, "klingon"),
        ({"encoding": "utf-16", "format": "lines"}, "line ends"),
    ],
)
def test_a_wrong_read_block_is_refused(reading: dict[str, Any], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        Reading.from_dict(reading)
