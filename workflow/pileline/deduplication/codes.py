"""Texts as arrays of code points: normalized for a whole group at once, without a loop over characters.

What duplicates are told by is the normalized text (`documents.normalize_for_key`): NFKC, case folded, every run of
characters that are neither letter nor digit one blank. Composition and folding are Python's own, text by text (they
cost next to nothing where a text is ASCII); the rest, which a regular expression does at some 30 MB/s, is a table
look-up and a mask over the code points of many texts, which shingles and words are cut from anyway.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pileline import documents

_GROUP_CHARACTERS = 1 << 15  # a group of documents whose arrays stay in the processor's cache
_GROUP_DOCUMENTS = 256
_BLANK = 0x20
_END = "\n"  # stands behind each text until the blank does: no letter, no digit, and composes with nothing


@dataclass(frozen=True)
class Codes:
    """Texts one after the other: `values` [sum(lengths) + texts] code points, a blank behind each text, and
    `lengths` [texts], which count no such blank.
    """

    values: NDArray[np.uint32]
    lengths: NDArray[np.int64]

    @classmethod
    def of(cls, texts: list[str]) -> Codes:
        """The texts as they are."""
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        return cls(_code_points("".join(text + " " for text in texts)), lengths)

    @classmethod
    def normalized(cls, texts: list[str]) -> Codes:
        """The texts as they are normalized for keys; a text of which that leaves nothing stays as it is."""
        codes = cls.bare(texts)
        return cls.of([normalized(text) for text in texts]) if (codes.lengths < 0).any() else codes

    @classmethod
    def bare(cls, texts: list[str]) -> Codes:
        """The texts normalized; one of which nothing is left has no values, not even the blank, and the length -1."""
        folded = [_folded(text) + _END for text in texts]
        codes = _code_points("".join(folded))
        ends = np.cumsum(np.fromiter(map(len, folded), np.int64, len(folded)))
        word = _letters_and_digits()[codes]
        kept = word.copy()
        kept[1:] |= word[:-1]  # the first of a run of others, which becomes its blank
        places = np.flatnonzero(kept)
        lengths = np.diff(np.searchsorted(places, ends), prepend=0) - 1
        return cls(np.where(word[places], codes[places], np.uint32(_BLANK)), lengths)

    @property
    def starts(self) -> NDArray[np.int64]:
        """[texts] Where each text begins in `values`."""
        starts: NDArray[np.int64] = np.cumsum(self.lengths + 1) - self.lengths - 1
        return starts


def normalized(text: str) -> str:
    """One text as `Codes.normalized` has it, by the regular expression."""
    return documents.normalize_for_key(text) or text


def groups(texts: Iterable[str]) -> Iterator[list[str]]:
    """Texts in groups small enough for the processor's cache: at most 256, and 32,768 characters or one text."""
    group: list[str] = []
    characters = 0
    for text in texts:
        if group and (characters + len(text) > _GROUP_CHARACTERS or len(group) == _GROUP_DOCUMENTS):
            yield group
            group, characters = [], 0
        group.append(text)
        characters += len(text)
    if group:
        yield group


def _folded(text: str) -> str:
    return text.lower() if text.isascii() else documents.normalize("NFKC", text).casefold()


def _code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


@functools.cache
def _letters_and_digits() -> NDArray[np.bool_]:
    """[code points] What stays of a normalized text: `\\w` of regular expressions without the underscore."""
    return np.strings.isalnum(np.arange(0x110000, dtype=np.uint32).view("U1"))
