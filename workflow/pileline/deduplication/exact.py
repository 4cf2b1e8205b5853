"""Exact duplicates: documents with the same key (a hash of the normalized text as extracted)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def first_copies(
    keys: NDArray[np.bytes_], eligible: NDArray[np.bool_], rank: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """For each document the number of the first eligible document with its key; -1 where it is not eligible.

    `keys` is [n] of type S16 in corpus order, `eligible` is [n]. A document that names itself is the first. With
    `rank` [n] that of the lowest rank comes first, and of these the first in corpus order.
    """
    result = np.full(len(keys), -1, np.int64)
    numbers = np.flatnonzero(eligible)
    if rank is not None:
        numbers = numbers[np.argsort(rank[numbers], kind="stable")]
    _, first, group = np.unique(keys[numbers], return_index=True, return_inverse=True)
    result[numbers] = numbers[first[group]]
    return result


def copies_of(keys: NDArray[np.bytes_], eligible: NDArray[np.bool_], reference: NDArray[np.bool_]) -> NDArray[np.int64]:
    """For each eligible document the number of the first `reference` document with its key, or -1."""
    result = np.full(len(keys), -1, np.int64)
    if not reference.any():
        return result
    known, first = np.unique(keys[reference], return_index=True)
    numbers = np.flatnonzero(eligible)
    place = np.minimum(np.searchsorted(known, keys[numbers]), len(known) - 1)
    same = known[place] == keys[numbers]
    result[numbers[same]] = np.flatnonzero(reference)[first[place[same]]]
    return result
