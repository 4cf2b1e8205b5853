"""Plain text: one text a member, or one a line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from pileline.sources.reading import Reading
from pileline.sources.record import TOO_LONG, UNDECODABLE, Format, Record, decoded, found, lines, unread, whole


def read_text(stream: IO[bytes], reading: Reading, _: str) -> Iterator[Record]:
    data = whole(stream, reading)
    if isinstance(data, int):
        yield unread(data, TOO_LONG)
        return
    text = decoded(data, reading)
    yield unread(data, UNDECODABLE) if text is None else found(text)


def read_lines(stream: IO[bytes], reading: Reading, _: str) -> Iterator[Record]:
    for line in lines(stream, reading):
        yield line if isinstance(line, Record) else found(line)


TEXT = Format(read_text)
LINES = Format(read_lines, by_line=True)
