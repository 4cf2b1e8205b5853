"""MinHash signatures of character shingles, by numpy over whole batches of documents.

A document is the set of the shingles (runs of w characters) of its normalized text. For a random
permutation h of all shingles, the smallest h over a set A equals that over B with probability

    P[min h(A) = min h(B)] = |A and B| / |A or B| = J(A, B),

so the share of k permutations in which two documents agree estimates their Jaccard similarity without bias,
with variance J(1 - J)/k (Broder, "On the resemblance and containment of documents", 1997).

Three steps, each one pass over arrays, no loop over characters or shingles:

1. A shingle's 64-bit hash is a polynomial in Z/2^64 over a random 64-bit value for each code point (Karp and
   Rabin, 1987), built by doubling (a window of 13 is 8 + 4 + 1), then a bijective mix, so that its bits are
   uniform. Two different shingles share a hash with probability about 2^-60.
2. The permutations are h(x) = a x + b mod 2^32 with odd a, on the hash's high 32 bits: the multiply family of
   universal hashing (Carter and Wegman, 1979; Dietzfelbinger et al., 1997). Since x is already uniform, a
   universal family behaves as a random one (Mitzenmacher and Vadhan, 2008); tests compare the
   estimate's mean and variance with Broder's. 32 bits let the processor do 16 at once.
3. `np.minimum.reduceat` takes the minimum over each document's run of shingles.

Signatures are used at once: what is kept of a document is a 64-bit hash for each band of its rows.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from pileline.deduplication.codes import Codes

_GOLDEN = 0x9E3779B97F4A7C15
BASE = 0xD1342543DE82EF95  # odd, and 5 mod 8: its powers differ from each other in low bits
_PAD = np.uint32(0x10FFFF)  # a noncharacter: stands behind texts shorter than a shingle
_PERMUTATIONS_AT_ONCE = 12
_SHINGLES_AT_ONCE = 1 << 20  # of one text, so that its permutations' memory does not grow with it


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser (Steele, Lea and Flood, 2014), a bijection of 64-bit values; works in place."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        values ^= values >> np.uint64(shift)
        values *= np.uint64(factor)
    values ^= values >> np.uint64(31)
    return values


def stream(seed: int, name: int, count: int) -> NDArray[np.uint64]:
    """`count` pseudorandom 64-bit values of SplitMix64, the same with every version of numpy."""
    start = np.array([(seed * 0x100 + name) * _GOLDEN % 2**64], np.uint64)
    return mix(mix(start) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GOLDEN))


@functools.cache
def characters(seed: int) -> NDArray[np.uint64]:
    """A random 64-bit value for each code point, of which hashes of text are made: 9 MB, once a process."""
    return stream(seed, 0, 0x110000)


def windows(values: NDArray[np.uint64], size: int) -> NDArray[np.uint64]:
    """Polynomial of each window: [n] to [n - size + 1], sum of values[i + j] * BASE^(size - 1 - j), mod 2^64."""
    whole, covered = values[:0], 0
    block, width = values, 1
    while True:
        power = np.uint64(pow(BASE, width, 2**64))
        if size & width:
            # The block of `width` values is appended behind the `covered` ones.
            length = len(values) - covered - width + 1
            whole = whole[:length] * power + block[covered : covered + length] if covered else block
            covered += width
        if covered == size:
            return whole
        block = block[:-width] * power + block[width:]
        width *= 2


class Shingler:
    """Cuts texts into shingles of `size` characters and hashes them."""

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seed = size, seed

    def hashes(self, codes: Codes) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Hashes of all shingles of texts, one text after the other, repeats included, and the number of each
        text's: [sum of counts], [texts]. A text shorter than a shingle is one shingle.
        """
        codes = _padded(codes, self.size)
        hashes = windows(characters(self.seed)[codes.values], self.size)
        inside = np.ones(len(codes.values), bool)  # but for the windows that reach over a text's end
        inside[(np.cumsum(codes.lengths + 1)[:, None] - 1 - np.arange(self.size)).ravel()] = False
        return mix(hashes[inside[: len(hashes)]]), codes.lengths - self.size + 1


def _padded(codes: Codes, size: int) -> Codes:
    """The texts with something behind those shorter than `size`, so that they have it."""
    if not len(codes.lengths) or codes.lengths.min() >= size:
        return codes
    longer = Codes(codes.values, np.maximum(codes.lengths, size))
    values = np.full(int((longer.lengths + 1).sum()), _PAD, np.uint32)
    places = np.arange(len(codes.values)) + np.repeat(longer.starts - codes.starts, codes.lengths + 1)
    values[places] = codes.values
    values[(longer.starts + codes.lengths)[codes.lengths < size]] = _PAD  # the blank behind a short text
    return Codes(values, longer.lengths)


def distinct(hashes: NDArray[np.uint64], counts: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The sets of shingles of at most 256 texts, as sorted 56-bit hashes, and their sizes, from `Shingler.hashes`.

    The byte above each hash holds the text's number while all are sorted at once; it is cleared again.
    """
    tagged = (hashes >> np.uint64(8)) | (np.repeat(np.arange(len(counts), dtype=np.uint64), counts) << np.uint64(56))
    tagged.sort()
    unique = tagged[np.concatenate(([True], tagged[1:] != tagged[:-1]))] if len(tagged) else tagged
    sizes = np.bincount((unique >> np.uint64(56)).astype(np.int64), minlength=len(counts))
    return unique & np.uint64(2**56 - 1), sizes


class MinHash:
    """`bands` x `rows` permutations drawn from `seed`; see the module's text."""

    def __init__(self, bands: int, rows: int, seed: int) -> None:
        self.bands, self.rows = bands, rows
        self._factors = (stream(seed, 1, bands * rows) >> np.uint64(32)).astype(np.uint32) | np.uint32(1)
        self._addends = (stream(seed, 2, bands * rows) >> np.uint64(32)).astype(np.uint32)
        self._weights = stream(seed, 3, rows) | np.uint64(1)

    def signatures(self, hashes: NDArray[np.uint64], counts: NDArray[np.int64]) -> NDArray[np.uint32]:
        """Signatures [bands * rows, documents] of documents whose shingles' hashes stand one after the other."""
        if len(counts) == 1 and len(hashes) > _SHINGLES_AT_ONCE:
            cuts = range(0, len(hashes), _SHINGLES_AT_ONCE)
            blocks = [hashes[cut : cut + _SHINGLES_AT_ONCE] for cut in cuts]
            signed = [self.signatures(block, np.array([len(block)])) for block in blocks]
            return np.asarray(np.minimum.reduce(signed), np.uint32)
        shingles = (hashes >> np.uint64(32)).astype(np.uint32)
        starts = np.cumsum(counts) - counts
        result = np.empty((len(self._factors), len(counts)), np.uint32)
        buffer = np.empty((_PERMUTATIONS_AT_ONCE, len(shingles)), np.uint32)
        for first in range(0, len(self._factors), _PERMUTATIONS_AT_ONCE):
            some = slice(first, first + _PERMUTATIONS_AT_ONCE)
            values = buffer[: len(self._factors[some])]
            np.multiply(self._factors[some, None], shingles, out=values)
            np.add(values, self._addends[some, None], out=values)
            np.minimum.reduceat(values, starts, axis=1, out=result[some])
        return result

    def band_hashes(self, signatures: NDArray[np.uint32]) -> NDArray[np.uint64]:
        """A 64-bit hash of each band: [bands * rows, documents] to [documents, bands]."""
        bands = signatures.reshape(self.bands, self.rows, -1).astype(np.uint64)
        return mix(np.einsum("brd,r->db", bands, self._weights))
