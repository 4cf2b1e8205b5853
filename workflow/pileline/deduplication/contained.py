"""Containment: protected text that stands inside a training document, or the other way round; exact, without LSH.

Jaccard similarity does not see a short text quoted whole in a long one: J is then the ratio of their lengths. Yet a
model that trains on the long one has read the short one. So here the overlap of a training document T with a
protected P is measured against each of the two, by their sets of shingles:

    |T and P| / |P|   how much of P stands in T
    |T and P| / |T|   how much of T stands in P

Either counts only where its denominator is at least `SMALLEST` shingles: what is smaller is a phrase, not a text, and
stands in many documents without having been copied. J is never above either, so this finds all that J finds too,
save for phrases.

One table holds the protected documents' shingles (about 16 bytes each, and a bitmap); the training documents pass
it in groups. Nearly all of their shingles end at the bitmap, and only the others are looked up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from pileline.deduplication.minhash import Shingler, groups

SMALLEST = 50  # distinct shingles of a text; 62 characters where a shingle has 13
_BITMAP = (16, 27)  # smallest and largest logarithm of its entries, a byte each
_ENTRIES = 1 << 21  # (training document, owner) entries counted at once
_HASH_BITS = 56  # of a hash of `Shingler.sets`

Pairs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]


class Table:
    """The distinct shingles of protected documents, sorted, each with the documents ("owners") that hold it."""

    def __init__(self, texts: Iterable[str], shingler: Shingler) -> None:
        """`texts` are normalized; their order gives the owners' numbers."""
        found = [shingler.sets(group) for group in groups(texts)]
        self._shingler = shingler
        self.sizes = np.concatenate([np.zeros(0, np.int64), *(sizes for _, sizes in found)])
        hashes = np.concatenate([np.zeros(0, np.uint64), *(some for some, _ in found)])
        order = np.argsort(hashes, kind="stable")
        self._owners = np.repeat(np.arange(len(self.sizes), dtype=np.int32), self.sizes)[order]
        self._hashes, starts = np.unique(hashes[order], return_index=True)
        self._starts, self._holders = starts, np.diff(starts, append=len(hashes))
        bits = min(max(_BITMAP[0], (8 * len(self._hashes)).bit_length()), _BITMAP[1])
        self._shift = np.uint64(_HASH_BITS - bits)
        self._bitmap = np.zeros(1 << bits, bool)
        self._bitmap[self._hashes >> self._shift] = True

    def overlapping(self, texts: Iterable[str], threshold: float) -> Pairs:
        """For each normalized text that overlaps with an owner by at least `threshold`: its number in `texts`, the
        owner that it overlaps with most (the first of equals), and by how much, the larger of the two measures.
        """
        first = 0
        parts: list[Pairs] = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
        for group in groups(texts):
            text, owner, overlap = self._overlaps(group, threshold)
            reached = np.flatnonzero(overlap >= threshold)
            reached = reached[np.lexsort((owner[reached], -overlap[reached], text[reached]))]
            numbers, place = np.unique(text[reached], return_index=True)
            parts.append((first + numbers, owner[reached][place], overlap[reached][place]))
            first += len(group)
        text, owner, overlap = (np.concatenate(column) for column in zip(*parts, strict=True))
        return text, owner, overlap

    def _overlaps(self, group: list[str], threshold: float) -> Pairs:
        """The pairs of a text of the group and an owner that share enough to matter, and their overlap."""
        text, owner, shared = self._counts(group)
        enough = shared >= threshold * SMALLEST
        text, owner, shared = text[enough], owner[enough], shared[enough]
        sizes = np.full(len(group), SMALLEST)
        few = np.unique(text)
        sizes[few] = self._shingler.sets([group[number] for number in few])[1]
        of_owner = np.where(self.sizes[owner] >= SMALLEST, shared / self.sizes[owner], 0.0)
        of_text = np.where(sizes[text] >= SMALLEST, shared / sizes[text], 0.0)
        return text, owner, np.maximum(of_owner, of_text)

    def _counts(self, group: list[str]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """The pairs of a text of the group and an owner that share a shingle, and how many distinct ones they share."""
        hashes, counts = self._shingler.hashes(group)
        hashes >>= np.uint64(64 - _HASH_BITS)
        chosen = np.flatnonzero(self._bitmap[hashes >> self._shift])
        chosen = chosen[np.argsort(hashes[chosen])]  # looked up in order, which spares the processor's cache
        place = np.minimum(np.searchsorted(self._hashes, hashes[chosen]), max(len(self._hashes) - 1, 0))
        known = np.flatnonzero(self._hashes[place] == hashes[chosen]) if len(chosen) else chosen
        text = np.repeat(np.arange(len(group)), counts)[chosen[known]]
        entries = np.sort(text * len(self._hashes) + place[known])
        entries = entries[np.diff(entries, prepend=-1) > 0]
        found = list(self._shared(*np.divmod(entries, max(len(self._hashes), 1))))
        codes, at = np.unique(np.concatenate([np.zeros(0, np.int64), *(c for c, _ in found)]), return_inverse=True)
        shared = np.bincount(at, np.concatenate([np.zeros(0), *(n for _, n in found)]), len(codes)).astype(np.int64)
        text, owner = np.divmod(codes, max(len(self.sizes), 1))
        return text, owner, shared

    def _shared(
        self, text: NDArray[np.int64], place: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Codes (text x owners + owner) and how often each occurs, some shingles at a time.

        `place` are places in the table, of the texts that `text` numbers.
        """
        counts = self._holders[place]
        ends = np.cumsum(counts)
        first = 0
        while first < len(place):
            before = ends[first - 1] if first else 0
            last = max(int(np.searchsorted(ends, before + _ENTRIES, "right")), first + 1)
            many, starts = counts[first:last], self._starts[place[first:last]]
            at = np.repeat(starts - (ends[first:last] - many - before), many) + np.arange(int(many.sum()))
            yield np.unique(np.repeat(text[first:last], many) * len(self.sizes) + self._owners[at], return_counts=True)
            first = last
