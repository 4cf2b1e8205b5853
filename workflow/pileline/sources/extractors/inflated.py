"""Streams of zlib one after another in one file, as several kinds of packages keep their texts."""

from __future__ import annotations

import zlib

from pileline.sources.reading import Reading
from pileline.sources.record import MALFORMED, MEGABYTE, TOO_LONG, Record, unread


def inflate(data: bytes, reading: Reading) -> tuple[bytes | Record, bytes]:
    """The first stream's contents and what follows it; if it cannot be read, the record that stands for all of it."""
    unpacker = zlib.decompressobj()
    try:
        contents = unpacker.decompress(data, reading.member_mb * MEGABYTE)
    except zlib.error:
        return unread(data, MALFORMED), b""
    if not unpacker.eof:
        return unread(data, TOO_LONG if unpacker.unconsumed_tail else MALFORMED), b""
    return contents, unpacker.unused_data
