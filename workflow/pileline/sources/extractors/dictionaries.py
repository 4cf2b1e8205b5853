"""Dictionaries: one text an entry.

dictd    what a dictd server reads (`*.dict`, `*.dict.dz`): a headword at the margin after a blank line, its
         article indented below. The database's own entries (`00-database-info`) are no text; braces around
         cross-references and marks of where a sense is from ("[1913 Webster]", in GCIDE) are left out.
wordnet  WordNet's `data.*`: a line a synset, its gloss after " | ". The text is "word, word: gloss".
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import IO

from pileline.sources.extractors.pieces import pieces
from pileline.sources.reading import Reading
from pileline.sources.record import MALFORMED, Format, Record, found, lines, unread

_SOURCE = re.compile(r"[ \t]*\[(?:1913 Webster|Webster 1913|WordNet \d|PJC|Century Dict|Webster Suppl)[^]]*\]")
_REFERENCE = re.compile(r"\{([^{}]*)\}")
_MARKER = re.compile(r"\((?:a|p|ip)\)$")  # where an adjective may stand, in WordNet


def read_dictd(stream: IO[bytes], reading: Reading, _: str) -> Iterator[Record]:
    for entry in pieces(stream, reading, lambda before, line: not before.strip() and line[:1].strip() != ""):
        if isinstance(entry, Record):
            yield entry
        else:
            yield from _entry(entry)


def _entry(entry: list[str]) -> Iterator[Record]:
    head = next((place for place, line in enumerate(entry) if not line[:1].strip()), len(entry))
    name = " ".join(entry[:head])
    if name.startswith("00-database") or not "".join(entry).strip():
        return
    article = textwrap.dedent("\n".join(entry[head:]))
    text = "\n".join([*(line.replace("%%%", ", ") for line in entry[:head]), article])
    text = re.sub(r"\n{3,}", "\n\n", _SOURCE.sub("", _REFERENCE.sub(r"\1", text))).strip()
    yield found(text, {"headword": re.split(r" \\|%%%", name)[0]})


def read_wordnet(stream: IO[bytes], reading: Reading, _: str) -> Iterator[Record]:
    for line in lines(stream, reading):
        if isinstance(line, Record):
            yield line
        elif line and not line.startswith("  "):  # the licence above is indented
            fields, _, gloss = line.partition(" | ")
            words = _words(fields.split(" "))
            if words and gloss.strip():
                yield found(f"{', '.join(words)}: {gloss.strip()}", {"words": words})
            else:
                yield unread(line.encode(), MALFORMED)


def _words(fields: list[str]) -> list[str]:
    """A synset's words: after offset, file, type and their number in hexadecimal, a word and a number each."""
    try:
        words = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
    except (IndexError, ValueError):
        return []
    return [_MARKER.sub("", word).replace("_", " ") for word in words]


DICTD = Format(read_dictd, by_line=True)
WORDNET = Format(read_wordnet, by_line=True)
