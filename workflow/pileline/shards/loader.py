"""Read shards: a memory-mapped stream of tokens, and batches that are a function of seed and step.

The stream is cut in blocks of `context` inputs; a block's targets are the same tokens one place on, so each
token but the first is predicted once an epoch. Every epoch visits every block once, in an order of its own
drawn from (seed, epoch). A batch is the next `batch` blocks of that endless sequence, so the step number is
all the state there is: a run resumed at step s goes on exactly as if it had never stopped, and no epoch sees
less of the stream than another. Documents are cut where blocks end; less than one block of tokens, at the end of
the stream, is never drawn.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pileline import manifest
from pileline.shards.write import ShardError

Array = npt.NDArray[Any]


class TokenStream:
    """Many arrays of tokens read as one, without a copy until tokens are asked for."""

    def __init__(self, parts: list[Array]) -> None:
        self.parts = [part for part in parts if len(part)]
        self._ends = np.cumsum([len(part) for part in self.parts], dtype=np.int64)

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

    def gather(self, starts: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.int64]:
        """[starts, length] tokens from each start on."""
        rows = np.empty((len(starts), length), dtype=np.int64)
        places = np.searchsorted(self._ends, starts, side="right")
        inside = starts + length <= self._ends[places]
        for place in np.unique(places[inside]).tolist():
            part = self.parts[place]
            chosen = np.flatnonzero(inside & (places == place))
            local = starts[chosen] - (int(self._ends[place]) - len(part))
            rows[chosen] = part[local[:, None] + np.arange(length)]
        for row in np.flatnonzero(~inside).tolist():  # the few that span parts
            rows[row] = self.read(int(starts[row]), int(starts[row]) + length)
        return rows


@dataclasses.dataclass(frozen=True)
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
    if verify:
        dataclasses.replace(made, files={name: made.files[name] for name in names}).verify()
    opened = map_files(split, [made.path(name) for name in names])
    if opened.tokenizer_sha256 != recorded:
        raise ShardError(f"{made.path(names[0])}: names another tokenizer than {manifest.NAME}; write the shards again")
    return opened


def map_files(split: str, paths: Sequence[str | Path]) -> ShardSet:
    """Map shards by their paths, in the order given, without a manifest to check them by."""
    files = [pa.ipc.open_file(pa.memory_map(str(path))) for path in paths]
    batches = [file.get_batch(number) for file in files for number in range(file.num_record_batches)]
    metadata = {key.decode(): value.decode() for key, value in files[0].schema.metadata.items()}
    sources = sorted({name for batch in batches for name in batch.column("source").dictionary.to_pylist()})
    stream = TokenStream([_flat(batch) for batch in batches])
    return ShardSet(split, batches, stream, sources, int(metadata["end"]), metadata["tokenizer_sha256"])


class Loader:
    """Batches of a split: `batch_at(step)`, for steps from 0 without end.

    `batch` sequences of `context` tokens a step. `blocks` is how many sequences an epoch has, `epoch_steps`
    the steps that visit them all, rounded up (the last batch of an epoch is filled from the next one's blocks).
    """

    def __init__(self, shards: ShardSet, batch: int, context: int, seed: int) -> None:
        if batch < 1 or context < 1:
            raise ValueError(f"batch is {batch} and context {context}; both must be at least 1")
        self.blocks = (shards.n_tokens - 1) // context
        if self.blocks < 1:
            raise ShardError(
                f"split '{shards.split}' has {shards.n_tokens} tokens, too few for one sequence of {context} and its "
                "targets; lower the model's context or add text"
            )
        self.batch, self.context, self.seed = batch, context, seed
        self.epoch_steps = -(-self.blocks // batch)
        self._tokens = shards.tokens
        self._order = lru_cache(maxsize=2)(self._draw_order)  # a batch may span two epochs

    def _draw_order(self, epoch: int) -> npt.NDArray[np.int64]:
        return np.random.default_rng([self.seed, epoch]).permutation(self.blocks)

    def batch_at(self, step: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Inputs and targets of a step, int64 [batch, context]; targets are the inputs one token on."""
        if step < 0:
            raise ValueError(f"step is {step}; steps count from 0")
        sequence = np.arange(step * self.batch, (step + 1) * self.batch)
        epochs, places = np.divmod(sequence, self.blocks)
        blocks = np.empty(self.batch, dtype=np.int64)
        for epoch in np.unique(epochs).tolist():
            blocks[epochs == epoch] = self._order(epoch)[places[epochs == epoch]]
        tokens = self._tokens.gather(blocks * self.context, self.context + 1)
        return tokens[:, :-1], tokens[:, 1:]
