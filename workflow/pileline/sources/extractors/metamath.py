"""The comments of a Metamath database (`*.mm`), which say in words what is proved: one text a comment.

`$( ... $)` is a comment. Its lines are joined to paragraphs; backquotes around formulas and tildes before labels are
left out, doubled ones stand for themselves (Metamath book, 4.4). Headings in frames of signs, comments on typesetting
(`$t`, `$j`), statements that are commented out, and credits ("(Contributed by NM, 5-Aug-1993.)") are no text, nor are
the formal statements.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO

from pileline.sources.reading import Reading
from pileline.sources.record import Format, Record, found, whole_text

_COMMENT = re.compile(r"\$\(\s(.*?)\s\$\)", re.DOTALL)
_FORMAL = re.compile(r"^\s*(?:#\*#\*|=-=-|-\.-\.|####|\$[tj]\s)|\s\$[aefp=.]\s")
_CREDIT = re.compile(
    r"\s*\((?:Contributed|Revised|Proof shortened|Proof modification|New usage|Proposed)\b[^()]*(?:\([^()]*\)[^()]*)*\)"
)
_MARK = re.compile(r"``|~~|` ?| ?`(?=\W|$)|(?<!\S)~ ")


def read_metamath(stream: IO[bytes], reading: Reading, place: str) -> Iterator[Record]:
    text = whole_text(stream, reading, place)
    if isinstance(text, Record):
        yield text
        return
    for match in _COMMENT.finditer(text):
        if not _FORMAL.search(match.group(1)):
            yield found(_prose(match.group(1)))


def _prose(comment: str) -> str:
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", _CREDIT.sub("", comment))]
    return _MARK.sub(lambda match: match.group()[0] if match.group() in ("``", "~~") else "", "\n\n".join(paragraphs))


METAMATH = Format(read_metamath)
