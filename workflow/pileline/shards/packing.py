"""How the stream is laid out in rows of `context` places: each place an input token and the token that follows it.

- `Blocks`, "concatenate": row k is tokens k * context and on. No place is wasted, every place of the stream but less
  than one row at the end has its row, and most documents are cut where rows end (at a context of 256, what is behind
  a cut is predicted without what was before it).
- `Packed`, "best_fit": best-fit packing of Ding et al. 2024 ("Fewer truncations improve language modeling",
  arXiv:2404.10830). Documents are put whole into rows, longest first, each into the fullest row that still has room. A
  document is cut only if it is longer than a row; then what does not fill rows is its head, which is packed with
  others. So whatever shares a row begins with `end`. Nothing is dropped; rows end in padding.

With `weights` by source, documents are drawn that many times into the rows of an epoch: 2.0 is twice, 0.5 a half of
them, which the seed chooses. The rows are then made a window of documents (a record batch) at a time, under
either packing, and the times a document is drawn lie in different rows.

The rows of `Packed` are listed in a file without a name in the folder for temporary files, 12 bytes a piece and 8 a
row: memory stays constant. Listing them takes about half a second for 100 million tokens.
"""

from __future__ import annotations

import tempfile
from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pileline.shards.read import ShardSet, TokenStream, Window
from pileline.shards.write import ShardError

PADDING = -100  # the target of a place without a token; what torch's cross-entropy ignores by default
PACKINGS = ("concatenate", "best_fit")

Numbers = npt.NDArray[np.int64]
Batch = tuple[Numbers, Numbers]


@dataclass
class Account:
    """What an epoch's rows are made of. A document is `cut` if not all of it is in one row."""

    packing: str
    context: int
    rows: int = 0
    documents: int = 0
    cut: int = 0
    tokens: int = 0  # places that have a token to predict
    padding: int = 0  # places that have none
    dropped: int = 0  # tokens of the documents that no row predicts

    def to_dict(self) -> dict[str, Any]:
        """With `efficiency`, the share of places with a token, and `cut_share`, of documents that are cut."""
        places = self.tokens + self.padding
        shares = {"efficiency": self.tokens / places if places else None}
        shares["cut_share"] = self.cut / self.documents if self.documents else None
        return asdict(self) | {name: value and round(value, 6) for name, value in shares.items()}


class Blocks:
    """Rows by concatenation: one place is like another, so there is nothing to list."""

    def __init__(self, shards: ShardSet, context: int) -> None:
        self._shards, self._context = shards, context
        self.count = max(shards.n_tokens - 1, 0) // context

    def read(self, rows: Numbers) -> Batch:
        """Inputs and targets of rows, int64 [rows, context]."""
        tokens = self._shards.tokens.gather(rows * self._context, self._context + 1)
        return tokens[:, :-1], tokens[:, 1:]

    def account(self) -> Account:
        """What the rows are made of; reads the documents' lengths."""
        made = Account("concatenate", self._context, self.count, tokens=self.count * self._context)
        made.dropped = max(self._shards.n_tokens - 1, 0) - made.tokens
        for window in self._shards.windows():
            made.documents += len(window.starts)
            first, last = window.starts // self._context, (window.starts + window.lengths - 1) // self._context
            made.cut += int((first != last).sum())
        return made


class Packed:
    """Rows that are lists of pieces of the stream, made by `packing` from documents drawn by `weights`."""

    def __init__(
        self, shards: ShardSet, context: int, packing: str, weights: Mapping[str, float] | None, seed: int
    ) -> None:
        self._tokens: TokenStream = shards.tokens
        self._context, self._end = context, shards.end
        self._account = made = Account(packing, context)
        pack = best_fit if packing == "best_fit" else concatenate
        firsts, starts, lengths = _Table(np.int64), _Table(np.int64), _Table(np.int32)
        for drawn in _draws(shards, weights, seed):
            piece_starts, piece_lengths, rows = pack(drawn.starts, drawn.lengths, context)
            count = int(rows[-1]) + 1
            firsts.add(starts.size + np.searchsorted(rows, np.arange(count)))
            starts.add(piece_starts)
            lengths.add(piece_lengths)
            made.rows += count
            made.documents += len(drawn.starts)
            made.cut += cut_documents(drawn, piece_starts, rows)
            made.tokens += int(drawn.lengths.sum())
        made.padding = made.rows * context - made.tokens
        self.count = made.rows
        firsts.add(np.array([starts.size]))
        self._firsts, self._starts, self._lengths = firsts.mapped(), starts.mapped(), lengths.mapped()

    def read(self, rows: Numbers) -> Batch:
        """Inputs and targets of rows, int64 [rows, context]; where a row is padded, `end` and `PADDING`."""
        inputs = np.full((len(rows), self._context), self._end, dtype=np.int64)
        targets = np.full_like(inputs, PADDING)
        begins, counts = self._firsts[rows], self._firsts[rows + 1] - self._firsts[rows]
        owners = np.repeat(np.arange(len(rows)), counts)
        listed = np.arange(len(owners)) + np.repeat(begins - np.append(0, np.cumsum(counts)[:-1]), counts)
        lengths = self._lengths[listed].astype(np.int64)
        ends = np.cumsum(lengths)
        before = np.append(0, ends)[np.append(0, np.cumsum(counts)[:-1])]  # tokens of earlier rows
        places = ends - lengths - np.repeat(before, counts)
        pieces = self._tokens.pieces(self._starts[listed], lengths + 1)
        for row, at, piece in zip(owners.tolist(), places.tolist(), pieces, strict=True):
            inputs[row, at : at + len(piece) - 1] = piece[:-1]
            targets[row, at : at + len(piece) - 1] = piece[1:]
        return inputs, targets

    def account(self) -> Account:
        """What the rows are made of."""
        return self._account


def rows_of(
    shards: ShardSet, context: int, packing: str, weights: Mapping[str, float] | None, seed: int
) -> Blocks | Packed:
    """The rows of a split, by a packing of `PACKINGS` and, where they are given, weights by source."""
    if packing not in PACKINGS:
        raise ValueError(f"packing is '{packing}', must be one of {', '.join(PACKINGS)}")
    unknown = sorted(set(weights or {}) - set(shards.sources))
    if unknown:
        raise ShardError(
            f"split '{shards.split}' has no source {', '.join(unknown)} to weigh; it has: {', '.join(shards.sources)}"
        )
    if weights and not all(0 <= weight < np.inf for weight in weights.values()):
        raise ShardError(f"weights of sources are {dict(weights)}; each must be 0 or more")
    if packing == "concatenate" and not weights:
        return Blocks(shards, context)
    return Packed(shards, context, packing, weights, seed)


def _draws(shards: ShardSet, weights: Mapping[str, float] | None, seed: int) -> Iterator[Window]:
    """The documents to lay out together: each window's, and those that are drawn again, again."""
    weight = np.array([(weights or {}).get(source, 1.0) for source in shards.sources])
    for number, window in enumerate(shards.windows()):
        # The stream's last token has no token behind it to predict.
        lengths = np.minimum(window.lengths, shards.n_tokens - 1 - window.starts)
        wanted = weight[window.sources]
        times = np.floor(wanted + np.random.default_rng([seed, number]).random(len(wanted))).astype(np.int64)
        for turn in range(int(times.max(initial=0))):
            drawn = (times > turn) & (lengths > 0)
            if drawn.any():
                yield Window(window.starts[drawn], lengths[drawn], window.sources[drawn])


def concatenate(starts: Numbers, lengths: Numbers, context: int) -> tuple[Numbers, Numbers, Numbers]:
    """Pieces of documents laid end to end and cut at every `context`: their starts, lengths and rows."""
    ends = np.cumsum(lengths)
    begins = np.unique(np.concatenate([ends - lengths, np.arange(0, ends[-1], context)]))
    owners = np.searchsorted(ends, begins, side="right")
    sizes = np.diff(np.append(begins, ends[-1]))
    return starts[owners] + begins - (ends - lengths)[owners], sizes, begins // context


def best_fit(starts: Numbers, lengths: Numbers, context: int) -> tuple[Numbers, Numbers, Numbers]:
    """Pieces of documents packed by best fit, sorted by row: their starts, lengths and rows."""
    heads, full = lengths % context, lengths // context
    owners = np.repeat(np.arange(len(starts)), full)
    turns = np.arange(len(owners)) - np.repeat(np.cumsum(full) - full, full)
    short = np.flatnonzero(heads)
    bins = fit(heads[short], context)
    rows = np.concatenate([bins, bins.max(initial=-1) + 1 + np.arange(len(owners))])
    piece_starts = np.concatenate([starts[short], starts[owners] + heads[owners] + turns * context])
    sizes = np.concatenate([heads[short], np.full(len(owners), context)])
    order = np.argsort(rows, kind="stable")
    return piece_starts[order], sizes[order], rows[order]


def fit(lengths: Numbers, capacity: int) -> Numbers:
    """The bin of each length, by best fit decreasing: into the fullest bin that has room, else into a new one."""
    bins = np.empty(len(lengths), dtype=np.int64)
    free: list[int] = []  # room that some bin has, sorted
    having: dict[int, list[int]] = {}  # the bins that have it
    count = 0
    order = np.argsort(-lengths, kind="stable")
    for item, length in zip(order.tolist(), lengths[order].tolist(), strict=True):
        place = bisect_left(free, length)
        if place < len(free):
            room = free[place]
            chosen = having[room].pop()
            if not having[room]:
                del free[place]
        else:
            room, chosen, count = capacity, count, count + 1
        bins[item] = chosen
        left = room - length
        if left:
            same = having.setdefault(left, [])
            if not same:
                insort(free, left)
            same.append(chosen)
    return bins


def cut_documents(drawn: Window, starts: Numbers, rows: Numbers) -> int:
    """How many documents have pieces in several rows."""
    order = np.argsort(starts, kind="stable")
    owners = np.searchsorted(drawn.starts, starts[order], side="right") - 1
    same = owners[1:] == owners[:-1]
    return len(np.unique(owners[1:][same & (rows[order][1:] != rows[order][:-1])]))


class _Table:
    """A growing array on the disk, in a file without a name, which is gone when nobody reads it."""

    def __init__(self, kind: Any) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115, it is read as long as the table is
        self._kind, self.size = np.dtype(kind), 0

    def add(self, values: npt.NDArray[Any]) -> None:
        self._file.write(values.astype(self._kind).tobytes())
        self.size += len(values)

    def mapped(self) -> npt.NDArray[Any]:
        self._file.flush()
        if not self.size:
            return np.empty(0, self._kind)
        return np.memmap(self._file, self._kind, "r")
