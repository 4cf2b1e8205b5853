"""C4's rules: a page is its lines that are sentences (Raffel et al., 2020), with datatrove's order and additions.

A page is refused for a phrase that betrays it, or if its remaining lines have too few sentences. The lines are what is
kept: blanks at their ends, empty lines and citations such as [3] are gone, so that a text is rewritten even where
nothing is wrong with it. Sentences are counted as spaCy's sentencizer does, to the least number that is asked for.
Left out: the list of bad words, which removes much writing by and about minorities (Dodge et al., 2021).
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import ClassVar

from pileline.cleaning.bounds import count
from pileline.cleaning.removal import Removal
from pileline.cleaning.words import TERMINAL, words_of

_CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")
_ENDS = (".", "?", "!", '"', "'")
_POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
_MOST_CHUNKS = 400_000
_REMEMBERED = 40  # characters of a chunk


@dataclass(frozen=True)
class C4:
    """Keeps a page's lines of sentences, or removes the page."""

    name: ClassVar[str] = "c4"
    terminal_punctuation: bool = True  # drop lines that do not end in . ? ! or a quotation mark
    citations: bool = True  # take out [3], [edit], [citation needed]
    least_sentences: int = 5  # of a page
    least_words: int = 3  # of a line
    longest_word: int = 1000  # drop lines with a longer one
    javascript: bool = True  # drop lines that name it
    policy: bool = True  # drop lines on cookies, terms and privacy
    lorem_ipsum: bool = True  # remove pages with it
    curly_bracket: bool = True  # remove pages with one

    def __post_init__(self) -> None:
        count(self, "least_sentences", "least_words", "longest_word")

    def apply(self, text: str) -> str | Removal:
        suspicious = self._suspicious(text)
        kept: list[str] = []
        sentences = 0
        for raw in text.splitlines():
            line = raw.strip()
            words = line.split()
            if len(line) > self.longest_word and max(map(len, words)) > self.longest_word:
                continue
            if self.citations and "[" in line:
                line = _CITATION.sub("", line)
            if self.terminal_punctuation and (not line.endswith(_ENDS) or line.endswith("...")):
                continue
            if len(words) < self.least_words:
                continue
            if suspicious:
                verdict = self._verdict(line)
                if isinstance(verdict, Removal):
                    return verdict
                if not verdict:
                    continue
            if sentences < self.least_sentences:
                sentences += sentences_of(line)
            kept.append(line)
        if sentences < self.least_sentences:
            return Removal(f"{self.name}: too few sentences")
        return "\n".join(kept).strip()

    def _suspicious(self, text: str) -> bool:
        """Whether any line may break a rule on phrases; taking out a citation may bring two halves together."""
        small = text.lower()
        return (
            (self.citations and "[" in text)
            or (self.curly_bracket and "{" in text)
            or (self.lorem_ipsum and "lorem ipsum" in small)
            or (self.javascript and "javascript" in small)
            or (self.policy and any(phrase in small for phrase in _POLICY))
        )

    def _verdict(self, line: str) -> bool | Removal:
        """Whether the line stays, or that the page goes."""
        small = line.lower()
        if self.lorem_ipsum and "lorem ipsum" in small:
            return Removal(f"{self.name}: lorem ipsum")
        if self.javascript and "javascript" in small:
            return False
        if self.curly_bracket and "{" in line:
            return Removal(f"{self.name}: curly bracket")
        return not (self.policy and any(phrase in small for phrase in _POLICY))


class _Endings(dict[str, str]):
    """For each chunk its words as "2" for a mark that ends sentences and "0" for what is no punctuation."""

    def __missing__(self, chunk: str) -> str:
        if chunk.isalpha() or (chunk[-1] in ",;:" and chunk[:-1].isalpha()):
            code = "0"  # its words, however many, end no sentence
        else:
            code = "".join(map(_code, words_of(chunk)))
        if len(chunk) <= _REMEMBERED:
            if len(self) > _MOST_CHUNKS:
                self.clear()
            self[chunk] = code
        return code


_ENDINGS = _Endings()


def _code(word: str) -> str:
    if len(word) == 1 and word in TERMINAL:
        return "2"
    return "" if not word.isalnum() and all(unicodedata.category(letter)[0] == "P" for letter in word) else "0"


def sentences_of(line: str) -> int:
    """The number of sentences of a line: one more than ends that something other than punctuation follows."""
    return 1 + "".join(map(_ENDINGS.__getitem__, line.split())).count("20")
