"""Texts of several lines, many to a file, gathered line by line in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import IO

from pileline.sources.reading import Reading
from pileline.sources.record import TOO_LONG, Record, lines, unread
from pileline.sources.streams import MEGABYTE


def pieces(stream: IO[bytes], reading: Reading, begins: Callable[[str, str], bool]) -> Iterator[list[str] | Record]:
    """The lines of each piece. `begins` says of a line, given the one before it, whether a piece begins there.

    Instead of a line that cannot be read, or a piece beyond `member_mb`, comes the record that stands for it.
    """
    most = reading.member_mb * MEGABYTE
    piece, size, before = [], 0, ""  # type: list[str], int, str
    for line in lines(stream, reading):
        if isinstance(line, Record):
            yield line
            continue
        if size and begins(before, line):
            yield piece if size <= most else unread(size, TOO_LONG)
            piece, size = [], 0
        before = line
        size += len(line.encode()) + 1
        if size <= most:
            piece.append(line)
        else:
            piece.clear()
    if size:
        yield piece if size <= most else unread(size, TOO_LONG)
