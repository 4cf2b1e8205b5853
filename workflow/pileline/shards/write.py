"""Write a split of a corpus as shards: Arrow IPC files whose token column, read end to end, is the training stream.

A row is a document: its tokens with `end` before them (a model then starts every document from the same
token, and needs no mark after the last), its source, its id and the bytes of its text. Record batches hold
about four million tokens each, uncompressed, so that a memory map serves them without a copy. A token takes one,
two or four bytes, as few as the vocabulary allows. Any reader of Arrow files can open a shard.

Documents are encoded some hundred at a time, by as many threads as are given: SentencePiece encodes outside
Python, so each thread does all of a group's work, from text to the tokens as they are stored, on a core of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pileline import documents
from pileline.progress import Progress
from pileline.shards.ahead import in_order
from pileline.tokenizer import Tokenizer

SCHEMA_VERSION = 2  # of the files; a reader refuses others
DEFAULTS: dict[str, Any] = {"shard_mb": 64}
BATCH_TOKENS = 4_000_000
GROUP = 512  # documents that a thread encodes at a time

Numbers = npt.NDArray[np.int64]


class ShardError(ValueError):
    """Shards that lose text, or do not fit what they are asked for: tokenizer, split, number of tokens."""


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


class Group(NamedTuple):
    """Documents as shards hold them: `rows` has columns source (an index), id and bytes; `lengths` count `end`."""

    tokens: npt.NDArray[Any]
    lengths: Numbers
    rows: pa.RecordBatch


def token_type(vocabulary_size: int) -> pa.DataType:
    """The narrowest of uint8, uint16 and uint32 that holds every token."""
    return next(kind for kind in (pa.uint8(), pa.uint16(), pa.uint32()) if vocabulary_size <= 1 << kind.bit_width)


def schema(tokenizer: Tokenizer, split: str = "", shard: int = 0) -> pa.Schema:
    """The columns of a shard. Its metadata names the tokenizer by the SHA-256 of its model, and the shard's place."""
    described = {"tokenizer_sha256": tokenizer.sha256, "end": tokenizer.end, "split": split, "shard": shard}
    return pa.schema(
        [
            pa.field("tokens", pa.list_(token_type(tokenizer.vocabulary_size)), nullable=False),
            pa.field("source", pa.dictionary(pa.int32(), pa.string()), nullable=False),
            pa.field("id", pa.string(), nullable=False),
            pa.field("bytes", pa.uint32(), nullable=False),
        ],
        metadata={"schema_version": str(SCHEMA_VERSION)} | {key: str(value) for key, value in described.items()},
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
    names = sorted(set().union(*(pc.unique(b.column(0)).to_pylist() for b in documents.batches(path, ["source"]))))
    sources = pa.array(names, pa.string())
    encode = partial(encode_group, tokenizer=tokenizer, sources=sources)
    with (
        Progress(f"tokenizing {path}", unit="B") as progress,
        _ShardFiles(Path(output), split, sources, tokenizer, shard_mb) as files,
    ):
        for group in in_order(encode, _groups(path), threads, ahead=2 * threads if threads > 1 else 0):
            files.write(group)
            progress.add(pc.sum(group.rows.column("bytes")).as_py() or 0)
    return files.written


def _groups(path: Path) -> Iterator[pa.RecordBatch]:
    for batch in documents.batches(path, ["id", "source", "text"]):
        for start in range(0, batch.num_rows, GROUP):
            yield batch.slice(start, GROUP)


def encode_group(texts: pa.RecordBatch, tokenizer: Tokenizer, sources: pa.Array) -> Group:
    """Encode the documents of a batch with columns id, source and text, each with `end` before it."""
    ids, offsets = tokenizer.encode_flat(texts.column("text").to_pylist())
    sizes = documents.text_bytes(texts)
    _check_bytes(texts, tokenizer, ids, offsets, sizes)
    tokens = stream(ids, offsets, tokenizer.end, token_type(tokenizer.vocabulary_size))
    places = pc.index_in(texts.column("source"), value_set=sources)
    columns = {"source": places, "id": texts.column("id"), "bytes": pa.array(sizes, pa.uint32())}
    return Group(tokens, np.diff(offsets) + 1, pa.RecordBatch.from_pydict(columns))


def _check_bytes(
    texts: pa.RecordBatch, tokenizer: Tokenizer, ids: npt.NDArray[np.int32], offsets: Numbers, sizes: Numbers
) -> None:
    found = np.diff(np.append(0, np.cumsum(tokenizer.token_bytes[ids]))[offsets])
    wrong = np.flatnonzero(found != sizes)
    if wrong.size:
        raise ShardError(
            f"{texts.column('id')[int(wrong[0])]}: its tokens stand for {found[wrong[0]]:,} bytes of text, "
            f"it has {sizes[wrong[0]]:,}; the tokenizer loses text"
        )


def stream(ids: npt.NDArray[np.int32], offsets: Numbers, end: int, kind: pa.DataType) -> npt.NDArray[Any]:
    """`ids` with `end` before those of each document, which begin at `offsets` [documents + 1]."""
    tokens = np.empty(len(ids) + len(offsets) - 1, dtype=kind.to_pandas_dtype())
    text = np.ones(len(tokens), dtype=bool)
    text[offsets[:-1] + np.arange(len(offsets) - 1)] = False
    tokens[~text] = end
    tokens[text] = ids
    return tokens


class _ShardFiles:
    """Collects documents to record batches and record batches to files; both close behind the document that fills them.

    So where they close does not depend on how the documents came in groups.
    """

    def __init__(self, folder: Path, split: str, sources: pa.Array, tokenizer: Tokenizer, shard_mb: float) -> None:
        self._folder, self._tokenizer = folder, tokenizer
        # One dictionary for all batches: an IPC file may not replace it midway.
        self._sources = sources
        kind = token_type(tokenizer.vocabulary_size)
        self._shard_tokens = max(int(shard_mb * 1e6) // (kind.bit_width // 8), 1)
        self._counts = np.zeros((len(sources), 3), dtype=np.int64)
        self._groups: list[Group] = []
        self._collected = self._in_file = 0  # tokens in `_groups`, and written to the open file
        self.written = Written(split, str(kind))
        self._open()

    def _open(self) -> None:
        name = f"{self.written.split}-{len(self.written.shards):05d}.arrow"
        self._schema = schema(self._tokenizer, self.written.split, len(self.written.shards))
        self._file = pa.ipc.new_file(self._folder / name, self._schema)
        self.written.shards.append(name)

    def write(self, group: Group) -> None:
        ends, start = np.cumsum(group.lengths), 0
        while start < len(ends):
            if self._in_file >= self._shard_tokens:
                self._file.close()
                self._open()
                self._in_file = 0
            before = int(ends[start - 1]) if start else 0
            room = min(BATCH_TOKENS, self._shard_tokens - self._in_file) - self._collected
            stop = min(int(np.searchsorted(ends, before + room)) + 1, len(ends))
            after = int(ends[stop - 1])
            rows = group.rows.slice(start, stop - start)
            self._groups.append(Group(group.tokens[before:after], group.lengths[start:stop], rows))
            self._collected += after - before
            if after - before >= room:
                self._flush()
            start = stop
        self._count(group)

    def _count(self, group: Group) -> None:
        places = group.rows.column("source").to_numpy()
        for column, weights in enumerate((None, group.lengths, group.rows.column("bytes").to_numpy())):
            self._counts[:, column] += np.bincount(places, weights, len(self._sources)).astype(np.int64)

    def _flush(self) -> None:
        if not self._groups:
            return
        offsets = np.zeros(sum(len(group.lengths) for group in self._groups) + 1, dtype=np.int32)
        np.cumsum(np.concatenate([group.lengths for group in self._groups]), out=offsets[1:])
        tokens = pa.array(np.concatenate([group.tokens for group in self._groups]))
        # Taken anew: the file would hold more of a slice than is in it, and so tell how documents came in groups.
        table = pa.Table.from_batches([group.rows for group in self._groups])
        rows = table.take(np.arange(len(table))).combine_chunks().to_batches()[0]
        columns = [
            pa.ListArray.from_arrays(pa.array(offsets), tokens, type=self._schema.field("tokens").type),
            pa.DictionaryArray.from_arrays(rows.column("source"), self._sources),
            rows.column("id"),
            rows.column("bytes"),
        ]
        self._file.write_batch(pa.record_batch(columns, schema=self._schema))
        self._in_file += self._collected
        self._groups, self._collected = [], 0

    def __enter__(self) -> _ShardFiles:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if kind is None:
            self._flush()
            columns = zip(self._sources.to_pylist(), self._counts.tolist(), strict=True)
            names = ("documents", "tokens", "bytes")
            self.written.by_source = {name: dict(zip(names, row, strict=True)) for name, row in columns}
        self._file.close()
