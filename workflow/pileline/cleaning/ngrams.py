"""Which texts repeat their n-grams: a bound by sorting whole groups, and a count of the few that come near it.

Counting n-grams of nine sizes in dictionaries is what makes Gopher's repetition filter slow. Here the n-grams of all
texts of a group are 64-bit keys (text, hash, length) that one sort brings together, which bounds every share from
above. Only texts whose bound passes a threshold are counted to the letter, so that the bound decides nothing.

    top n-gram:        count of the most frequent * length of the longest among them  >=  characters in it
    duplicate n-grams: sum over 5-grams of (count - 1) * length                       >=  characters counted, n >= 5

The second holds for every n of 5 or more: a repeated n-gram consists of repeated 5-grams.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pileline.cleaning import vocabulary
from pileline.cleaning.vocabulary import Words

_BASE = np.uint64(0xD1342543DE82EF95)
_LENGTH_BITS = 8
_LONGEST = (1 << _LENGTH_BITS) - 1  # characters of an n-gram that a key holds; more count as so many
_NEARLY = 1 - 1e-9  # a product may round to more than the quotient that decides
Limits = Sequence[tuple[int, float]]


def repetitive(texts: Sequence[str], top: Limits, duplicate: Limits) -> list[str | None]:
    """For each text the first rule that it breaks, "frequent 2-gram" or "duplicate 5-grams", or None.

    `top` are (n, largest share of the characters in the most frequent n-gram), `duplicate` (n, largest share in
    n-grams that stood before). n of `duplicate` is 5 or more.
    """
    words = vocabulary.shared().words(texts)
    sizes = np.fromiter(map(len, texts), np.int64, len(texts))
    near = np.zeros(len(texts), bool)
    for n, limit in top:
        near |= _top_bound(words, n) >= limit * sizes * _NEARLY
    if duplicate:
        near |= _duplicate_bound(words) >= min(limit for _, limit in duplicate) * sizes * _NEARLY
    found: list[str | None] = [None] * len(texts)
    ends = np.cumsum(words.counts)
    for number in np.flatnonzero(near).tolist():
        own = slice(ends[number] - words.counts[number], ends[number])
        found[number] = _rule(words.hashes[own], words.lengths[own], len(texts[number]), top, duplicate)
    return found


def _hashes(words: NDArray[np.uint64], n: int) -> NDArray[np.uint64]:
    """A hash of each n-gram: [words] to [words - n + 1]."""
    made = words[: len(words) - n + 1].copy()
    for place in range(1, n):
        made *= _BASE
        made += words[place : len(words) - n + 1 + place]
    return made


def _lengths(lengths: NDArray[np.int32], n: int) -> NDArray[np.int64]:
    """Characters of each n-gram, without blanks."""
    sums = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
    return np.asarray(sums[n:] - sums[:-n])


def _runs(words: Words, n: int, blanks: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The distinct n-grams of each text: their text, count and characters (`blanks` added, `_LONGEST` at most)."""
    if len(words.numbers) < n:
        return (np.zeros(0, np.int64),) * 3
    texts = words.texts()
    inside = texts[n - 1 :] == texts[: len(texts) - n + 1]
    bits = np.uint64(64 - max(1, len(words.counts)).bit_length())
    lengths = np.minimum(_lengths(words.lengths, n)[inside] + blanks, _LONGEST).astype(np.uint64)
    keys = _hashes(words.hashes, n)[inside]
    keys ^= keys >> np.uint64(32)  # the low bits of a polynomial hash are its worst
    keys *= _BASE
    keys >>= np.uint64(64) - bits
    keys &= ~np.uint64(_LONGEST)
    keys |= lengths | (texts[: len(inside)][inside].astype(np.uint64) << bits)
    keys.sort()
    starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1]))) if len(keys) else np.zeros(0, np.int64)
    counts = np.diff(np.append(starts, len(keys)))
    first = keys[starts]
    return (first >> bits).astype(np.int64), counts, (first & np.uint64(_LONGEST)).astype(np.int64)


def _top_bound(words: Words, n: int) -> NDArray[np.float64]:
    """At least the characters in the most frequent n-gram of each text, as often as it stands there."""
    texts, counts, lengths = _runs(words, n, n - 1)
    most = np.zeros(len(words.counts), np.int64)
    np.maximum.at(most, texts, counts)
    longest = np.zeros(len(words.counts), np.int64)
    is_most = counts == most[texts]
    np.maximum.at(longest, texts[is_most], lengths[is_most])
    return np.where(longest < _LONGEST, most * longest, np.inf)


def _duplicate_bound(words: Words) -> NDArray[np.float64]:
    """At least the characters in n-grams that stood before, for every n of 5 or more."""
    texts, counts, lengths = _runs(words, 5, 0)
    again = counts > 1
    characters = (counts[again] - 1) * np.where(lengths[again] < _LONGEST, lengths[again], np.inf)
    return np.bincount(texts[again], characters, len(words.counts)).astype(np.float64)


def _rule(
    hashes: NDArray[np.uint64], lengths: NDArray[np.int32], size: int, top: Limits, duplicate: Limits
) -> str | None:
    """The first rule that one text breaks, counted to the letter."""
    for n, limit in top:
        if len(hashes) >= n and _characters_in_top(hashes, lengths, n) / size > limit:
            return f"frequent {n}-gram"
    for n, limit in duplicate:
        if len(hashes) >= n and _characters_said_before(hashes, lengths, n) / size > limit:
            return f"duplicate {n}-grams"
    return None


def _characters_in_top(hashes: NDArray[np.uint64], lengths: NDArray[np.int32], n: int) -> int:
    """The most frequent n-gram, the first of several: its characters, blanks included, times its count."""
    grams = _hashes(hashes, n).tolist()
    gram, count = Counter(grams).most_common(1)[0]
    return (int(_lengths(lengths, n)[grams.index(gram)]) + n - 1) * count


def _characters_said_before(hashes: NDArray[np.uint64], lengths: NDArray[np.int32], n: int) -> int:
    """Characters of the n-grams that stood before, read from the left; one that did is skipped as a whole."""
    grams = _hashes(hashes, n)
    characters = _lengths(lengths, n)
    _, inverse, counts = np.unique(grams, return_inverse=True, return_counts=True)
    several = np.flatnonzero(counts[inverse] > 1)  # the others are never found again
    seen: set[int] = set()
    total = following = 0
    for place, gram, size in zip(
        several.tolist(), inverse[several].tolist(), characters[several].tolist(), strict=True
    ):
        if place < following:
            continue
        if gram in seen:
            total += size
            following = place + n
        else:
            seen.add(gram)
    return total
