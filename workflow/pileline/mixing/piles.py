"""The shuffle: a radix sort of rows by place, on disk, as The Pile and SlimPajama shuffle through piles.

Rows (documents, or what is said of them) have a column `place` of 16 bytes. They are dealt by the first bits of their
places to at most `MOST_PILES` piles, and one pile at a time is sorted in memory; a pile that is still too large is
dealt again by the next bits. A process that deals has one file open for each output: a record batch in it belongs to
one pile, and a pile is the batches of its number in the files of all processes. So neither open files nor memory grow
with the corpus: a process holds about two piles.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pileline import documents

PILE_BYTES = 64_000_000
MOST_PILES = 256
PLACE = pa.field("place", pa.binary(16), nullable=False)
_PLACE_BITS = 64  # of a place's 128 that dealing looks at; sorting looks at all


@dataclass(frozen=True)
class Deal:
    """How places become numbers of piles: by `bits` bits behind the first `skip`."""

    bits: int
    skip: int = 0
    pile_bytes: int = PILE_BYTES

    @classmethod
    def of(cls, size: int, pile_bytes: int, skip: int = 0) -> Deal:
        """Enough piles for `size` bytes, if there may be so many."""
        wanted = math.ceil(math.log2(max(1.0, size / pile_bytes)))
        return cls(min(wanted, int(math.log2(MOST_PILES)), _PLACE_BITS - skip), skip, pile_bytes)

    def piles(self, places: pa.Array) -> NDArray[np.uint64]:
        """The pile of each place."""
        if not self.bits:
            return np.zeros(len(places), np.uint64)
        first = np.array([int.from_bytes(place[:8], "big") for place in places.to_pylist()], np.uint64)
        shift = np.uint64(_PLACE_BITS - self.bits - self.skip)
        numbers: NDArray[np.uint64] = (first >> shift) & np.uint64((1 << self.bits) - 1)
        return numbers


@dataclass
class Dealt:
    """A file of dealt rows: of each of its record batches the pile, the number of rows, their bytes."""

    path: Path
    batches: list[tuple[int, int, int]]


class Dealer:
    """Deals batches of a schema to the file at `path`; use as a context manager, then read `dealt`."""

    def __init__(self, path: Path, schema: pa.Schema, deal: Deal) -> None:
        self.dealt = Dealt(path, [])
        self._deal = deal
        self._waiting: list[pa.RecordBatch] = []
        self._bytes = 0
        options = pa.ipc.IpcWriteOptions(compression="zstd", use_threads=False)
        self._file = pa.ipc.new_file(path, schema, options=options)

    def __enter__(self) -> Dealer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._flush()
        self._file.close()

    def add(self, batch: pa.RecordBatch) -> None:
        """Deal a batch's rows."""
        self._waiting.append(batch)
        self._bytes += batch.nbytes
        if self._bytes >= self._deal.pile_bytes // 2:
            self._flush()

    def _flush(self) -> None:
        rows = [batch for batch in self._waiting if batch.num_rows]
        self._waiting, self._bytes = [], 0
        if not rows:
            return
        pieces: dict[int, list[pa.RecordBatch]] = defaultdict(list)
        for batch in rows:
            piles = self._deal.piles(batch.column("place"))
            order = np.argsort(piles, kind="stable")
            starts = np.flatnonzero(np.diff(piles[order], prepend=piles[order][0])).tolist()
            for start, stop in zip([0, *starts], [*starts, len(order)], strict=True):
                pieces[int(piles[order[start]])].append(batch.take(pa.array(order[start:stop])))
        for pile, parts in sorted(pieces.items()):
            for piece in pa.Table.from_batches(parts).combine_chunks().to_batches():
                self._file.write_batch(piece)
                self.dealt.batches.append((pile, piece.num_rows, piece.nbytes))


@dataclass(frozen=True)
class Pile:
    """Where a pile's record batches lie: files, and the numbers of the batches in each."""

    parts: tuple[tuple[Path, tuple[int, ...]], ...]
    rows: int
    bytes: int

    def batches(self) -> Iterator[pa.RecordBatch]:
        for path, numbers in self.parts:
            with pa.memory_map(str(path)) as mapped:
                file = pa.ipc.open_file(mapped)
                for number in numbers:
                    yield file.get_batch(number)


def collect(dealt: list[Dealt]) -> list[Pile]:
    """The piles of several files, in the order of places; those without a row are left out."""
    found: dict[int, dict[Path, list[int]]] = defaultdict(lambda: defaultdict(list))
    rows: dict[int, int] = defaultdict(int)
    sizes: dict[int, int] = defaultdict(int)
    for file in dealt:
        for number, (pile, count, size) in enumerate(file.batches):
            found[pile][file.path].append(number)
            rows[pile] += count
            sizes[pile] += size
    return [
        Pile(tuple((path, tuple(numbers)) for path, numbers in found[pile].items()), rows[pile], sizes[pile])
        for pile in sorted(found)
    ]


def sort(pile: Pile, deal: Deal, output: Path) -> list[Path]:
    """Sort a pile that was dealt by `deal`; the files that hold its rows in order, named after `output`."""
    skip = deal.skip + deal.bits
    if pile.bytes > 2 * deal.pile_bytes and pile.rows > 1 and skip < _PLACE_BITS:
        finer = Deal.of(pile.bytes, deal.pile_bytes, skip)
        path = output.with_name(f"{output.name}-dealt")
        batches = pile.batches()
        first = next(batches)
        with Dealer(path, first.schema, finer) as dealer:
            for batch in itertools.chain([first], batches):
                dealer.add(batch)
        sorted_piles = [
            file
            for number, part in enumerate(collect([dealer.dealt]))
            for file in sort(part, finer, output.with_name(f"{output.name}-{number:03d}"))
        ]
        path.unlink()
        return sorted_piles
    table = pa.Table.from_batches(list(pile.batches()))
    with pa.ipc.new_file(output, table.schema) as file:
        file.write_table(table.sort_by("place"), max_chunksize=documents.BATCH_DOCUMENTS)
    return [output]


def read(path: Path) -> Iterator[pa.RecordBatch]:
    """The batches of a sorted file, which is then removed."""
    with pa.memory_map(str(path)) as mapped:
        file = pa.ipc.open_file(mapped)
        for number in range(file.num_record_batches):
            yield file.get_batch(number)
    path.unlink()
