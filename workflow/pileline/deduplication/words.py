"""Runs of words and of characters as hashes, by arrays over many texts, as `minhash` has shingles.

A run of characters c_0 ... c_k has the hash sum of v(c_i) B^i mod 2^64, mixed, where v is a random value for each code
point and B is odd; an n-gram of words is such a polynomial of its words' hashes. Two that differ share a 64-bit hash
with probability of about 2^-60: a run over 10^9 n-grams of training text against 10^6 of a task's meets one
false match with probability of about 10^-3.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pileline.deduplication.codes import Codes
from pileline.deduplication.minhash import BASE, characters, mix, windows

_BLANK = 0x20


def ngrams(codes: Codes, size: int, seed: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Hashes of all runs of `size` words, one text after the other, and the number of each text's (0 for a text of
    fewer words): [sum of counts], [texts]. A word ends at a blank.
    """
    word = codes.values != _BLANK
    before = np.concatenate(([False], word))
    starts = np.flatnonzero(word & ~before[:-1])
    ends = np.flatnonzero(~word & before[:-1])
    numbers = np.diff(np.searchsorted(starts, np.append(codes.starts, len(word))))
    counts = np.maximum(numbers - size + 1, 0)
    if not counts.any():
        return np.zeros(0, np.uint64), counts
    hashes = windows(runs(codes.values, starts, ends, seed), size)
    first = np.cumsum(numbers) - numbers
    place = np.repeat(first - (np.cumsum(counts) - counts), counts) + np.arange(int(counts.sum()))
    return mix(hashes[place]), counts


def distinct(hashes: NDArray[np.uint64], counts: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Each text's hashes without repeats, sorted, and their numbers."""
    text = np.repeat(np.arange(len(counts)), counts)
    order = np.lexsort((hashes, text))
    hashes, text = hashes[order], text[order]
    new = np.ones(len(hashes), bool)
    new[1:] = (hashes[1:] != hashes[:-1]) | (text[1:] != text[:-1])
    return hashes[new], np.bincount(text[new], minlength=len(counts))


def runs(
    codes: NDArray[np.uint32], starts: NDArray[np.int64], ends: NDArray[np.int64], seed: int
) -> NDArray[np.uint64]:
    """The hash of each run codes[start:end]; runs ascend, do not overlap, and something stands behind each."""
    if not len(starts):
        return np.zeros(0, np.uint64)
    codes = codes[starts[0] : ends[-1] + 1]
    starts, ends = starts - starts[0], ends - starts[0]
    spans = np.diff(starts, append=len(codes))
    place = np.arange(len(codes)) - np.repeat(starts, spans)
    powers = np.full(int(spans.max()), BASE, np.uint64)
    powers[0] = 1
    np.multiply.accumulate(powers, out=powers)
    terms = characters(seed)[codes] * powers[place]
    terms[place >= np.repeat(ends - starts, spans)] = 0
    return mix(np.add.reduceat(terms, starts))
