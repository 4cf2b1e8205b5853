"""Write a split of a corpus as shards: Arrow IPC files whose token column, read end to end, is the training stream.

A row is a document: its tokens with `end` before them (a model then starts every document from the same
token, and needs no mark after the last), its source, its id and the bytes of its text. Record batches hold
about a million tokens each, uncompressed, so that a memory map serves them without a copy. A token takes two
bytes where the vocabulary allows, else four.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pileline import documents
from pileline.progress import Progress
from pileline.tokenizer import Tokenizer

DEFAULTS: dict[str, Any] = {"shard_mb": 64}
BATCH_TOKENS = 1_000_000


class ShardError(ValueError):
    """Shards that lose text, or do not fit what they are asked for: tokenizer, split, number of tokens."""


class Row(NamedTuple):
    """A document as shards hold it; `tokens` without `end`."""

    id: str
    source: str
    tokens: npt.NDArray[np.int32]
    bytes: int


@dataclass
class Written:
    """What `write` made of a split. Tokens include one `end` a document; bytes are UTF-8 of the text."""

    split: str
    dtype: str
    shards: list[str] = field(default_factory=list)
    by_source: dict[str, dict[str, int]] = field(default_factory=dict)

    def total(self, what: str) -> int:
        """The sum over sources of "documents", "tokens" or "bytes"."""
        return sum(row[what] for row in self.by_source.values())

    @property
    def bytes_per_token(self) -> float | None:
        """Bytes of text for each token of text (`end` not counted); None without text."""
        tokens = self.total("tokens") - self.total("documents")
        return self.total("bytes") / tokens if tokens else None

    def count(self, row: Row) -> None:
        """Add a document."""
        counts = self.by_source.setdefault(row.source, {"documents": 0, "tokens": 0, "bytes": 0})
        counts["documents"] += 1
        counts["tokens"] += len(row.tokens) + 1
        counts["bytes"] += row.bytes


def token_type(vocabulary_size: int) -> pa.DataType:
    """The narrowest of uint16 and uint32 that holds every token."""
    return pa.uint16() if vocabulary_size <= 1 << 16 else pa.uint32()


def schema(tokenizer: Tokenizer) -> pa.Schema:
    """The columns of a shard; its metadata names the tokenizer by the SHA-256 of its model."""
    return pa.schema(
        [
            pa.field("tokens", pa.list_(token_type(tokenizer.vocabulary_size)), nullable=False),
            pa.field("source", pa.dictionary(pa.int32(), pa.string()), nullable=False),
            pa.field("id", pa.string(), nullable=False),
            pa.field("bytes", pa.uint32(), nullable=False),
        ],
        metadata={"tokenizer_sha256": tokenizer.sha256, "end": str(tokenizer.end)},
    )


def write(
    corpus: str | Path,
    split: str,
    tokenizer: Tokenizer,
    output: str | Path,
    shard_mb: float = DEFAULTS["shard_mb"],
    threads: int = 1,
) -> Written:
    """Tokenize `corpus/{split}.parquet` into files `{split}-00000.arrow` and on in `output`.

    Each takes about `shard_mb` MB of tokens. Documents keep their order, so that the corpus' shuffle is the
    shards'. The files depend on the documents, the tokenizer and `shard_mb`, not on `threads`. An empty split
    gives one shard without documents. Raises `ShardError` should tokens not stand for every byte of their text.
    """
    path = Path(corpus) / f"{split}.parquet"
    layout = schema(tokenizer)
    written = Written(split, str(layout.field("tokens").type.value_type))
    names = sorted({name for batch in documents.batches(path, ["source"]) for name in batch.column(0).to_pylist()})
    with _ShardFiles(Path(output), layout, names, tokenizer, shard_mb, written) as files:
        for row in _rows(path, tokenizer, threads):
            files.write(row)
    return written


def _rows(path: Path, tokenizer: Tokenizer, threads: int) -> Iterator[Row]:
    with Progress(f"tokenizing {path}", unit="B") as progress:
        for batch in documents.batches(path, ["id", "source", "text"]):
            ids, sources, texts = (column.to_pylist() for column in batch.columns)
            lengths = [len(text.encode()) for text in texts]
            yield from map(Row, ids, sources, tokenizer.encode_batch(texts, threads), lengths)
            progress.add(sum(lengths))


class _ShardFiles:
    """Collects rows to record batches and record batches to files."""

    def __init__(
        self,
        folder: Path,
        layout: pa.Schema,
        sources: list[str],
        tokenizer: Tokenizer,
        shard_mb: float,
        written: Written,
    ) -> None:
        self._folder, self._layout, self._tokenizer, self._written = folder, layout, tokenizer, written
        self._width = layout.field("tokens").type.value_type.bit_width // 8
        # One dictionary for all batches: an IPC file may not replace it midway.
        self._names = pa.array(sources, pa.string())
        self._places = {name: place for place, name in enumerate(sources)}
        self._shard_tokens = max(int(shard_mb * 1e6) // self._width, 1)
        self._rows: list[Row] = []
        self._collected = self._in_file = 0  # tokens in `_rows`, and written to the open file
        self._file = self._open()

    def _open(self) -> Any:
        name = f"{self._written.split}-{len(self._written.shards):05d}.arrow"
        self._written.shards.append(name)
        return pa.ipc.new_file(self._folder / name, self._layout)

    def write(self, row: Row) -> None:
        if self._in_file + self._collected >= self._shard_tokens:
            self._flush()
            self._file.close()
            self._file, self._in_file = self._open(), 0
        self._rows.append(row)
        self._collected += len(row.tokens) + 1
        self._written.count(row)
        if self._collected >= BATCH_TOKENS:
            self._flush()

    def _flush(self) -> None:
        if not self._rows:
            return
        tokens = stream([row.tokens for row in self._rows], self._tokenizer.end, self._layout.field("tokens").type)
        self._check_bytes(tokens)
        places = pa.array([self._places[row.source] for row in self._rows], pa.int32())
        columns = [
            tokens,
            pa.DictionaryArray.from_arrays(places, self._names),
            pa.array([row.id for row in self._rows], pa.string()),
            pa.array([row.bytes for row in self._rows], pa.uint32()),
        ]
        self._file.write_batch(pa.record_batch(columns, schema=self._layout))
        self._in_file += self._collected
        self._rows, self._collected = [], 0

    def _check_bytes(self, tokens: pa.ListArray) -> None:
        found = int(self._tokenizer.token_bytes[tokens.values.to_numpy()].sum())
        expected = sum(row.bytes for row in self._rows)
        if found != expected:
            raise ShardError(
                f"{self._folder / self._written.shards[-1]}: tokens stand for {found:,} bytes of text, the documents "
                f"from {self._rows[0].id} to {self._rows[-1].id} have {expected:,}; the tokenizer loses text"
            )

    def __enter__(self) -> _ShardFiles:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if kind is None:
            self._flush()
        self._file.close()


def stream(texts: Sequence[npt.NDArray[np.int32]], end: int, kind: pa.ListType) -> pa.ListArray:
    """The token column of `texts`: each one's tokens with `end` before them, as one flat array and its offsets."""
    offsets = np.zeros(len(texts) + 1, dtype=np.int64)
    np.cumsum([len(tokens) + 1 for tokens in texts], out=offsets[1:])
    flat = np.empty(offsets[-1], dtype=kind.value_type.to_pandas_dtype())
    text = np.ones(len(flat), dtype=bool)
    text[offsets[:-1]] = False
    flat[~text] = end
    flat[text] = np.concatenate(texts)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(flat), type=kind)
