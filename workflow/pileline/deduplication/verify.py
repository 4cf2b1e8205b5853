"""The true Jaccard similarity of candidate pairs, on sets of shingle hashes.

LSH only proposes: at the threshold many of its pairs are false, and removing on a collision alone, as
SlimPajama's and datatrove's pipelines do, loses good documents. Here each candidate pair is measured:

    J(A, B) = |A and B| / (|A| + |B| - |A and B|).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pileline.deduplication import minhash
from pileline.deduplication.codes import Codes, groups

_PAIRS = 256  # the pair's number stands in the byte above the 56-bit hashes
_HASHES = 1 << 17  # of a batch, so that its sort stays in the processor's cache


class ShingleSets:
    """Sets of shingle hashes of numbered documents, in an unnamed file mapped to memory (8 bytes a shingle)."""

    def __init__(self, texts: Iterable[str], shingler: minhash.Shingler, folder: str | Path) -> None:
        """The order of `texts`, normalized here, gives the numbers. The file in `folder` goes with the object."""
        sizes = [np.zeros(1, np.int64)]
        with tempfile.TemporaryFile(dir=folder) as file:
            for group in groups(texts):
                hashes, counts = minhash.distinct(*shingler.hashes(Codes.normalized(group)))
                hashes.tofile(file)
                sizes.append(counts)
            file.flush()
            self._starts = np.cumsum(np.concatenate(sizes))
            self._hashes: NDArray[np.uint64] = (
                np.asarray(np.memmap(file, np.uint64, "r")) if self._starts[-1] else np.empty(0, np.uint64)
            )

    def __len__(self) -> int:
        return len(self._starts) - 1

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Number of different shingles of each document."""
        return np.diff(self._starts)

    def __getitem__(self, number: int) -> NDArray[np.uint64]:
        return self._hashes[self._starts[number] : self._starts[number + 1]]

    def jaccard(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.float64]:
        """Similarity of each pair (left[i], right[i]): [pairs]."""
        result = np.empty(len(left), np.float64)
        total = np.cumsum(self.sizes[left] + self.sizes[right])
        first = 0
        while first < len(left):
            before = total[first - 1] if first else 0
            last = min(int(np.searchsorted(total, before + _HASHES, "right")), first + _PAIRS)
            some = slice(first, max(last, first + 1))
            result[some] = self._batch(left[some], right[some])
            first = some.stop
        return result

    def _batch(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.float64]:
        """Similarity of at most 256 pairs by one sort: a hash that both sets of a pair hold stands there twice."""
        numbers = np.stack((left, right), axis=1).ravel()
        sizes = self.sizes[numbers]
        tags = np.repeat(np.arange(len(left), dtype=np.uint64) << np.uint64(56), sizes[::2] + sizes[1::2])
        tags |= np.concatenate([self[number] for number in numbers.tolist()])
        tags.sort()
        shared = tags[1:][tags[1:] == tags[:-1]] >> np.uint64(56)
        both = np.bincount(shared.astype(np.int64), minlength=len(left))
        similarity: NDArray[np.float64] = both / (sizes[::2] + sizes[1::2] - both)
        return similarity
