"""Open shards: checked against their manifest, mapped into memory, and read as one stream of tokens.

Open shards take about 3 kB of memory for each record batch of four million tokens; the tokens stay on the disk, and in
as much of the page cache as the system spares.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pileline import manifest
from pileline.shards.write import SCHEMA_VERSION, ShardError

Array = npt.NDArray[Any]
Numbers = npt.NDArray[np.int64]


class TokenStream:
    """Many arrays of tokens read as one, without a copy until tokens are asked for."""

    def __init__(self, parts: list[Array]) -> None:
        self.parts = [part for part in parts if len(part)]
        self._ends = np.cumsum([len(part) for part in self.parts], dtype=np.int64)
        self._starts = self._ends - [len(part) for part in self.parts]

    def __len__(self) -> int:
        return int(self._ends[-1]) if self.parts else 0

    def read(self, start: int, stop: int) -> Array:
        """Tokens [start, stop): a view where they lie in one part, a copy where they span several."""
        if not 0 <= start <= stop <= len(self):
            raise IndexError(f"tokens {start} to {stop} of a stream of {len(self)}")
        first = int(np.searchsorted(self._ends, start, side="right"))
        found = []
        for part, end in zip(self.parts[first:], self._ends[first:].tolist(), strict=True):
            begin = end - len(part)
            found.append(part[max(start - begin, 0) : stop - begin])
            if stop <= end:
                break
        return found[0] if len(found) == 1 else np.concatenate(found or [np.empty(0, dtype=np.int64)])

    def pieces(self, starts: Numbers, lengths: Numbers) -> Iterator[Array]:
        """Tokens [start, start + length) of each pair, which all lie in the stream; as `read`, but faster for many."""
        places = np.searchsorted(self._ends, starts, side="right")
        local = starts - self._starts[places]
        whole = (starts + lengths <= self._ends[places]).tolist()
        parts = self.parts
        for number, (place, at, length) in enumerate(
            zip(places.tolist(), local.tolist(), lengths.tolist(), strict=True)
        ):
            if whole[number]:
                yield parts[place][at : at + length]
            else:  # the few that span parts
                yield self.read(int(starts[number]), int(starts[number]) + length)

    def gather(self, starts: Numbers, length: int) -> Numbers:
        """[starts, length] tokens from each start on."""
        rows = np.empty((len(starts), length), dtype=np.int64)
        for row, piece in zip(rows, self.pieces(starts, np.full(len(starts), length)), strict=True):
            row[:] = piece
        return rows


class Window(NamedTuple):
    """Consecutive documents of the stream, those of a record batch: where each starts, its tokens with `end`, its
    source as a place in `ShardSet.sources`."""

    starts: Numbers
    lengths: Numbers
    sources: Numbers


@dataclass(frozen=True)
class ShardSet:
    """The shards of a split. `tokens` is their stream; `end` stands before each document."""

    split: str
    batches: list[Any]  # pyarrow record batches, memory mapped
    tokens: TokenStream
    sources: list[str]
    end: int
    tokenizer_sha256: str

    @property
    def n_tokens(self) -> int:
        return len(self.tokens)

    @property
    def n_documents(self) -> int:
        return sum(batch.num_rows for batch in self.batches)

    def head(self, batches: int) -> ShardSet:
        """The first record batches, as a split of their own."""
        some = self.batches[:batches]
        return replace(self, batches=some, tokens=TokenStream([_flat(batch) for batch in some]))

    def documents(self) -> Iterator[dict[str, Any]]:
        """Each document in order: `id`, `source`, `bytes`, and `tokens` as an array without `end`."""
        for batch in self.batches:
            lists, sources, ids, sizes = batch.columns
            flat, offsets = _flat(batch), lists.offsets.to_numpy()
            names = sources.dictionary.to_pylist()
            for row in range(batch.num_rows):
                yield {
                    "id": ids[row].as_py(),
                    "source": names[sources.indices[row].as_py()],
                    "bytes": sizes[row].as_py(),
                    "tokens": flat[offsets[row] + 1 : offsets[row + 1]],
                }

    def windows(self) -> Iterator[Window]:
        """The documents that lie in `tokens`, a record batch at a time, so that memory does not grow with them."""
        begin = 0
        for batch in self.batches:
            offsets = begin + batch.column("tokens").offsets.to_numpy().astype(np.int64)
            column = batch.column("source")
            places = np.array([self.sources.index(name) for name in column.dictionary.to_pylist()], dtype=np.int64)
            count = int(np.searchsorted(offsets[1:], self.n_tokens, side="right"))
            yield Window(offsets[:count], np.diff(offsets[: count + 1]), places[column.indices.to_numpy()[:count]])
            begin = int(offsets[-1])


def _flat(batch: Any) -> Array:
    """All tokens of a record batch, as a view of the memory map."""
    array: Array = batch.column("tokens").values.to_numpy(zero_copy_only=True)
    return array


def open_shards(folder: str | Path, split: str, tokenizer_sha256: str | None = None, verify: bool = True) -> ShardSet:
    """Map the shards of a split ("train" or "validation") into memory.

    Their sizes and SHA-256 are compared with the manifest first, unless `verify` is False (reading a shard
    once costs far less than training on a damaged one). With `tokenizer_sha256`, shards of another tokenizer
    are refused: their tokens would mean other text. Raises `ShardError` and `manifest.ManifestError`.
    """
    made = manifest.read(folder, "shards")
    names = sorted(name for name in made.files if name.startswith(f"{split}-"))
    if not names:
        raise ShardError(f"{folder}: no shards of split '{split}'; it has: {', '.join(made.files)}")
    recorded = made.metrics["tokenizer_sha256"]
    if tokenizer_sha256 not in (None, recorded):
        raise ShardError(
            f"{folder}: written with the tokenizer {recorded[:12]}..., but asked for {tokenizer_sha256:.12}...; "
            "give the tokenizer that the shards were made with, or run the stage 'shards' again"
        )
    opened = map_files(split, [made.path(name) if verify else made.folder / name for name in names])
    if opened.tokenizer_sha256 != recorded:
        raise ShardError(
            f"{made.folder / names[0]}: names another tokenizer than {manifest.NAME}; write the shards again"
        )
    counted = made.metrics.get("tokens", {}).get(split, opened.n_tokens)
    if opened.n_tokens != counted:
        raise ShardError(
            f"{folder}: {opened.n_tokens:,} tokens in the shards of split '{split}', {manifest.NAME} counts "
            f"{counted:,}; write the shards again"
        )
    return opened


def map_files(split: str, paths: Sequence[str | Path]) -> ShardSet:
    """Map shards by their paths, which must be all of a split in order, without a manifest to check them by.

    Raises `ShardError` for a file that is no shard, of another place or split, or of a later schema.
    """
    files = [_map(Path(path)) for path in paths]
    metadata = [
        _described(schema, Path(path), split, n) for n, ((schema, _), path) in enumerate(zip(files, paths, strict=True))
    ]
    batches = [batch for _, held in files for batch in held]
    for path, other in zip(paths, metadata, strict=True):
        if other["tokenizer_sha256"] != metadata[0]["tokenizer_sha256"]:
            raise ShardError(f"{path}: of another tokenizer than {paths[0]}; write the shards again")
    sources = sorted({name for batch in batches for name in batch.column("source").dictionary.to_pylist()})
    stream = TokenStream([_flat(batch) for batch in batches])
    return ShardSet(split, batches, stream, sources, int(metadata[0]["end"]), metadata[0]["tokenizer_sha256"])


def _map(path: Path) -> tuple[pa.Schema, list[Any]]:
    """The schema and the record batches of a file, as views of a memory map."""
    try:
        file = pa.ipc.open_file(pa.memory_map(str(path)))
        return file.schema, [file.get_batch(number) for number in range(file.num_record_batches)]
    except FileNotFoundError:
        raise ShardError(f"{path}: missing; write the shards again") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise ShardError(f"{path}: not a whole Arrow file ({error}); write the shards again") from None


def _described(schema: pa.Schema, path: Path, split: str, number: int) -> dict[str, str]:
    """What a shard says of itself, once it is known to be the shard `number` of `split` in the schema of this code."""
    found = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
    version = found.get("schema_version")
    if version != str(SCHEMA_VERSION):
        raise ShardError(
            f"{path}: schema version {version} of shards, this code reads {SCHEMA_VERSION}; "
            "run the stage 'shards' again, or use the release that wrote them"
        )
    if (found["split"], found["shard"]) != (split, str(number)):
        raise ShardError(
            f"{path}: holds shard {found['shard']} of split '{found['split']}', where shard {number} of '{split}' "
            "was expected; files have been renamed or swapped, write the shards again"
        )
    return found
