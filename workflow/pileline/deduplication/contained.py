"""Containment: protected text that stands inside a training document, or the other way round; exact, without LSH.

Jaccard similarity does not see a short text quoted whole in a long one: J is then the ratio of their lengths. Yet a
model that trains on the long one has read the short one. So here the overlap of a training document T with a
protected P is measured against each of the two, by their sets of shingles:

    |T and P| / |P|   how much of P stands in T
    |T and P| / |T|   how much of T stands in P

Either counts only where its denominator is at least `SMALLEST` shingles: what is smaller is a phrase, not a text, and
stands in many documents without having been copied. J is never above either, so this finds all that J finds too,
save for phrases.

One table in files (see `lookup`) holds the protected documents' shingles, 20 bytes each; the training documents pass
it in groups, with the very hashes that their signatures are made of. Nearly all of their shingles end at the table's
bitmap, and only the others are looked up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pileline.deduplication.lookup import Lookup, first_of_pairs

SMALLEST = 50  # distinct shingles of a text; 62 characters where a shingle has 13
HASH_BITS = 56  # of a hash of `minhash.distinct`

Pairs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]


@dataclass(frozen=True)
class Protected:
    """The distinct shingles of protected documents: `table` has them with their owners, `sizes` [owners] how many."""

    table: Lookup
    sizes: NDArray[np.int64]

    def overlapping(self, hashes: NDArray[np.uint64], counts: NDArray[np.int64], threshold: float) -> Pairs:
        """For each text that overlaps with an owner by at least `threshold`: its number, the owner that it overlaps
        with most (the first of equals), and by how much, the larger of the two measures.

        The texts are a group's, as `Shingler.hashes` gives them.
        """
        text, owner, shared = self._counts(hashes, counts)
        enough = shared >= threshold * SMALLEST
        text, owner, shared = text[enough], owner[enough], shared[enough]
        sizes = _sizes(hashes, counts, np.unique(text))
        of_owner = np.where(self.sizes[owner] >= SMALLEST, shared / self.sizes[owner], 0.0)
        of_text = np.where(sizes[text] >= SMALLEST, shared / sizes[text], 0.0)
        overlap = np.maximum(of_owner, of_text)
        reached = np.flatnonzero(overlap >= threshold)
        reached = reached[np.lexsort((owner[reached], -overlap[reached], text[reached]))]
        numbers, place = np.unique(text[reached], return_index=True)
        return numbers, owner[reached][place], overlap[reached][place]

    def _counts(
        self, hashes: NDArray[np.uint64], counts: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """The pairs of a text of the group and an owner that share a shingle, and how many distinct ones they share."""
        at, place = self.table.find(hashes >> np.uint64(64 - HASH_BITS))
        text = np.searchsorted(np.cumsum(counts), at, "right")
        once = first_of_pairs(text, place)
        return self.table.shared(text[once], place[once], len(self.sizes))


def _sizes(hashes: NDArray[np.uint64], counts: NDArray[np.int64], few: NDArray[np.int64]) -> NDArray[np.int64]:
    """[texts] The number of distinct shingles of the texts numbered `few`; 0 for the others."""
    sizes = np.zeros(len(counts), np.int64)
    ends = np.cumsum(counts)
    for number in few.tolist():
        own = hashes[ends[number] - counts[number] : ends[number]] >> np.uint64(64 - HASH_BITS)
        sizes[number] = len(np.unique(own))
    return sizes
