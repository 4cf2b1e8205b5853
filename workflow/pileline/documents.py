"""The document table: the one form in which documents travel from cleaning to shards.

A table is a Parquet file (zstd) with the columns of `SCHEMA`, written and read in batches, each bounded in documents
and in bytes, so that memory does not grow with the file. A document's `key` is a hash of its normalized text *as
extracted*, before any recipe touched it. Two things hang on it: equal keys are exact duplicates, and the key alone
decides the document's split (`fraction`), so that every recipe and corpus puts a document, and all its exact copies,
on the same side of the holdout.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

KEY_BYTES = 16
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),  # "{source}/{member}#{number}", unique in a corpus
        pa.field("source", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("key", pa.binary(KEY_BYTES), nullable=False),
        pa.field("metadata", pa.string(), nullable=False),  # JSON object: title, topic, ...
    ]
)
REMOVED_SCHEMA = SCHEMA.append(pa.field("reason", pa.string(), nullable=False))
BATCH_DOCUMENTS = 4096
BATCH_BYTES = 32_000_000  # of text, from which a batch is full: some sources have documents of megabytes
_PUNCTUATION = re.compile(r"[\W_]+")
_LONG_RUN = 1024  # combining marks, from which Python's normalization of them takes too long


class Document(NamedTuple):
    """One document. `metadata` is a JSON object as text."""

    id: str
    source: str
    text: str
    key: bytes
    metadata: str = "{}"


def normalize(form: Literal["NFC", "NFD", "NFKC", "NFKD"], text: str) -> str:
    """`unicodedata.normalize`, in linear time for every text."""
    return unicodedata.normalize(form, marks_in_order(text))


def marks_in_order(text: str) -> str:
    """The text with long runs of combining marks put in their canonical order, which leaves its normal forms the same.

    Python orders them by inserting one after the other: of a million marks on one letter, for hours.
    """
    if len(text) < _LONG_RUN or text.isascii():
        return text
    marks = _marks()
    if not any(map(marks.fullmatch, set(text[::_LONG_RUN]))):  # a long run does not fit between those looked at
        return text
    return re.sub(f"{marks.pattern}{{{_LONG_RUN},}}", _in_order, text)


@lru_cache(maxsize=1)
def _marks() -> re.Pattern[str]:
    """A character that is, or is made of, combining marks alone; they all lie in Unicode's first two planes."""
    letters = map(chr, range(0x20000))
    return re.compile(f"[{''.join(c for c in letters if unicodedata.combining(unicodedata.normalize('NFD', c)[0]))}]")


def _in_order(run: re.Match[str]) -> str:
    marks = "".join(unicodedata.normalize("NFD", mark) for mark in run[0])
    return "".join(sorted(marks, key=unicodedata.combining))


def normalize_for_key(text: str) -> str:
    """Text as duplicates are told: NFKC, case folded, runs of anything but letters and digits one blank.

    This is SlimPajama's cleaning before deduplication (lower case, punctuation stripped, blanks
    collapsed), carried from ASCII to Unicode.
    """
    return _PUNCTUATION.sub(" ", normalize("NFKC", text).casefold()).strip()


def key_of(text: str) -> bytes:
    """128-bit BLAKE2b of the normalized text; of the text itself where normalization leaves nothing."""
    normalized = normalize_for_key(text) or text
    return hashlib.blake2b(normalized.encode("utf-8", "surrogatepass"), digest_size=KEY_BYTES).digest()


def fraction(key: bytes) -> float:
    """A number in [0, 1) from a key, uniform over documents: the first 53 bits of the key."""
    return (int.from_bytes(key[:8], "big") >> 11) / 2.0**53


def split_of(key: bytes, validation: float, test: float) -> str:
    """The split that a key decides: "test" below `test`, "validation" in the next `validation`, else "train"."""
    place = fraction(key)
    if place < test:
        return "test"
    return "validation" if place < test + validation else "train"


class Writer:
    """Writes a document table batch by batch; use as a context manager.

    Bytes of the file depend on the documents and their order alone: a row group is closed behind the document that
    fills it, however the documents came.
    """

    def __init__(self, path: str | Path, schema: pa.Schema = SCHEMA) -> None:
        self._schema = schema
        self._file = pq.ParquetWriter(path, schema, compression="zstd", compression_level=3)
        self._rows: list[tuple[Any, ...]] = []
        self._slices: list[pa.RecordBatch] = []
        self._documents = self._bytes = 0

    def write(self, row: tuple[Any, ...]) -> None:
        """Add a row: a `Document`, followed by the schema's further columns."""
        self._rows.append(row)
        self._filled(1, len(row[2].encode("utf-8", "surrogatepass")))

    def write_batch(self, batch: pa.RecordBatch) -> None:
        """Add the documents of a batch of the schema, without making Python objects of them."""
        if self._rows:
            raise ValueError("a table is written by rows or by batches; this one has been given rows")
        ends = np.cumsum(text_bytes(batch)) if "text" in self._schema.names else np.zeros(batch.num_rows, np.int64)
        batch, start = batch.select(self._schema.names), 0
        while start < batch.num_rows:
            before = int(ends[start - 1]) if start else 0
            full = int(np.searchsorted(ends, before + BATCH_BYTES - self._bytes)) + 1
            stop = min(start + BATCH_DOCUMENTS - self._documents, full, batch.num_rows)
            self._slices.append(batch.slice(start, stop - start))
            self._filled(stop - start, int(ends[stop - 1]) - before)
            start = stop

    def _filled(self, documents: int, size: int) -> None:
        """Count what was added, and close the row group if it is full."""
        self._documents += documents
        self._bytes += size
        if self._documents >= BATCH_DOCUMENTS or self._bytes >= BATCH_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            columns = zip(*self._rows, strict=True)
            arrays = [pa.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)]
            self._file.write_batch(pa.record_batch(arrays, schema=self._schema))
        if self._slices:
            self._file.write_batch(pa.Table.from_batches(self._slices).combine_chunks().to_batches()[0])
        self._rows, self._slices, self._documents, self._bytes = [], [], 0, 0

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if kind is None:
            self._flush()
        self._file.close()


def write(path: str | Path, documents: Iterable[Document]) -> None:
    """Write documents to a table at `path`."""
    with Writer(path) as writer:
        for document in documents:
            writer.write(document)


def batches(path: str | Path, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The table's record batches, in order, with all or only the named columns; none spans two row groups."""
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            yield from file.iter_batches(batch_size=BATCH_DOCUMENTS, row_groups=[group], columns=columns)


def text_bytes(batch: pa.RecordBatch) -> NDArray[np.int64]:
    """UTF-8 bytes of each text of a batch, int64 [documents]."""
    return np.asarray(pc.binary_length(batch.column("text")), np.int64)


def read(path: str | Path) -> Iterator[Document]:
    """The table's documents, in order."""
    for batch in batches(path, list(SCHEMA.names)):
        yield from map(Document._make, zip(*(column.to_pylist() for column in batch.columns), strict=True))
