"""The document table: the one form in which documents travel from cleaning to shards.

A table is a Parquet file (zstd) with the columns of `SCHEMA`, written and read in batches so that memory
does not grow with the file. A document's `key` is a hash of its normalized text *as extracted*, before any
recipe touched it. Two things hang on it: equal keys are exact duplicates, and the key alone decides the
document's split (`fraction`), so that every recipe and corpus puts a document, and all its exact copies,
on the same side of the holdout.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

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
_PUNCTUATION = re.compile(r"[\W_]+")


class Document(NamedTuple):
    """One document. `metadata` is a JSON object as text."""

    id: str
    source: str
    text: str
    key: bytes
    metadata: str = "{}"


def normalize_for_key(text: str) -> str:
    """Text as duplicates are told: NFKC, case folded, runs of anything but letters and digits one blank.

    This is SlimPajama's cleaning before deduplication (lower case, punctuation stripped, blanks
    collapsed), carried from ASCII to Unicode.
    """
    return _PUNCTUATION.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()


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

    Bytes of the file depend on the documents and their order alone.
    """

    def __init__(self, path: str | Path, schema: pa.Schema = SCHEMA) -> None:
        self._schema = schema
        self._file = pq.ParquetWriter(path, schema, compression="zstd", compression_level=3)
        self._rows: list[tuple[Any, ...]] = []

    def write(self, row: tuple[Any, ...]) -> None:
        """Add a row: a `Document`, followed by the schema's further columns."""
        self._rows.append(row)
        if len(self._rows) >= BATCH_DOCUMENTS:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            columns = zip(*self._rows, strict=True)
            arrays = [pa.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)]
            self._file.write_batch(pa.record_batch(arrays, schema=self._schema))
            self._rows = []

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
    """The table's record batches, in order, with all or only the named columns."""
    with pq.ParquetFile(path) as file:
        yield from file.iter_batches(batch_size=BATCH_DOCUMENTS, columns=columns)


def read(path: str | Path) -> Iterator[Document]:
    """The table's documents, in order."""
    for batch in batches(path, list(SCHEMA.names)):
        yield from map(Document._make, zip(*(column.to_pylist() for column in batch.columns), strict=True))
