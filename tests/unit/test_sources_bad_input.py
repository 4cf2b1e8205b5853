"""Bad input: quarantined with a count and a reason, or refused with an error that says what to do. Never silence."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import json
import lzma
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pileline.sources import Reading, SourceError, extract, extraction, streams
from pileline.sources.archives import harmless
from pileline.sources.formats import FORMATS, records

from tests.unit.files_to_read import ar, packaged, read, reasons, tar, texts, zipped

GOOD = b'{"text": "good"}'


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, "zstd", asbytes=True))


def parquet(table: pa.Table, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()


# ------------------------------------------------------------------------------------------------ lines and texts


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"text": "cut', ("malformed", 13)),
        (b'{"text": "a"} {"text": "b"}', ("malformed", 27)),
        (b'{"other": 1}', ("no text", 12)),
        (b'{"text": null}', ("no text", 14)),
        (b'{"text": 17}', ("no text", 12)),
        (b'{"text": ["a"]}', ("no text", 15)),
        (b'"text"', ("no text", 6)),
        (b'{"text": ""}', ("empty", 0)),
        (b'{"text": " \\n"}', ("empty", 2)),
        (b'{"text": "\xff"}', ("undecodable", 13)),
        (b'{"text": "\\ud800"}', ("undecodable", 3)),
        (b'{"text": "a\\u0000b"}', ("NUL characters", 3)),
        (b'{"text": "a\x00b"}', ("malformed", 15)),
        (b"\x00\x00\x00", ("malformed", 3)),
        (b"[" * 100_000, ("malformed", 100_000)),
        (b'{"text": "a", "meta": ' + b'{"a": ' * 900 + b"1" + b"}" * 901, ("malformed", 1)),
        (b'{"text": "a", "meta": ' + b"[" * 5000 + b"]" * 5000 + b"}", ("malformed", 10_023)),
        (b'{"text": "a", "meta": ' + b"9" * 5000 + b"}", ("malformed", 5023)),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_bad_line_is_counted_and_the_next_is_read(tmp_path: Path, line: bytes, expected: tuple[str, int]) -> None:
    documents = read(tmp_path, "t.jsonl", line + b"\n" + GOOD, format="jsonl", metadata="meta")
    assert reasons(documents) == [expected]
    assert texts(documents) == ["good"]


def test_of_a_key_given_twice_the_last_counts_as_everywhere(tmp_path: Path) -> None:
    assert texts(read(tmp_path, "t.jsonl", b'{"text": "a", "text": "b"}', format="jsonl")) == ["b"]


def test_marks_and_line_ends_of_other_systems_are_no_text(tmp_path: Path) -> None:
    data = b"\xef\xbb\xbf" + GOOD + b"\r\n\r\n" + GOOD + b"\r\n"
    assert texts(read(tmp_path, "t.jsonl", data, format="jsonl")) == ["good", "good"]


def test_metadata_that_json_cannot_hold_is_written_as_text(tmp_path: Path) -> None:
    data = b'{"text": "a", "meta": {"x": [NaN, 1e999, "\\udc80"], "\\ud800": 1}}'
    (document,) = read(tmp_path, "t.jsonl", data, format="jsonl", metadata="meta")
    document.metadata.encode()

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    assert json.loads(document.metadata, parse_constant=refuse) == {"meta": {"x": ["nan", "inf", "?"], "?": 1}}


@pytest.mark.parametrize(
    ("name", "megabytes"), [("jsonl", 1000), ("lines", 50), ("csv", 50), ("tsv", 50), ("rated_snippets", 50)]
)
def test_a_line_of_a_gigabyte_is_counted_in_little_memory(name: str, megabytes: int) -> None:
    class Endless(io.RawIOBase):
        """A good line, one of 1 GB, and a good line."""

        def __init__(self) -> None:
            first = b"text\tb\n" if name == "tsv" else b"text\n"
            self.left = [first, *[b"x" * MEGABYTE] * megabytes, b"\n", good + b"\n"]

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            if not self.left:
                return 0
            piece, self.left[0] = self.left[0][: len(buffer)], self.left[0][len(buffer) :]
            if not self.left[0]:
                del self.left[0]
            buffer[: len(piece)] = piece
            return len(piece)

    MEGABYTE = 1_000_000  # noqa: N806
    good = {"jsonl": GOOD, "rated_snippets": b"1_1\t1\tgood", "tsv": b"good\t1"}.get(name, b"good")
    reading = Reading.from_dict({"format": name, "member_mb": 1})
    tracemalloc.start()
    found = list(records(io.BufferedReader(Endless(), MEGABYTE), reading, "t"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30_000_000
    assert found[-1].text == "good"
    assert ("too long", megabytes * MEGABYTE + (name in ("csv", "tsv"))) in [(item.reason, item.size) for item in found]


def test_a_field_that_is_too_long_costs_one_row(tmp_path: Path) -> None:
    lines = "line of a field\n" * 100_000
    documents = read(tmp_path, "t.csv", f'text\n"{lines}"\ngood\n'.encode(), format="csv", member_mb=1)
    assert texts(documents) == ["good"]
    assert reasons(documents) == [("too long", len(lines) + 3)]


def test_a_document_that_no_later_stage_could_hold_is_counted_unless_it_is_cut(tmp_path: Path) -> None:
    text = "A line.\n" * (extraction.LONGEST // 8 + 1)
    (only,) = read(tmp_path, "long.txt", text.encode())
    assert (only.reason, only.text, only.size) == ("too long", "", len(text))
    cut = read(tmp_path, "long.txt", text.encode(), split=1_000_000)
    assert {item.reason for item in cut} <= {None, "white space at cuts"}
    assert sum(item.size for item in cut) == len(text)


def test_a_text_in_a_table_that_is_too_long_costs_one_row(tmp_path: Path) -> None:
    table = pa.table({"text": ["a" * 1_000_001, "good"]})
    documents = read(tmp_path, "t.parquet", parquet(table), format="parquet", member_mb=1)
    assert reasons(documents) == [("too long", 1_000_001)]
    assert texts(documents) == ["good"]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", ("empty", 0)),
        (b" \n\t\n", ("empty", 4)),
        (b"\xff\xfeh\x00i\x00", ("undecodable", 6)),  # UTF-16 with its mark
        ("hi".encode("utf-16-le"), ("NUL characters", 4)),  # and without
        (b"caf\xe9", ("undecodable", 4)),
        (bytes(range(128)), ("NUL characters", 128)),
        (b"\xed\xa0\x80", ("undecodable", 3)),  # half a surrogate pair
    ],
)
def test_a_text_that_is_none_is_counted(tmp_path: Path, data: bytes, expected: tuple[str, int]) -> None:
    documents = read(tmp_path, "p.zip", zipped({"a.txt": data, "b.txt": b"good"}))
    assert reasons(documents) == [expected]
    assert texts(documents) == ["good"]


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"parquet", "arrow"}))
def test_an_empty_file_is_counted_in_every_format(tmp_path: Path, name: str) -> None:
    assert reasons(read(tmp_path, "t.txt.gz", gzip.compress(b""), format=name))[0][1] == 0


@pytest.mark.parametrize("name", ["parquet", "arrow"])
@pytest.mark.parametrize("data", [b"", b"PAR1", b"ARROW1\0\0", b"text" * 100])
def test_what_is_no_table_is_refused(tmp_path: Path, name: str, data: bytes) -> None:
    with pytest.raises(SourceError, match=f"t.bin: damaged, encrypted, or not {name}.*again"):
        read(tmp_path, "t.bin", data, format=name)


def test_an_encrypted_table_is_refused(tmp_path: Path) -> None:
    import pyarrow.parquet.encryption as pe

    class Keys(pe.KmsClient):  # type: ignore[misc]
        def wrap_key(self, key_bytes: bytes, _: str) -> bytes:
            return base64.b64encode(key_bytes)

        def unwrap_key(self, wrapped_key: bytes, _: str) -> bytes:
            return base64.b64decode(wrapped_key)

    factory = pe.CryptoFactory(lambda _: Keys())
    configuration = pe.EncryptionConfiguration("footer", column_keys={"column": ["text"]})
    properties = factory.file_encryption_properties(pe.KmsConnectionConfig(), configuration)
    data = parquet(pa.table({"text": ["a"]}), encryption_properties=properties)
    with pytest.raises(SourceError, match=r"encrypted.*decrypt it first"):
        read(tmp_path, "t.parquet", data, format="parquet")


def test_a_damaged_page_is_noticed(tmp_path: Path) -> None:
    text = "".join(str(n * n) for n in range(1000))
    data = bytearray(parquet(pa.table({"text": [text]}), compression="none", write_page_checksum=True))
    data[data.index(b"999")] ^= 1
    with pytest.raises(SourceError, match=r"t\.parquet: damaged.*(checksum|CRC)"):
        read(tmp_path, "t.parquet", bytes(data), format="parquet")


# ------------------------------------------------------------------------------------------------ archives

TEXT = b"".join(b"%d\n" % (n * n) for n in range(4000))
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "t.txt.gz": gzip.compress,
    "t.txt.bz2": bz2.compress,
    "t.txt.xz": lzma.compress,
    "t.txt.zst": zstd,
    "p.zip": lambda data: zipped({"a.txt": data}),
    "p.tar": lambda data: tar({"a.txt": data, "b.txt": data}, "w"),
    "p.tar.gz": lambda data: tar({"a.txt": data, "b.txt": data}),
    "p.tar.zst": lambda data: zstd(tar({"a.txt": data, "b.txt": data}, "w")),
    "p.deb": lambda data: ar({"debian-binary": b"2.0\n", "data.tar.xz": tar({"a.txt": data}, "w:xz")}),
}


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("name", PACKED)
def test_truncated_files_are_refused(tmp_path: Path, name: str, share: float) -> None:
    whole = PACKED[name](TEXT)
    with pytest.raises(SourceError, match=rf"{name}: damaged, or not what its name says \(.+\); fetch or make it"):
        read(tmp_path, name, whole[: int(len(whole) * share)])


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from([*PACKED, "t.parquet", "t.arrow"]),
    changes=st.lists(st.tuples(st.floats(0, 0.999), st.integers(1, 255)), min_size=1, max_size=4),
    cut=st.floats(0, 1),
)
@example("p.zip", [(0.97, 8)], 1.0)
def test_no_damage_is_a_crash(tmp_path: Path, name: str, changes: list[tuple[float, int]], cut: float) -> None:
    table = pa.table({"text": ["a", None, "b" * 50], "n": [1, 2, 3]})
    if name == "t.arrow":
        buffer = io.BytesIO()
        with pa.ipc.new_stream(buffer, table.schema) as writer:
            writer.write_table(table)
        data = bytearray(buffer.getvalue())
    else:
        data = bytearray(parquet(table) if name == "t.parquet" else PACKED[name](TEXT[:500]))
    for place, change in changes:
        data[int(place * len(data))] ^= change
    kept = bytes(data[: int(len(data) * min(1, 2 * cut))])  # often all of it
    reading = {"format": name[2:]} if name in ("t.parquet", "t.arrow") else {}
    try:
        documents = read(tmp_path, name, kept, **reading)
    except SourceError:
        return
    for item in documents:
        item.id.encode()
        item.metadata.encode()
        assert item.reason is not None or item.size == len(item.text.encode())


def test_a_tar_cut_between_two_members_is_refused(tmp_path: Path) -> None:
    data = tar({"a.txt": b"a", "b.txt": b"b"}, "w")[:1024]
    with pytest.raises(SourceError, match="empty header at byte 1,024"):
        read(tmp_path, "p.tar", data)


def test_a_header_damaged_amid_a_tar_is_not_its_end(tmp_path: Path) -> None:
    data = bytearray(tar({"a.txt": b"a", "b.txt": b"b"}, "w"))
    data[1024] ^= 1  # in the header of b.txt
    with pytest.raises(SourceError, match="bad checksum at byte 1,024"):
        read(tmp_path, "p.tar", bytes(data))


def test_two_tars_in_one_file_are_not_half_read(tmp_path: Path) -> None:
    data = tar({"a.txt": b"a"}, "w") + tar({"b.txt": b"b"}, "w")
    with pytest.raises(SourceError, match="as if two archives were put together"):
        read(tmp_path, "p.tar", data)


def test_a_checksum_behind_the_end_of_a_tar_is_compared(tmp_path: Path) -> None:
    data = bytearray(tar({"a.txt": b"a"}))
    data[-8] ^= 1
    with pytest.raises(SourceError, match=r"damaged.*CRC"):
        read(tmp_path, "p.tar.gz", bytes(data))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("../../etc/passwd", "%2E%2E/%2E%2E/etc/passwd"),
        ("/etc/passwd", "etc/passwd"),
        ("./a//b/./c", "a/b/c"),
        ("a/..", "a/%2E%2E"),
        ("...", "..."),
        ("two\nlines\x00", "two%0Alines%00"),
        ("caf\udce9", "caf%E9"),
        ("\ud800", "%ED%A0%80"),
        ("/", "%2E"),
        ("語/é.txt", "語/é.txt"),
    ],
)
def test_names_are_made_harmless(name: str, expected: str) -> None:
    assert harmless(name) == expected


@given(st.text(st.one_of(st.sampled_from(list("./\\\n\x00")), st.characters())))
def test_no_name_points_out_of_a_folder_or_cannot_be_written(name: str) -> None:
    made = harmless(name)
    assert made.encode().decode().splitlines() == [made]
    assert not made.startswith("/")
    assert not {"", ".", ".."} & set(made.split("/"))
    assert harmless(made) == made


def test_names_from_outside_become_ids_and_nothing_else(tmp_path: Path) -> None:
    names = ["../../up.txt", "/absolute.txt", "a/../../b.txt"]
    inside = tmp_path / "deep" / "er"
    inside.mkdir(parents=True)
    for name, data in [("p.tar", tar(dict.fromkeys(names, b"x"), "w")), ("p.zip", zipped(dict.fromkeys(names, b"x")))]:
        documents = read(inside, name, data)
        assert [item.id for item in documents] == [
            "s/%2E%2E/%2E%2E/up.txt#0",
            "s/absolute.txt#0",
            "s/a/%2E%2E/%2E%2E/b.txt#0",
        ]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["deep", "er", "p.tar", "p.zip"]


def test_names_in_another_encoding_are_kept_by_their_bytes(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT, encoding="latin-1") as archive:
        archive.addfile(tarfile.TarInfo("café.txt"))
    (document,) = read(tmp_path, "p.tar", buffer.getvalue())
    assert document.id == "s/caf%E9.txt#0"


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_counted_and_never_followed(tmp_path: Path, kind: bytes) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        strange = tarfile.TarInfo("strange.txt")
        strange.type, strange.linkname = kind, "/etc/passwd"
        archive.addfile(strange)
        archive.addfile(tarfile.TarInfo("good.txt"), io.BytesIO())
    documents = read(tmp_path, "p.tar", buffer.getvalue())
    assert [(item.id, item.text, item.reason) for item in documents] == [
        ("s/strange.txt#0", "", "a link or device"),
        ("s/good.txt#0", "", "empty"),
    ]


def test_encrypted_members_are_counted(tmp_path: Path) -> None:
    data = bytearray(zipped({"a.txt": b"secret"}))
    data[6] |= 1  # the flag in the member's header, and in the directory
    data[data.index(b"PK\x01\x02") + 8] |= 1
    assert reasons(read(tmp_path, "p.zip", bytes(data))) == [("encrypted", 6)]


def test_a_compression_that_python_lacks_is_refused(tmp_path: Path) -> None:
    data = bytearray(zipped({"a.txt": b"text"}))
    data[8] = data[data.index(b"PK\x01\x02") + 10] = 9  # Deflate64
    with pytest.raises(SourceError, match=r"p\.zip: damaged.*compression"):
        read(tmp_path, "p.zip", bytes(data))


@pytest.mark.parametrize("ending", [".7z", ".rar", ".lz4", ".Z"])
def test_an_unknown_compression_is_refused_with_what_is_read(tmp_path: Path, ending: str) -> None:
    with pytest.raises(SourceError, match=rf"packed as {ending}, which is not read; pack it anew as one of .gz"):
        read(tmp_path, f"t.jsonl{ending}", GOOD, format="jsonl")


def test_a_folder_that_is_called_as_an_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.zip").write_bytes(zipped({"a": b"x"}))
    raw = packaged(tmp_path, "p.zip")
    (tmp_path / "p.zip").unlink()
    (tmp_path / "p.zip").mkdir()
    with pytest.raises(SourceError, match=r"p\.zip: changed since it was recorded; delete"):
        next(extract(raw, Reading()))


def test_ids_are_unique_whatever_the_members_are_called(tmp_path: Path) -> None:
    documents = read(tmp_path, "p.zip", zipped({"a": b"x\ny", "a#0": b"z", "a#0#0": b"w"}), format="lines")
    assert len({item.id for item in documents}) == len(documents) == 4


@pytest.mark.parametrize("name", ["t.parquet", "p.tar"])
def test_tables_that_expand_beyond_bounds_are_stopped(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pileline.sources.formats import tables

    monkeypatch.setattr(tables, "EXPANSION_FLOOR", 100_000)
    data = parquet(pa.table({"text": ["a" * 10_000] * 10_000}))  # 100 MB, by a dictionary of one text
    packed = data if name == "t.parquet" else tar({"t.parquet": data}, "w")
    with pytest.raises(SourceError, match="may be a bomb"):
        read(tmp_path, name, packed, format="parquet")


def test_of_an_archives_members_only_the_names_are_kept(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        with tarfile.open(tmp_path / "p.tar", "w") as archive:
            for number in range(count):
                archive.addfile(tarfile.TarInfo(f"{number:05}.txt"))
        raw = packaged(tmp_path, "p.tar")
        tracemalloc.start()
        assert sum(1 for _ in extract(raw, Reading())) == count
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert (peak(2500) - peak(500)) / 2000 < 350  # bytes; with their headers it would be twice that


def test_a_zip_in_a_tar_is_not_held_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "SPOOLED", 1_000_000)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(40):
            archive.writestr(f"{number}.txt", b"0123456789" * 100_000)
    (tmp_path / "p.tar").write_bytes(tar({"in.zip": buffer.getvalue()}, "w"))
    del buffer, archive
    raw = packaged(tmp_path, "p.tar")
    tracemalloc.start()
    sizes = [item.size for item in extract(raw, Reading.from_dict({"members": "in.zip/*", "member_mb": 2}))]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sizes == [1_000_000] * 40
    assert peak < 12_000_000


def test_names_in_a_zip_that_are_not_what_it_says_are_refused(tmp_path: Path) -> None:
    data = zipped({"é.txt": b"text"})
    assert read(tmp_path, "p.zip", data)[0].id == "s/é.txt#0"
    with pytest.raises(SourceError, match=r"p\.zip: damaged.*utf-8"):
        read(tmp_path, "p.zip", data.replace("é".encode(), b"\xff\xff"))
