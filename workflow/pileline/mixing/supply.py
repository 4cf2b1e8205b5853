"""The supply: how much training text each source has, before weights, and which of it a cap admits.

A cap takes the documents whose keys have the smallest hashes, so the choice depends on no order, and a larger cap
only adds. Where the hash ends that fills the cap is found in a histogram of bytes over 2^20 intervals of hashes:
it has one size for any number of documents, and adds up over the tables of a source. What shares the interval that
overflows (a millionth of the source, or one document of a small one) stays out whole.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pileline.ledger import Amount
from pileline.mixing.plan import hashed

INTERVALS = 1 << 20


def interval(seed: int, key: bytes) -> int:
    """The interval in which a key's hash lies."""
    return int.from_bytes(hashed(seed, "cap", key)[:8], "big") * INTERVALS >> 64


@dataclass
class Supply:
    """Different training documents of a source. Of a capped one, also their bytes by interval."""

    amount: Amount = field(default_factory=Amount)
    histogram: NDArray[np.int64] | None = None

    def add(self, size: int, place: int | None) -> None:
        """Count a document of `size` bytes; `place` is its interval where the source is capped."""
        self.amount.add(size)
        if place is not None:
            if self.histogram is None:
                self.histogram = np.zeros(INTERVALS, np.int64)
            self.histogram[place] += size

    def merge(self, other: Supply) -> None:
        """Count another table of the same source."""
        self.amount.add(other.amount.bytes, other.amount.documents)
        if other.histogram is not None:
            self.histogram = other.histogram if self.histogram is None else self.histogram + other.histogram

    def admit(self, cap: float | None) -> tuple[int, int]:
        """The number of intervals that a cap of so many bytes admits, and the bytes in them."""
        if cap is None or self.histogram is None or self.amount.bytes <= cap:
            return INTERVALS, self.amount.bytes
        filled = np.cumsum(self.histogram)
        admitted = int(np.searchsorted(filled, cap, "right"))
        return admitted, int(filled[admitted - 1]) if admitted else 0
