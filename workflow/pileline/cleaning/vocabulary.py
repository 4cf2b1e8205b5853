"""The words of whole groups of texts as arrays, so that a filter's statistics are a few passes of numpy.

A vocabulary gives every distinct chunk (a run without white space) a number, and works out its words once. A text is
then the numbers of its chunks, which `str.split` and a dictionary make at some 70 MB/s, and a statistic of it is a
sum over a column of the vocabulary's table. What is remembered is a function of the text alone, so that it can be
forgotten at any time: a vocabulary that has grown large begins anew, and no filter's decision changes.
"""

from __future__ import annotations

import hashlib
import re
import string
import unicodedata
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pileline.cleaning.words import words_of

_MOST_CHUNKS = 400_000
_MOST_CHARACTERS = 1 << 25  # of all chunks
_LONG = 1 << 21  # characters
_CHUNK = re.compile(r"\S+")
_PUNCTUATION = frozenset(string.punctuation)


@dataclass(frozen=True)
class Words:
    """The words of some texts, one text after the other."""

    numbers: NDArray[np.int32]  # [words] of the vocabulary
    counts: NDArray[np.int64]  # [texts]
    lengths: NDArray[np.int32]  # [words] in characters
    hashes: NDArray[np.uint64]  # [words] of the word's letters
    kinds: NDArray[np.int8]  # [words] 3 with a letter, 1 with a digit or the like, 0 punctuation

    def texts(self) -> NDArray[np.int64]:
        """The text each word is of: [words]."""
        return np.repeat(np.arange(len(self.counts), dtype=np.int32), self.counts)

    def sums(self, values: NDArray[Any]) -> NDArray[np.int64]:
        """The sum of the words' values in each text: [words] to [texts]."""
        return _sums(values, self.counts)


class _Numbers(dict[str, int]):
    """A number for each string, in the order of their first coming; `learn` is told each new one."""

    def __init__(self, learn: Callable[[str], None]) -> None:
        super().__init__()
        self._learn = learn

    def __missing__(self, name: str) -> int:
        number = self[name] = len(self)
        self._learn(name)
        return number


class Vocabulary:
    """Chunks and words seen so far, with their columns. Use `shared()`, which begins anew where one is full."""

    def __init__(self) -> None:
        self._chunks = _Numbers(self._learn_chunk)
        self._words = _Numbers(self._learn_word)
        self._characters = 0
        self._first, self._count = array("q", [0]), array("q")  # where a chunk's words begin in `_members`, how many
        self._members = array("i")  # numbers of words, chunk after chunk
        self._length, self._hash, self._kind = array("i"), array("Q"), array("b")  # of each word
        self._texts: dict[str, NDArray[np.int32]] = {}

    @property
    def full(self) -> bool:
        return len(self._chunks) > _MOST_CHUNKS or self._characters > _MOST_CHARACTERS

    def _learn_chunk(self, chunk: str) -> None:
        self._characters += len(chunk)
        words = words_of(chunk)
        self._members.extend(map(self._words.__getitem__, words))
        self._first.append(len(self._members))
        self._count.append(len(words))

    def _learn_word(self, word: str) -> None:
        lettered = word.isalpha() or any(map(str.isalpha, word))
        solid = lettered or not all(map(_is_punctuation, word))
        self._length.append(len(word))
        self._kind.append(solid + 2 * lettered)
        self._hash.frombytes(hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest())

    def number_of(self, word: str) -> int:
        """The number of a word, whether or not a text has it."""
        return self._words[word]

    def _numbers(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The chunks' numbers of all texts, and how many each has. Filters ask for the same texts one after another."""
        known, self._texts = self._texts, {}
        for text in texts:
            if text not in self._texts:
                found = known.get(text)
                if found is None:
                    found = np.fromiter(map(self._chunks.__getitem__, _chunks_of(text)), np.int32)
                self._texts[text] = found
        parts = [self._texts[text] for text in texts]
        counts = np.fromiter(map(len, parts), np.int64, len(parts))
        return np.concatenate(parts) if parts else np.zeros(0, np.int32), counts

    def counts(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """The number of words of each text."""
        chunks, counts = self._numbers(texts)
        return _sums(_array(self._count, np.int64)[chunks], counts)

    def words(self, texts: Sequence[str]) -> Words:
        chunks, counts = self._numbers(texts)
        first, count = _array(self._first, np.int64)[chunks], _array(self._count, np.int64)[chunks]
        ends = np.cumsum(count)
        places = np.arange(ends[-1] if len(ends) else 0)
        places += np.repeat(first - (ends - count), count)
        numbers = _array(self._members, np.int32)[places]
        del places, first, ends
        return Words(
            numbers,
            _sums(count, counts),
            _array(self._length, np.int32)[numbers],
            _array(self._hash, np.uint64)[numbers],
            _array(self._kind, np.int8)[numbers],
        )


@lru_cache(maxsize=1)
def _current() -> Vocabulary:
    return Vocabulary()


def shared() -> Vocabulary:
    """The vocabulary of this process."""
    if _current().full:
        forget()
    return _current()


def _chunks_of(text: str) -> Iterable[str]:
    """`text.split()`; of a long text one chunk at a time, since a list of them takes ten times the text's memory."""
    return text.split() if len(text) <= _LONG else (found.group() for found in _CHUNK.finditer(text))


def forget() -> None:
    """Begin anew: what was remembered saves time alone."""
    _current.cache_clear()


def _is_punctuation(letter: str) -> bool:
    return letter in _PUNCTUATION or unicodedata.category(letter) in ("Cc", "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps")


def _array(column: array[Any], kind: type[Any]) -> NDArray[Any]:
    """The column as an array. It is lent: the column cannot grow before the array is gone, so index it at once."""
    return np.frombuffer(column, kind) if len(column) else np.zeros(0, kind)


def _sums(values: NDArray[Any], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The sum of each run of `values`, where the runs have `counts` values each, maybe none."""
    sums = np.concatenate(([0], np.cumsum(values, dtype=np.int64)))
    ends = np.cumsum(counts)
    return np.asarray(sums[ends] - sums[ends - counts])
