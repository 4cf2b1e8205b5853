"""A random order of any number of things, without a table of it: constant memory, any place at once.

A shuffled array of 10 billion blocks would take 80 GB. A cipher over the numbers 0 .. n - 1 is a shuffle too: it
gives each number another, none twice, from a few keys. Here it is the generalized Feistel network of Black &
Rogaway (2002, "Ciphers with arbitrary finite domains"): a number is written as a pair (a, b) in a grid that
barely holds n; in each round one half is shifted by a hash of the other, which can be undone and so loses nothing. Four
rounds make it look random (Luby & Rackoff 1988). The few results outside n are sent through again until they fall
inside ("cycle walking"), which keeps it a permutation.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]
ROUNDS = 4


class Permutation:
    """The numbers 0 .. n - 1 in an order drawn from `key`; call it with places to get the numbers there."""

    def __init__(self, n: int, key: list[int]) -> None:
        self.n = n
        self._width = math.isqrt(max(n - 1, 0)) + 1  # the grid: `height` rows of `width`, less than `width` too many
        self._height = -(-n // self._width)
        self._keys = np.random.SeedSequence(key).generate_state(ROUNDS, np.uint64)

    def __call__(self, places: Numbers) -> Numbers:
        """int64 [k] places below n to the numbers that stand there."""
        numbers = self._once(places)
        while (outside := np.flatnonzero(numbers >= self.n)).size:
            numbers[outside] = self._once(numbers[outside])
        return numbers

    def _once(self, numbers: Numbers) -> Numbers:
        rows, columns = (half.astype(np.uint64) for half in np.divmod(numbers, self._width))
        for turn, key in enumerate(self._keys):
            if turn % 2:
                rows = (rows + _hash(columns + key) % np.uint64(self._height)) % np.uint64(self._height)
            else:
                columns = (columns + _hash(rows + key) % np.uint64(self._width)) % np.uint64(self._width)
        return (rows * np.uint64(self._width) + columns).astype(np.int64)


def _hash(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finalizer of splitmix64 (Steele et al. 2014): every bit of a value moves every bit of its hash."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
