"""Locality-sensitive hashing: documents that share a band's hash meet in a bucket.

A pair of similarity s agrees in all r rows of a band with probability s^r, hence in at least one of b bands with

    P(s) = 1 - (1 - s^r)^b,

an S-shaped curve (Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", section 3.4). Buckets are
found by sorting each band's hashes, so that no dictionary over all documents is ever built.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


def probability(similarity: NDArray[np.float64], bands: int, rows: int) -> NDArray[np.float64]:
    """Probability that a pair of each similarity becomes a candidate: P(s) = 1 - (1 - s^r)^b."""
    return 1.0 - (1.0 - similarity**rows) ** bands


@dataclass(frozen=True)
class Buckets:
    """Who met whom: `bucket` and `member`, both [entries], sorted by bucket, in each bucket by member."""

    bucket: NDArray[np.int64]
    member: NDArray[np.int64]

    def select(self, entries: NDArray[np.bool_]) -> Buckets:
        return Buckets(self.bucket[entries], self.member[entries])

    def first(self) -> NDArray[np.bool_]:
        """Whether an entry is its bucket's first."""
        return np.concatenate(([True], self.bucket[1:] != self.bucket[:-1])) if len(self.bucket) else self.bucket > 0

    def last(self) -> NDArray[np.bool_]:
        """Whether an entry is its bucket's last."""
        return np.concatenate((self.bucket[1:] != self.bucket[:-1], [True])) if len(self.bucket) else self.bucket > 0

    def spread(self, values: NDArray[np.int64], at: NDArray[np.bool_]) -> NDArray[np.int64]:
        """To each entry the value that its bucket has at the entry marked by `at` (one a bucket)."""
        spread: NDArray[np.int64] = values[at][np.cumsum(self.first()) - 1]
        return spread


def buckets(hashes: NDArray[np.uint64], rows: NDArray[np.int64] | None = None) -> Buckets:
    """Buckets of at least two documents from band hashes [documents, bands]; a member is a row's number.

    With `rows` only these rows are looked at, and a member is a place in `rows`.
    """
    bucket: list[NDArray[np.int64]] = []
    member: list[NDArray[np.int64]] = []
    found = 0
    for column in hashes.T:
        band = column if rows is None else column[rows]  # one band is copied at a time
        order = np.argsort(band, kind="stable")
        equal = band[order][1:] == band[order][:-1]
        crowded = np.concatenate((equal, [False])) | np.concatenate(([False], equal)) if len(order) else equal
        starts = crowded & ~np.concatenate(([False], equal)) if len(order) else equal
        bucket.append(found + np.cumsum(starts[crowded]) - 1)
        member.append(order[crowded])
        found += int(starts.sum())
    return Buckets(np.concatenate(bucket).astype(np.int64), np.concatenate(member).astype(np.int64))
