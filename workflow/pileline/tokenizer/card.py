"""A tokenizer's card: how it spells text that it was not trained on.

All is counted by source, so that the parts of the mix, and with them the languages, can be compared.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pileline import documents
from pileline.tokenizer.encode import Tokenizer

ALPHA = 2.5  # the order of Rényi's entropy that went best with translation quality (arXiv:2306.16842)
# Scripts that write no blank between words; each of their characters counts as a word, as Unicode's UAX #29 has it.
SCRIPTS_WITHOUT_BLANKS = ("CJK UNIFIED", "CJK COMPATIBILITY IDEOGRAPH", "HIRAGANA", "THAI", "LAO", "KHMER", "MYANMAR")
ASCII_WORD = re.compile("[A-Za-z0-9]+")  # what `_word` comes to in plain English or code, several times as fast
COUNTED = ("documents", "bytes", "words", "tokens", "byte_tokens")


@dataclass(frozen=True)
class Card:
    """What `measure` found.

    `by_source` maps a source to its counts (`COUNTED`) and rates (`rates`), `overall` sums them up;
    `token_counts` is how often each token occurred, int64 [vocabulary_size].
    """

    by_source: dict[str, dict[str, Any]]
    overall: dict[str, Any]
    token_counts: npt.NDArray[np.int64]

    @property
    def vocabulary_used(self) -> int:
        """How many tokens of the vocabulary occurred at all."""
        return int((self.token_counts > 0).sum())

    @property
    def efficiency(self) -> float | None:
        """Rényi efficiency of the whole, see `renyi_efficiency`."""
        return renyi_efficiency(self.token_counts)


def rows(path: str | Path) -> Iterator[list[tuple[str, str]]]:
    """(source, text) of the documents of a table, in its batches, which are bounded in documents and in bytes."""
    for batch in documents.batches(path, ["source", "text"]):
        yield list(zip(*(column.to_pylist() for column in batch.columns), strict=True))


def measure(tokenizer: Tokenizer, batches: Iterable[list[tuple[str, str]]], threads: int = 1) -> Card:
    """Encode texts, given as batches of (source, text), and count."""
    amounts: dict[str, npt.NDArray[np.int64]] = {}
    counts = np.zeros(tokenizer.vocabulary_size, dtype=np.int64)
    for batch in batches:
        for source, group in groupby(sorted(batch, key=itemgetter(0)), key=itemgetter(0)):
            texts = [text for _, text in group]
            ids, _ = tokenizer.encode_flat(texts, threads)
            found = np.bincount(ids, minlength=tokenizer.vocabulary_size)
            counts += found
            sizes = sum(len(text.encode()) for text in texts), sum(map(count_words, texts))
            row = [len(texts), *sizes, len(ids), found[tokenizer.byte_tokens].sum()]
            amounts[source] = amounts.get(source, np.zeros(len(COUNTED), np.int64)) + row
    total = sum(amounts.values(), np.zeros(len(COUNTED), np.int64))
    return Card({source: _row(amounts[source]) for source in sorted(amounts)}, _row(total), counts)


def _row(amounts: npt.NDArray[np.int64]) -> dict[str, Any]:
    counted = dict(zip(COUNTED, amounts.tolist(), strict=True))
    return counted | rates(counted)


def rates(counted: dict[str, int]) -> dict[str, float | None]:
    """Bytes a token, tokens a word (fertility) and the share of tokens that are bytes; None where there is none."""

    def rate(part: str, whole: str) -> float | None:
        return round(counted[part] / counted[whole], 4) if counted[whole] else None

    return {
        "bytes_per_token": rate("bytes", "tokens"),
        "tokens_per_word": rate("tokens", "words"),
        "byte_fallback_rate": rate("byte_tokens", "tokens"),
    }


def renyi_efficiency(counts: npt.NDArray[np.int64], alpha: float = ALPHA) -> float | None:
    """How evenly the vocabulary is used, in [0, 1]: H_alpha(p) / log |V|, None without tokens.

    p are the tokens' shares in a text and H_alpha(p) = log(sum of p ** alpha) / (1 - alpha) is Rényi's entropy
    (Zouhar et al. 2023, arXiv:2306.16842). 1 if all of the vocabulary is equally frequent, 0 if one token is all.
    """
    if not counts.sum() or len(counts) < 2:
        return None
    shares = counts / counts.sum()
    return float(np.log((shares**alpha).sum()) / (1 - alpha) / math.log(len(counts)))


@cache
def _word() -> re.Pattern[str]:
    """A word: letters, marks and digits in a row, or one character of a script that is written without blanks."""
    alone, marks = [], []
    for point in range(0x20000):  # beyond lie ideographs and tags
        character = chr(point)
        if unicodedata.category(character)[0] == "M":
            marks.append(character)
        elif unicodedata.name(character, "").startswith(SCRIPTS_WITHOUT_BLANKS):
            alone.append(character)
    single = "".join(alone) + "\U00020000-\U0003ffff"
    return re.compile(rf"[{single}][{''.join(marks)}]*|(?:[^\W_{single}]|[{''.join(marks)}])+")


def count_words(text: str) -> int:
    """The number of words in a text; punctuation is none."""
    return len(ASCII_WORD.findall(text)) if text.isascii() else sum(1 for _ in _word().finditer(text))


def rarest(tokenizer: Tokenizer, counts: npt.NDArray[np.int64], number: int) -> list[tuple[str, int]]:
    """The learned pieces that occurred least, with how often; of equals first the longest."""
    learned = range(tokenizer.byte_tokens.stop, tokenizer.vocabulary_size)
    order = sorted(learned, key=lambda token: (int(counts[token]), -len(tokenizer.pieces[token]), token))[:number]
    return [(tokenizer.pieces[token], int(counts[token])) for token in order]


def longest(tokenizer: Tokenizer, number: int) -> list[str]:
    """The learned pieces of the most characters, of equals first the one that was learned first."""
    learned = tokenizer.pieces[tokenizer.byte_tokens.stop :]
    return sorted(learned, key=lambda piece: -len(piece))[:number]
