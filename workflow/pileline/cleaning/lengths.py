"""Lengths of documents as a histogram whose edges never change, so that those of a source's parts can be added up."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

# Four bins an octave, in characters, each edge rounded to a whole number: 0, 1, 2, 3, ..., 19, 23, 27, 32, ...
EDGES = [0, *sorted({round(2 ** (step / 4)) for step in range(4 * 32 + 1)})]


class Lengths:
    """Counts of lengths; bin i has those of at least `EDGES[i]` and less than `EDGES[i + 1]` characters."""

    def __init__(self) -> None:
        self.counts = [0] * (len(EDGES) - 1)

    def add(self, characters: int) -> None:
        self.counts[min(bisect_right(EDGES, characters), len(self.counts)) - 1] += 1

    def to_dict(self) -> dict[str, Any]:
        return {"edges": EDGES, "counts": self.counts}

    def quantile(self, share: float) -> float | None:
        """The length that `share` of the documents do not reach, to the width of its bin; None without documents."""
        left = share * sum(self.counts)
        for low, high, count in zip(EDGES, EDGES[1:], self.counts, strict=False):
            if count and left <= count:
                return low + (high - low) * left / count
            left -= count
        return None
