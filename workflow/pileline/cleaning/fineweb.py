"""FineWeb's own filters (Penedo et al., 2024): is it running text, or menus and lists?

They were found by comparing statistics of good and bad crawls; datatrove's version, to the letter. Lines that stand
twice weigh most: more than 1 % of the characters in them, and the document goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pileline.cleaning import vocabulary
from pileline.cleaning.bounds import count, over, share, under
from pileline.cleaning.gopher import duplicates
from pileline.cleaning.removal import Removal
from pileline.cleaning.words import TERMINAL

_TERMINAL = frozenset(TERMINAL)


@dataclass(frozen=True)
class FineWeb:
    """Removes texts whose lines are those of menus and lists."""

    name: ClassVar[str] = "fineweb"
    punctuated_lines: float = 0.12  # share of lines that end in punctuation, at least
    short_lines: float = 0.67  # share of lines of up to `short_line` characters, at most
    short_line: int = 30
    duplicate_characters: float = 0.01  # share of characters in lines that stood before, at most
    newlines: float = 0.3  # line ends to words, at most

    def __post_init__(self) -> None:
        share(self, "punctuated_lines", "short_lines", "duplicate_characters")
        count(self, "short_line", "newlines")

    def apply(self, text: str) -> str | Removal:
        return self.apply_many([text])[0]

    def apply_many(self, texts: Sequence[str]) -> list[str | Removal]:
        words = vocabulary.shared().counts(texts).tolist()
        return [
            Removal(f"{self.name}: {reason}") if (reason := self._reason(text, number)) else text
            for text, number in zip(texts, words, strict=True)
        ]

    def _reason(self, text: str, words: int) -> str | None:
        every = text.split("\n")
        lines = [line for line in every if line and not line.isspace()]
        if under(sum(line[-1] in _TERMINAL for line in lines), len(lines), self.punctuated_lines):
            return "too few lines end in punctuation"
        if over(sum(len(line) <= self.short_line for line in lines), len(lines), self.short_lines):
            return "too many short lines"
        ends = len(every) - 1
        if over(duplicates(lines)[1], len(text) - ends, self.duplicate_characters):
            return "characters in duplicate lines"
        return "too many line ends" if over(ends, words, self.newlines) else None
