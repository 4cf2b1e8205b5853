"""Gopher's filters: is it prose, and does it repeat itself? (Rae et al., 2021, section A1.1 and table A1.)

Both are datatrove's to the letter of their order and their denominators, which differ from the paper's wording in
places: shares of characters are of the whole text, and a frequent n-gram counts as often as it stands, even once.
Words are those of `words.py`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pileline.cleaning import ngrams, vocabulary
from pileline.cleaning.bounds import count, over, share, under
from pileline.cleaning.removal import Removal
from pileline.cleaning.vocabulary import Words

_PARAGRAPHS, _LINES = re.compile(r"\n{2,}"), re.compile(r"\n+")


@dataclass(frozen=True)
class GopherQuality:
    """Removes texts whose words and lines are unlike those of prose."""

    name: ClassVar[str] = "gopher_quality"
    least_words: int = 50  # of more than punctuation
    most_words: int = 100_000
    least_mean_length: float = 3.0  # characters a word
    most_mean_length: float = 10.0
    symbols: float = 0.1  # "#" or ellipses to words, at most
    bullet_lines: float = 0.9  # share of lines, at most
    ellipsis_lines: float = 0.3
    lettered_words: float = 0.8  # share of words with a letter, at least
    stop_words: int = 2  # of `stop_list`, at least
    stop_list: tuple[str, ...] = ("the", "be", "to", "of", "and", "that", "have", "with")

    def __post_init__(self) -> None:
        object.__setattr__(self, "stop_list", tuple(self.stop_list))
        count(self, "least_words", "most_words", "stop_words")
        share(self, "bullet_lines", "ellipsis_lines", "lettered_words")

    def apply(self, text: str) -> str | Removal:
        return self.apply_many([text])[0]

    def apply_many(self, texts: Sequence[str]) -> list[str | Removal]:
        known = vocabulary.shared()
        stop_numbers = [known.number_of(word) for word in self.stop_list]
        words = known.words(texts)
        solid = words.kinds > 0
        columns = (
            words.counts,
            words.sums(solid),
            words.sums(words.lengths * solid),
            words.sums(words.kinds > 1),
            _different(words, stop_numbers),
        )
        rows = zip(texts, *(column.tolist() for column in columns), strict=True)
        return [Removal(f"{self.name}: {reason}") if (reason := self._reason(*row)) else row[0] for row in rows]

    def _reason(self, text: str, words: int, solid: int, characters: int, lettered: int, stops: int) -> str | None:
        if solid < self.least_words:
            return "too few words"
        if solid > self.most_words:
            return "too many words"
        if under(characters, solid, self.least_mean_length):
            return "words too short"
        if over(characters, solid, self.most_mean_length):
            return "words too long"
        ellipses = text.count("...") + text.count("…")
        if over(text.count("#"), words, self.symbols):
            return "too many hashes"
        if over(ellipses, words, self.symbols):
            return "too many ellipses"
        if reason := self._lines(text, ellipses):
            return reason
        if under(lettered, words, self.lettered_words):
            return "too few words with letters"
        return "too few stop words" if stops < self.stop_words else None

    def _lines(self, text: str, ellipses: int) -> str | None:
        lines = text.splitlines()
        # No line begins with a bullet or ends with an ellipsis where there is none: most texts need no look at lines.
        if over(text.count("-") + text.count("•"), len(lines), self.bullet_lines):
            bullets = sum(line.lstrip().startswith(("•", "-")) for line in lines)
            if over(bullets, len(lines), self.bullet_lines):
                return "too many bullet lines"
        if over(ellipses, len(lines), self.ellipsis_lines):
            endings = sum(line.rstrip().endswith(("...", "…")) for line in lines)
            if over(endings, len(lines), self.ellipsis_lines):
                return "too many lines end in an ellipsis"
        return None


def _different(words: Words, wanted: list[int]) -> NDArray[np.int64]:
    """How many different words of those wanted each text has."""
    place = np.full(max(words.numbers.max(initial=0), *wanted, 0) + 1, -1, np.int32)
    place[wanted] = np.arange(len(wanted))
    found = place[words.numbers]
    hits = np.flatnonzero(found >= 0)
    has = np.zeros((len(words.counts), len(wanted)), bool)
    has[words.texts()[hits], found[hits]] = True
    return np.asarray(has.sum(axis=1, dtype=np.int64))


@dataclass(frozen=True)
class GopherRepetition:
    """Removes texts of which too much is said twice. Each setting is the largest share that stays."""

    name: ClassVar[str] = "gopher_repetition"
    paragraphs: float = 0.3  # share of paragraphs that stood before
    paragraph_characters: float = 0.2
    lines: float = 0.3
    line_characters: float = 0.2
    top_2: float = 0.2  # share of the text's characters in its most frequent 2-gram
    top_3: float = 0.18
    top_4: float = 0.16
    duplicate_5: float = 0.15  # share of the text's characters in 5-grams that stood before
    duplicate_6: float = 0.14
    duplicate_7: float = 0.13
    duplicate_8: float = 0.12
    duplicate_9: float = 0.11
    duplicate_10: float = 0.10

    def __post_init__(self) -> None:
        share(self, *self.__dataclass_fields__.keys() - {"name"})

    def apply(self, text: str) -> str | Removal:
        return self.apply_many([text])[0]

    def apply_many(self, texts: Sequence[str]) -> list[str | Removal]:
        reasons = [self._said_twice(text) for text in texts]
        left = [number for number, reason in enumerate(reasons) if reason is None]
        top = [(n, getattr(self, f"top_{n}")) for n in (2, 3, 4)]
        duplicate = [(n, getattr(self, f"duplicate_{n}")) for n in range(5, 11)]
        found = ngrams.repetitive([texts[number] for number in left], top, duplicate)
        for number, reason in zip(left, found, strict=True):
            reasons[number] = reason
        return [
            text if reason is None else Removal(f"{self.name}: {reason}")
            for text, reason in zip(texts, reasons, strict=True)
        ]

    def _said_twice(self, text: str) -> str | None:
        """Which rule on paragraphs or lines the text breaks."""
        if "\n" not in text:
            return None
        size = len(text)
        paragraphs = _PARAGRAPHS.split(text.strip())
        number, characters = duplicates(paragraphs)
        if over(number, len(paragraphs), self.paragraphs):
            return "duplicate paragraphs"
        if over(characters, size, self.paragraph_characters):
            return "characters in duplicate paragraphs"
        lines = _LINES.split(text)
        number, characters = duplicates(lines)
        if over(number, len(lines), self.lines):
            return "duplicate lines"
        return "characters in duplicate lines" if over(characters, size, self.line_characters) else None


def duplicates(parts: list[str]) -> tuple[int, int]:
    """How many of the parts stood before, and their characters."""
    if len(set(parts)) == len(parts):
        return 0, 0
    seen: set[str] = set()
    number = characters = 0
    for part in parts:
        if part in seen:
            number += 1
            characters += len(part)
        else:
            seen.add(part)
    return number, characters
