"""A table of hashes in files, sorted, each with the documents ("owners") that hold it: bounded memory for any size.

Entries are dealt to partitions by their first bits, as they come; then one partition at a time is sorted in memory,
and the sorted partitions one behind the other are the sorted whole. It is mapped to memory, so that what is held of
it is the operating system's to decide, and processes share it. In front of it stands a bitmap over the hashes' first
bits, at least 32 times as many as hashes up to 32 million of these, which turns away 97 % of what the table does not
hold; of a larger table it turns away less, which costs time and nothing else.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_PARTITIONS = 6  # logarithm of their number
_WAITING = 1 << 22  # entries in memory before they are dealt
_BITMAP = (16, 30)  # smallest and largest logarithm of its bits
_COUNTED = 1 << 21  # entries counted at once


class Lookup:
    """The table that a `Builder` made at `folder`, of hashes of `bits` bits; opened again where it is unpickled."""

    def __init__(self, folder: Path, bits: int) -> None:
        self.folder, self.bits = folder, bits
        self.hashes: NDArray[np.uint64] = _mapped(folder / "distinct", np.dtype(np.uint64))
        self._starts: NDArray[np.int64] = _mapped(folder / "starts", np.dtype(np.int64))
        self._owners: NDArray[np.int32] = _mapped(folder / "owners", np.dtype(np.int32))
        self._bitmap: NDArray[np.uint8] = _mapped(folder / "bitmap", np.dtype(np.uint8))
        self._shift = np.uint64(bits - (8 * len(self._bitmap)).bit_length() + 1)

    def __reduce__(self) -> tuple[type[Lookup], tuple[Path, int]]:
        return Lookup, (self.folder, self.bits)

    def find(self, hashes: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Of those hashes that the table holds: their places in `hashes`, and their places in the table's."""
        bits = hashes >> self._shift
        chosen = np.flatnonzero(self._bitmap[bits >> np.uint64(3)] & _bit(bits))
        chosen = chosen[np.argsort(hashes[chosen])]  # looked up in order, which spares the processor's cache
        place = np.searchsorted(self.hashes, hashes[chosen])
        known = np.flatnonzero(place < len(self.hashes))
        known = known[self.hashes[place[known]] == hashes[chosen[known]]]
        return chosen[known], place[known]

    def counts(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """The number of entries that the hashes at these places have."""
        counts: NDArray[np.int64] = self._starts[places + 1] - self._starts[places]
        return counts

    def shared(
        self, group: NDArray[np.int64], places: NDArray[np.int64], owners: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """The pairs of a group and one of `owners` owners that occur, in their order, and how often each does.

        The hash at `places[i]` of the table is a member of group `group[i]`.
        """
        count = self.counts(places)
        ends = np.cumsum(count)
        codes, times = np.zeros(0, np.int64), np.zeros(0, np.int64)
        start = 0
        while start < len(group):
            before = ends[start - 1] if start else 0
            stop = max(int(np.searchsorted(ends, before + _COUNTED, "right")), start + 1)
            many, some = count[start:stop], slice(start, stop)
            at = np.repeat(self._starts[places[some]] - (ends[some] - many - before), many)
            at += np.arange(int(many.sum()))
            new, new_times = np.unique(np.repeat(group[some], many) * owners + self._owners[at], return_counts=True)
            codes, place = np.unique(np.concatenate((codes, new)), return_inverse=True)
            times = np.bincount(place, np.concatenate((times, new_times)), len(codes)).astype(np.int64)
            start = stop
        return codes // max(owners, 1), codes % max(owners, 1), times


class Builder:
    """Takes entries (hash of `bits` bits, owner) in any order and number, and sorts them to a table in a new folder."""

    def __init__(self, folder: Path, bits: int) -> None:
        self._folder, self._bits = folder, bits
        self._waiting: list[tuple[NDArray[np.uint64], NDArray[np.int32]]] = []
        self._count = 0
        folder.mkdir(parents=True)

    def add(self, hashes: NDArray[np.uint64], owners: NDArray[np.int32]) -> None:
        """Take entries; from four million on they go to the files of their partitions."""
        self._waiting.append((hashes, owners))
        self._count += len(hashes)
        if self._count >= _WAITING:
            self._deal()

    def build(self) -> Lookup:
        """Sort the partitions, one behind the other, and mark the bitmap."""
        if self._waiting:
            self._deal()
        total = 0
        with (
            (self._folder / "distinct").open("wb") as distinct_file,
            (self._folder / "starts").open("wb") as starts_file,
            (self._folder / "owners").open("wb") as owners_file,
        ):
            for partition in range(1 << _PARTITIONS):
                hashes = _taken(self._folder / f"hashes.{partition}", np.dtype(np.uint64))
                owners = _taken(self._folder / f"owners.{partition}", np.dtype(np.int32))
                order = np.argsort(hashes, kind="stable")
                distinct, starts = np.unique(hashes[order], return_index=True)
                distinct.tofile(distinct_file)
                (total + starts).astype(np.int64).tofile(starts_file)
                owners[order].tofile(owners_file)
                total += len(order)
            np.array([total], np.int64).tofile(starts_file)
        self._mark()
        return Lookup(self._folder, self._bits)

    def _mark(self) -> None:
        """Write the bitmap of the distinct hashes."""
        hashes = _mapped(self._folder / "distinct", np.dtype(np.uint64))
        size = min(max(_BITMAP[0], (32 * len(hashes)).bit_length()), _BITMAP[1])
        bitmap = np.zeros(1 << (size - 3), np.uint8)
        for first in range(0, len(hashes), _WAITING):
            bits = hashes[first : first + _WAITING] >> np.uint64(self._bits - size)
            np.bitwise_or.at(bitmap, bits >> np.uint64(3), _bit(bits))
        bitmap.tofile(self._folder / "bitmap")

    def _deal(self) -> None:
        """Add what waits to the files of its partitions, which are named by the hashes' first bits."""
        hashes, owners = (np.concatenate(column) for column in zip(*self._waiting, strict=True))
        partition = (hashes >> np.uint64(self._bits - _PARTITIONS)).astype(np.int64)
        order = np.argsort(partition, kind="stable")
        cuts = np.searchsorted(partition[order], np.arange((1 << _PARTITIONS) + 1))
        for number in np.flatnonzero(np.diff(cuts)).tolist():
            some = order[cuts[number] : cuts[number + 1]]
            for name, values in (("hashes", hashes), ("owners", owners)):
                with (self._folder / f"{name}.{number}").open("ab") as file:
                    values[some].tofile(file)
        self._waiting, self._count = [], 0


def first_of_pairs(left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each different pair (left[i], right[i]) stands first, in the order of the pairs."""
    order = np.lexsort((right, left))
    left, right = left[order], right[order]
    new = np.ones(len(order), bool)
    new[1:] = (left[1:] != left[:-1]) | (right[1:] != right[:-1])
    return order[new]


def _taken(path: Path, kind: np.dtype) -> NDArray:  # type: ignore[type-arg]
    """What a file holds, which is deleted; nothing if there is none."""
    if not path.exists():
        return np.zeros(0, kind)
    values = np.fromfile(path, kind)
    path.unlink()
    return values


def _mapped(path: Path, kind: np.dtype) -> NDArray:  # type: ignore[type-arg]
    return np.asarray(np.memmap(path, kind, "r")) if path.stat().st_size else np.zeros(0, kind)


def _bit(places: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """The bit that stands for each place in its byte."""
    return np.left_shift(np.uint8(1), (places & np.uint64(7)).astype(np.uint8))
