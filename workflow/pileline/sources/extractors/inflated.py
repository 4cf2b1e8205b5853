"""Streams of zlib one after another in one file, as several kinds of packages keep their texts."""

from __future__ import annotations

import zlib

from pileline.sources.reading import Reading
from pileline.sources.record import MALFORMED, TOO_LONG, Record, unread
from pileline.sources.streams import MEGABYTE


def inflate(data: bytes, reading: Reading, header: int = 0) -> tuple[bytes | Record, bytes]:
    """The contents of the first stream, after a header of so many bytes, and what follows it.

    If it cannot be read, instead of the contents the record that stands for all of `data`, and nothing follows.
    """
    unpacker = zlib.decompressobj()
    try:
        contents = unpacker.decompress(data[header:], reading.member_mb * MEGABYTE)
    except zlib.error:
        return unread(data, MALFORMED), b""
    if not unpacker.eof:
        return unread(data, TOO_LONG if unpacker.unconsumed_tail else MALFORMED), b""
    return contents, unpacker.unused_data
