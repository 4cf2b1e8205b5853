"""Bibles as SWORD modules of kind zText keep them (`*.bzz`): one text a chapter.

The file is zlib streams, one a book, with zeros between; in them stands OSIS, an XML of verses. Footnotes and tags
are left out, a paragraph is parted by a blank line and a line of verse by a line end. The indexes beside the file
(`*.bzv`, `*.bzs`) say where verses begin, which is not needed here.
"""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import Iterator
from typing import IO

from pileline.sources.extractors.inflated import inflate
from pileline.sources.reading import Reading
from pileline.sources.record import TOO_LONG, UNDECODABLE, Format, Record, decoded, found, unread, whole

_CHAPTER = re.compile(r"<chapter\b[^>]*\bsID=[^>]*>")
_NAME = re.compile(r'\bosisID="([^"]*)"')
_NOTE = re.compile(r"<note\b[^>]*/>|<note\b.*?</note>", re.DOTALL)
_PARAGRAPH = re.compile(r'<div\b[^>]*type="x-p"[^>]*>|</?title\b[^>]*>|</?lg\b[^>]*>|</?p\b[^>]*>')
_LINE = re.compile(r"<l\b[^>]*\bsID=[^>]*>|<lb\b[^>]*>")
_TAG = re.compile(r"<[^>]*>")


def read_sword(stream: IO[bytes], reading: Reading, _: str) -> Iterator[Record]:
    data = whole(stream, reading)
    if isinstance(data, int):
        yield unread(data, TOO_LONG)
        return
    while data := data.lstrip(b"\0"):
        book, data = inflate(data, reading)
        if isinstance(book, Record):
            yield book
            return
        text = decoded(book, reading)
        if text is None:
            yield unread(book, UNDECODABLE)
        else:
            yield from _chapters(text)


def _chapters(book: str) -> Iterator[Record]:
    starts = [match.start() for match in _CHAPTER.finditer(book)]
    for start, end in itertools.pairwise([*starts, len(book)]):
        name = _NAME.search(book, start, end)
        yield found(_prose(book[start:end]), {"chapter": name.group(1)} if name else {})


def _prose(osis: str) -> str:
    text = _PARAGRAPH.sub("\n\n", _NOTE.sub(" ", osis))
    text = html.unescape(_TAG.sub("", _LINE.sub("\n", text)))
    text = re.sub(r" ?\n ?", "\n", re.sub(r"[ \t]+", " ", text))
    return re.sub(r"\n{3,}", "\n\n", text).strip()


SWORD = Format(read_sword)
