"""Formats: what each finds in files of its kind, whatever they are packed in."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pileline import checks
from pileline.sources import Extracted, Extraction, Reading, SourceError, extract
from pileline.sources.formats import FORMATS
from pileline.sources.reading import COMMON

from tests.unit.files_to_read import ar, packaged, read, reasons, tar, texts, zipped

SETS = ["Pile-CC", "ArXiv", "PubMed Abstracts"]


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, "zstd", asbytes=True))


def jsonl(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def parquet(table: pa.Table, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()


def arrow(table: pa.Table, write: Callable[..., Any], rows: int = 2) -> bytes:
    buffer = io.BytesIO()
    with write(buffer, table.schema) as writer:
        writer.write_table(table, rows)
    return buffer.getvalue()


def extraction(folder: Path, name: str, data: bytes, **reading: Any) -> tuple[list[Extracted], Extraction]:
    (folder / name).write_bytes(data)
    made = extract(packaged(folder, name), Reading.from_dict(reading))
    return list(made), made


def metadata(documents: list[Extracted]) -> list[Any]:
    return [json.loads(item.metadata) for item in documents if item.reason is None]


# ------------------------------------------------------------------------------------------------ settings


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_formats_have_the_settings_of_the_schema_and_their_defaults(name: str) -> None:
    properties = checks.schema()["$defs"]["read"][name]["properties"]
    stated = {key: entry.get("default") for key, entry in properties.items()}
    assert stated | {"format": "text"} == COMMON | FORMATS[name].settings


def test_every_format_of_the_schema_is_one_of_the_library() -> None:
    assert set(checks.schema()["$defs"]["read"]) == set(FORMATS)


@pytest.mark.parametrize(
    ("reading", "message"),
    [
        ({"format": "text", "where": {"a": "b"}}, "unknown setting 'where'; with format text"),
        ({"format": "lines", "delimiter": ";"}, "unknown setting 'delimiter'"),
        ({"format": "jsonl", "where": {"a": []}}, "no value"),
        ({"format": "jsonl", "where": {"a": {"b": 1}}}, "object in it, for 'a'"),
        ({"member_mb": 0}, "member_mb"),
    ],
)
def test_settings_of_another_format_are_refused(reading: dict[str, Any], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        Reading.from_dict(reading)


# ------------------------------------------------------------------------------------------------ packed

LINES = [jsonl([{"text": f"{part} {number}"} for number in range(50)]) for part in "abc"]
SKIPPABLE = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"  # a zstd frame that holds no data


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("t.jsonl", b"".join(LINES)),
        ("t.jsonl.gz", b"".join(map(gzip.compress, LINES))),
        ("t.jsonl.dz", b"".join(map(gzip.compress, LINES))),
        ("t.jsonl.bz2", b"".join(map(bz2.compress, LINES))),
        ("t.jsonl.xz", b"".join(map(lzma.compress, LINES))),
        ("t.jsonl.zst", zstd(LINES[0]) + SKIPPABLE + zstd(LINES[1]) + zstd(LINES[2])),
    ],
)
def test_files_packed_in_several_streams_are_read_to_the_end(tmp_path: Path, name: str, data: bytes) -> None:
    expected = [f"{part} {number}" for part in "abc" for number in range(50)]
    assert texts(read(tmp_path, name, data, format="jsonl")) == expected


@pytest.mark.parametrize(
    ("name", "mode", "pack"),
    [
        ("data.tar", "w", bytes),
        ("data.tar.gz", "w:gz", bytes),
        ("data.tar.xz", "w:xz", bytes),
        ("data.tar.zst", "w", zstd),
        ("data.tar.xz/", "w:xz", bytes),  # as System V's ar writes names
    ],
)
def test_a_debian_package_is_read_for_what_it_installs(
    tmp_path: Path, name: str, mode: str, pack: Callable[[bytes], bytes]
) -> None:
    files = {"./usr/share/doc/a.txt.gz": gzip.compress(b"packed"), "./usr/share/b.txt": b"plain", "./etc/c": b"no"}
    control = tar({"./control": b"Package: x"}, "w:gz")
    data = ar({"debian-binary": b"2.0\n", "control.tar.gz": control + b"x", name: pack(tar(files, mode))})
    documents = read(tmp_path, "x_1_all.deb", data, members="usr/share/**")
    assert [(item.id, item.text) for item in documents] == [
        ("s/usr/share/doc/a.txt.gz#0", "packed"),
        ("s/usr/share/b.txt#0", "plain"),
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"!<arch>\n", "holds no data.tar"),
        (b"PK\x03\x04", "does not begin"),
        (ar({"data.tar": tar({"a": b"x"}, "w")})[:600], "damaged"),
        (ar({"debian-binary": b"2.0\n"})[:40], "header in it is damaged"),
    ],
)
def test_what_is_no_debian_package_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        read(tmp_path, "x.deb", data)


def test_members_of_several_packaged_archives_have_ids_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("one.zip", "two.zip", "a/two.zip"):
        (tmp_path / name).write_bytes(zipped({"t.txt": name.encode()}))
    raw = packaged(tmp_path, "one.zip", "two.zip", "a/two.zip")
    found = {item.id: item.text for item in extract(raw, Reading())}
    assert found == {
        "s/one.zip/t.txt#0": "one.zip",
        "s/1/two.zip/t.txt#0": "two.zip",
        "s/2/two.zip/t.txt#0": "a/two.zip",
    }


# ------------------------------------------------------------------------------------------------ jsonl

ROWS = [{"text": f"text {n}", "meta": {"pile_set_name": SETS[n % 3], "n": n, "flag": n == 1}} for n in range(9)]


def test_fields_of_fields_are_read_and_select(tmp_path: Path) -> None:
    documents, made = extraction(
        tmp_path,
        "t.jsonl",
        jsonl(ROWS),
        format="jsonl",
        metadata=["meta.pile_set_name", "meta.none"],
        where={"meta.pile_set_name": ["ArXiv", "Pile-CC"], "meta.n": [0, 1, 2, 3]},
    )
    assert texts(documents) == ["text 0", "text 1", "text 3"]
    assert [item.id for item in documents] == ["s/t.jsonl#0", "s/t.jsonl#1", "s/t.jsonl#2"]
    assert metadata(documents)[1] == {"meta.pile_set_name": "ArXiv"}
    others = [json.dumps(row) for row in ROWS if row["text"] not in texts(documents)]
    assert made.counts() == {"members": 1, "passed_over": {"documents": 6, "bytes": len("".join(others))}}


def test_a_selection_of_nothing_is_an_error_that_says_what_was_asked(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"selects none of 9 records.*'meta.flag': \(1,\)"):
        read(tmp_path, "t.jsonl", jsonl(ROWS), format="jsonl", where={"meta.flag": 1})  # 1 is not true


def test_a_name_with_a_dot_can_be_a_field_of_its_own(tmp_path: Path) -> None:
    rows = [{"text": "a", "x.y": 1, "x": {"y": 2}}, {"text": "b", "x": {"y": 1}}, {"text": "c", "x": 1}]
    assert texts(read(tmp_path, "t.jsonl", jsonl(rows), format="jsonl", where={"x.y": 1})) == ["a", "b"]


def escaped(value: Any, chance: random.Random) -> str:
    """The value as JSON, any letter of its strings escaped or not."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{escaped(k, chance)}: {escaped(v, chance)}" for k, v in value.items()) + "}"
    if not isinstance(value, str):
        return json.dumps(value)
    plain = (json.dumps(letter, ensure_ascii=False)[1:-1] for letter in value)
    return '"' + "".join(p if chance.random() < 0.8 else f"\\u{ord(p):04x}" if len(p) == 1 else p for p in plain) + '"'


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(st.sampled_from(["Pile-CC", "ArXiv", 'a"b', "é", "a/b", "", 1, None, True]), min_size=1, max_size=8),
    wanted=st.lists(st.sampled_from(["Pile-CC", 'a"b', "é", "a/b", "", 1, None]), min_size=1, max_size=3),
    seed=st.integers(0, 1000),
)
def test_records_are_selected_however_json_writes_them(
    tmp_path: Path, names: list[Any], wanted: list[Any], seed: int
) -> None:
    chance = random.Random(seed)
    rows = [{"text": f"{n} Pile-CC", "meta": {"set": name, "note": "ArXiv"}} for n, name in enumerate(names)]
    data = "".join(escaped(row, chance) + "\n" for row in rows).encode()
    expected = [
        row["text"]
        for row, name in zip(rows, names, strict=True)
        if any(type(name) is type(value) and name == value for value in wanted)
    ]
    if not expected:
        with pytest.raises(SourceError, match="selects none"):
            read(tmp_path, "t.jsonl", data, format="jsonl", where={"meta.set": wanted})
        return
    documents, made = extraction(tmp_path, "t.jsonl", data, format="jsonl", where={"meta.set": wanted})
    assert texts(documents) == expected
    assert made.passed_over["documents"] == len(rows) - len(expected)


def test_a_broken_line_is_counted_whatever_where_asks_for(tmp_path: Path) -> None:
    data = jsonl(ROWS[:2]) + b'{"text": "cut off'
    documents = read(tmp_path, "t.jsonl", data, format="jsonl", where={"meta.pile_set_name": "ArXiv"})
    assert texts(documents) == ["text 1"]
    assert reasons(documents) == [("malformed", 17)]


# ------------------------------------------------------------------------------------------------ tables

TABLE = pa.Table.from_pylist([*ROWS, {"text": None, "meta": None}, {"text": " ", "meta": {"n": 3}}])
TABLES = {
    "parquet": lambda table: parquet(table, row_group_size=4),
    "file": lambda table: arrow(table, pa.ipc.new_file),
    "stream": lambda table: arrow(table, pa.ipc.new_stream),
    "compressed stream": lambda table: arrow(
        table, lambda b, s: pa.ipc.new_stream(b, s, options=pa.ipc.IpcWriteOptions(compression="zstd"))
    ),
}


@pytest.fixture(params=TABLES)
def table(request: pytest.FixtureRequest) -> tuple[str, Callable[[pa.Table], bytes]]:
    return ("parquet" if request.param == "parquet" else "arrow"), TABLES[request.param]


Made = tuple[str, Callable[[pa.Table], bytes]]


def test_tables(tmp_path: Path, table: Made) -> None:
    kind, write = table
    documents = read(tmp_path, "t.bin", write(TABLE), format=kind, metadata=["meta.n", "meta"])
    assert texts(documents) == [row["text"] for row in ROWS]
    assert metadata(documents)[4] == {"meta": ROWS[4]["meta"], "meta.n": 4}
    assert reasons(documents) == [("no text", 0), ("empty", 1)]


def test_rows_of_tables_are_selected(tmp_path: Path, table: Made) -> None:
    kind, write = table
    documents, made = extraction(tmp_path, "t.bin", write(TABLE), format=kind, where={"meta.pile_set_name": "ArXiv"})
    assert texts(documents) == ["text 1", "text 4", "text 7"]
    assert made.passed_over == {"documents": 8, "bytes": 6 * 6 + 1}


def test_text_in_a_field_of_a_column(tmp_path: Path, table: Made) -> None:
    kind, write = table
    rows = pa.Table.from_pylist([{"doc": {"body": "one", "n": 1}, "x": 1}, {"doc": None, "x": 2}])
    documents = read(tmp_path, "t.bin", write(rows), format=kind, text="doc.body", metadata="x")
    assert texts(documents) == ["one"]
    assert metadata(documents) == [{"x": 1}]
    assert reasons(documents) == [("no text", 0)]


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["one", "two", None]),
        pa.array(["one", "two", None], pa.large_string()),
        pa.array([b"one", b"two", None]),
        pa.array(["one", "two", None]).dictionary_encode(),
    ],
    ids=str,
)
def test_text_of_any_type_of_text(tmp_path: Path, table: Made, column: pa.Array) -> None:
    kind, write = table
    documents = read(tmp_path, "t.bin", write(pa.table({"text": column})), format=kind, metadata="text")
    assert texts(documents) == ["one", "two"]
    assert metadata(documents) == [{"text": "one"}, {"text": "two"}]


def test_text_that_is_not_utf8_costs_one_row(tmp_path: Path, table: Made) -> None:
    kind, write = table
    strings = pa.array([b"good", b"b\xffd", "語".encode()]).view(pa.string())
    documents = read(
        tmp_path, "t.bin", write(pa.table({"text": strings, "title": strings})), format=kind, metadata="title"
    )
    assert texts(documents) == ["good", "語"]
    assert reasons(documents) == [("undecodable", 3)]


@pytest.mark.parametrize(
    ("reading", "message"),
    [
        ({"text": "body"}, "has no column 'body'.*it has: text, meta"),
        ({"metadata": "meta.none"}, "has no column 'meta.none'"),
        ({"where": {"meta.n.x": 1}}, "has no column 'meta.n.x'"),
        ({"text": "meta.n"}, "column 'meta.n' holds int64"),
    ],
)
def test_a_column_that_is_not_there_is_named(
    tmp_path: Path, table: Made, reading: dict[str, Any], message: str
) -> None:
    kind, write = table
    with pytest.raises(SourceError, match=message):
        read(tmp_path, "t.bin", write(TABLE), format=kind, **reading)


@pytest.mark.parametrize("name", ["p.zip", "p.tar.gz", "t.parquet.gz"])
def test_parquet_in_archives(tmp_path: Path, name: str) -> None:
    data = parquet(TABLE)
    packed = {"p.zip": zipped, "p.tar.gz": tar}.get(name, lambda members: gzip.compress(members["t.parquet"]))
    documents = read(tmp_path, name, packed({"t.parquet": data}), format="parquet")
    assert texts(documents) == [row["text"] for row in ROWS]


def test_only_the_columns_asked_for_are_read_and_by_and_by(tmp_path: Path) -> None:
    letters = random.Random(1)
    noise = pa.array([letters.randbytes(5000).hex() for _ in range(6000)])  # 60 MB, in one row group
    data = parquet(pa.table({"text": noise, "other": noise}), compression="none")
    (tmp_path / "t.parquet").write_bytes(data)
    (tmp_path / "t.tar").write_bytes(tar({"t.parquet": data}, "w"))
    del noise, data
    for name in ("t.parquet", "t.tar"):
        pool, most = pa.default_memory_pool(), 0
        before = pool.bytes_allocated()
        for item in extract(packaged(tmp_path, name), Reading.from_dict({"format": "parquet"})):
            most = max(most, pool.bytes_allocated() - before)
            assert item.size == 10_000
        assert 0 < most < 35_000_000  # a page, a batch, and the batch before


# ------------------------------------------------------------------------------------------------ csv

FIELD = st.text(
    st.one_of(st.sampled_from(list("a\"',;\t\n\r é語")), st.characters(exclude_categories=["Cs"])), max_size=8
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(FIELD, FIELD), max_size=6), delimiter=st.sampled_from(",;\t"))
def test_csv_is_read_as_it_was_written(tmp_path: Path, rows: list[tuple[str, str]], delimiter: str) -> None:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([("id", "text"), *rows])
    data = buffer.getvalue().encode()
    documents = read(tmp_path, "t.csv", data, format="csv", delimiter=delimiter, metadata="id")
    expected = [(text, key) for key, text in rows if text.strip() and "\0" not in text]
    found = [(item.text, json.loads(item.metadata)["id"]) for item in documents if item.reason is None]
    assert found == expected
    assert len(documents) == max(1, len(rows))


def test_csv_without_a_header_or_quotes(tmp_path: Path) -> None:
    data = '\ufeff1;say "a\r\n\r\n2;b\n'.encode()
    documents = read(tmp_path, "t.csv", data, format="csv", header=["id", "text"], delimiter=";", quote=None)
    assert texts(documents) == ['say "a', "b"]
    rows = read(tmp_path, "t.tsv", b'id\ttext\n1\tsay "a\n2\tb\n', format="tsv", where={"id": 2})
    assert texts(rows) == ["b"]


def test_csv_in_another_encoding(tmp_path: Path) -> None:
    data = "text\ncafé\n".encode("utf-16")
    assert texts(read(tmp_path, "t.csv", data, format="csv", encoding="utf-16")) == ["café"]


def test_rows_that_do_not_fit_are_counted_and_the_rest_is_read(tmp_path: Path) -> None:
    data = b'id,text\n1,a,b\n2\n3,"say "no" twice"\n4,b\xffd\n5,good\n\n6,"never closed\n7,lost\n'
    documents = read(tmp_path, "t.csv", data, format="csv")
    assert texts(documents) == ["good"]
    expected = [("malformed", 6), ("malformed", 2), ("malformed", 19), ("undecodable", 5), ("malformed", 23)]
    assert reasons(documents) == expected


@pytest.mark.parametrize(
    ("data", "reading", "message"),
    [
        (b"id,body\n1,a\n", {}, "no column 'text'; its first line names: id, body"),
        (b"text,text\na,b\n", {}, "more than one column 'text'"),
        (b"1,a\n", {"header": ["id", "body"]}, "no column 'text'"),
        (b"te", {"encoding": "utf-32"}, "not in encoding utf-32"),
    ],
)
def test_csv_without_the_column_is_refused(tmp_path: Path, data: bytes, reading: dict[str, Any], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        read(tmp_path, "t.csv", data, format="csv", **reading)


# ------------------------------------------------------------------------------------------------ html

PAGE = """<!doctype html><html><head><title>A title</title><style>p {color: red}</style></head><body>
<nav><a href="/">Home</a></nav><h1>Head</h1><p>One <b>bold</b>
word &amp; an&nbsp;é.<p>Two<br>lines<script>var x = "<p>no</p>";</script>
<ul><li>first<li>second</ul><table><tr><td>a<td>b</table><!-- no --><pre>  x\n y</pre></body></html>"""


def test_html_is_read_as_it_is_seen(tmp_path: Path) -> None:
    (document,) = read(tmp_path, "t.html", PAGE.encode(), format="html")
    assert json.loads(document.metadata) == {"title": "A title"}
    lines = [line.strip() for line in document.text.splitlines() if line.strip()]
    assert lines == ["Head", "One bold word & an\xa0é.", "Two", "lines", "• first", "• second", "a\t\tb", "x", "y"]
    assert "Head\n\nOne bold" in document.text


@pytest.mark.parametrize(
    ("declared", "encoding"),
    [
        ('<meta charset="windows-1251">', "cp1251"),
        ('<meta http-equiv="content-type" content="text/html; charset=koi8-r">', "koi8-r"),
        ('<meta charset="utf-16">', "utf-8"),  # readable as it is, so it cannot be
        ('<meta charset="no-such">', "utf-8"),
        ("", "utf-8-sig"),
        ("", "utf-16"),  # by its byte-order mark
    ],
)
def test_html_says_its_encoding(tmp_path: Path, declared: str, encoding: str) -> None:
    page = f"<html><head>{declared}</head><body><p>Привет, мир</body></html>".encode(encoding)
    assert texts(read(tmp_path, "t.html", page, format="html")) == ["Привет, мир"]


def test_html_of_another_encoding_is_counted(tmp_path: Path) -> None:
    page = b"<p>caf\xe9</p>"
    assert reasons(read(tmp_path, "t.html", page, format="html")) == [("undecodable", len(page))]
    assert texts(read(tmp_path, "t.html", page, format="html", encoding="latin-1")) == ["café"]


def test_html_nested_without_end_is_read(tmp_path: Path) -> None:
    page = b"<div><b>" * 100_000 + b"deep"
    assert texts(read(tmp_path, "t.html", page, format="html")) == ["deep"]


def test_lists_in_lists_without_end_are_not_indented_without_end(tmp_path: Path) -> None:
    (document,) = read(tmp_path, "t.html", b"<ul a='<'><li>x" * 20_000, format="html")
    assert document.text.split() == ["•", "x"] * 20_000
    assert document.size < 500_000
    assert texts(read(tmp_path, "t.html", b"<ul><li>a<ul><li>b</ul><li>c</ul>", format="html")) == [
        "  • a\n    • b\n  • c"
    ]
