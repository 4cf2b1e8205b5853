"""Tables of Apache Arrow: Parquet, and Arrow's own files and streams. A record a row, its text in a column.

Only the columns that are asked for are read, batch by batch, so memory does not grow with the file. Text is taken as
bytes and decoded value by value: neither format checks that strings are UTF-8, and one bad value must not cost a file.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pileline.sources.errors import SourceError
from pileline.sources.formats.fields import lookup, selected
from pileline.sources.reading import FIELDS, Reading
from pileline.sources.record import MISSING, PASSED_OVER, TOO_LONG, Format, Record, found_bytes, unread
from pileline.sources.streams import DAMAGE, EXPANSION, EXPANSION_FLOOR, MEGABYTE, seekable

BATCH_ROWS = 1024
BATCH_BYTES = 16 * MEGABYTE
_MAGIC = b"ARROW1\0\0"  # of an Arrow file, in which a stream follows


def read_parquet(stream: IO[bytes], reading: Reading, place: str) -> Iterator[Record]:
    yield from _whole(_parquet, stream, reading, place)


def read_arrow(stream: IO[bytes], reading: Reading, place: str) -> Iterator[Record]:
    yield from _whole(_arrow, stream, reading, place)


def _whole(
    batches: Callable[[IO[bytes], Reading, str], Iterator[pa.RecordBatch]],
    stream: IO[bytes],
    reading: Reading,
    place: str,
) -> Iterator[Record]:
    """The records of a table, whose damage is a `SourceError`."""
    try:
        for batch in batches(stream, reading, place):
            yield from _records(batch, reading)
    except (*DAMAGE, MemoryError) as error:  # a damaged length asks for more memory than there is
        what = str(error) or type(error).__name__
        advice = "decrypt it first" if "encrypt" in what else "fetch or make it again"
        raise SourceError(f"{place}: damaged, encrypted, or not {reading.format} ({what}); {advice}") from error


def _parquet(stream: IO[bytes], reading: Reading, place: str) -> Iterator[pa.RecordBatch]:
    stream = seekable(stream)
    left = max(EXPANSION * stream.seek(0, io.SEEK_END), EXPANSION_FLOOR)
    stream.seek(0)
    with pq.ParquetFile(stream, pre_buffer=False, buffer_size=MEGABYTE, page_checksum_verification=True) as file:
        columns = _columns(file.schema_arrow, reading, place)
        for batch in file.iter_batches(batch_size=_batch_rows(file.metadata), columns=columns, use_threads=False):
            left -= batch.nbytes
            if left < 0:
                raise SourceError(f"{place}: expands to more than {EXPANSION} times its size; it may be a bomb")
            yield batch


def _batch_rows(metadata: pq.FileMetaData) -> int:
    """How many rows are read at once, from what the file says of its size.

    It is asked for row groups alone: of a damaged file, pyarrow can end Python when asked for their columns.
    """
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    largest = max([1, *(group.total_byte_size // max(1, group.num_rows) for group in groups)])
    return int(max(1, min(BATCH_ROWS, BATCH_BYTES // largest)))


def _arrow(stream: IO[bytes], reading: Reading, place: str) -> Iterator[pa.RecordBatch]:
    if cast(io.BufferedReader, stream).peek(len(_MAGIC)).startswith(_MAGIC):
        stream.read(len(_MAGIC))
    with pa.ipc.open_stream(stream) as file:
        top = {name.partition(".")[0] if name not in file.schema.names else name for name in _named(reading)}
        _columns(file.schema, reading, place)
        for batch in file:
            batch = batch.select(sorted(top))
            for column in batch.columns:
                _as_bytes(column).validate(full=True)  # offsets that point out of the file would crash Python
            yield batch


def _named(reading: Reading) -> list[str]:
    return list(dict.fromkeys([reading.text, *reading.metadata, *reading.where]))


def _columns(schema: pa.Schema, reading: Reading, place: str) -> list[str]:
    """The columns to read, found in the schema; `SourceError` for one that it lacks, or whose text is none."""
    for name in _named(reading):
        kind = _kind(schema, name)
        if kind is None:
            raise SourceError(
                f"{place}: has no column '{name}', or more than one; it has: {', '.join(schema.names)}. "
                "Mend `text`, `metadata` or `where` in the source's `read` block"
            )
        if name == reading.text and not _is_text(kind):
            raise SourceError(f"{place}: column '{name}' holds {kind}, which is no text; name another as `text`")
    return _named(reading)


def _kind(schema: pa.Schema, name: str) -> pa.DataType | None:
    """The type of a column, or of a field of a column by dotted name."""
    if schema.names.count(name) == 1:
        return schema.field(name).type
    first, *rest = name.split(".")
    kind = schema.field(first).type if rest and schema.names.count(first) == 1 else None
    for part in rest:
        if kind is None or not pa.types.is_struct(kind) or kind.get_field_index(part) < 0:
            return None
        kind = kind.field(part).type
    return kind


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    views = (pa.types.is_string_view, pa.types.is_binary_view, pa.types.is_null)
    return any(test(kind) for test in (*tests, *views))


def _records(batch: pa.RecordBatch, reading: Reading) -> Iterator[Record]:
    texts = _column(batch, reading.text)
    sizes = (
        pc.fill_null(pc.binary_length(texts), 0).to_pylist() if not pa.types.is_null(texts.type) else [0] * len(batch)
    )
    beside = [name for name in batch.schema.names if name != reading.text or name in reading.metadata]
    columns = [_values(batch.column(name)) for name in beside]
    most = reading.member_mb * MEGABYTE
    for number, size in enumerate(sizes):
        row = {name: column[number] for name, column in zip(beside, columns, strict=True)}
        if reading.where and not selected(row, reading):
            yield unread(size, PASSED_OVER)
        elif size > most:
            yield unread(size, TOO_LONG)
        elif (text := texts[number].as_py()) is None:
            yield unread(0, MISSING)
        else:
            kept = {name: lookup(row, name) for name in reading.metadata}
            yield found_bytes(text, reading, {name: item for name, item in kept.items() if item is not None})


def _column(batch: pa.RecordBatch, name: str) -> pa.Array:
    """The texts, as bytes."""
    if name in batch.schema.names:
        return _as_bytes(batch.column(name))
    first, *rest = name.split(".")
    return _as_bytes(pc.struct_field(batch.column(first), rest))


def _as_bytes(column: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string_view(column.type) or pa.types.is_binary_view(column.type):
        return column.cast(pa.large_binary())
    if pa.types.is_string(column.type):
        return column.view(pa.binary())
    return column.view(pa.large_binary()) if pa.types.is_large_string(column.type) else column


def _values(column: pa.Array) -> list[Any]:
    """The column's values, with what is not UTF-8 in plain strings replaced."""
    if not _is_text(column.type) or pa.types.is_null(column.type):
        return cast(list[Any], column.to_pylist())
    return [value if value is None else value.decode("utf-8", "replace") for value in _as_bytes(column).to_pylist()]


PARQUET = Format(read_parquet, FIELDS)
ARROW = Format(read_arrow, FIELDS)
