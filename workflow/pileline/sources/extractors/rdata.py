"""Character vectors of an R package's data (`*.rdb`): one text a vector, an element a line.

A file of that kind is one block after another: the length of what is compressed, then a zlib stream. Each is an
object in R's XDR serialization (R Internals, 1.8), read here when it is a character vector; other objects
(functions, tables) are code or numbers and no text.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import IO

from pileline.sources.extractors.inflated import inflate
from pileline.sources.reading import Reading
from pileline.sources.record import MALFORMED, TOO_LONG, UNDECODABLE, Format, Record, decoded, found, unread, whole

_STRINGS, _STRING = 16, 9  # STRSXP, a character vector, and CHARSXP, one element of it
_MISSING = 0xFFFFFFFF  # the length of NA


def read_r_data(stream: IO[bytes], reading: Reading, _: str) -> Iterator[Record]:
    data = whole(stream, reading)
    if isinstance(data, int):
        yield unread(data, TOO_LONG)
        return
    while data:
        block, data = inflate(data, reading, header=4)
        if isinstance(block, Record):
            yield block
        else:
            yield from _vector(block, reading)


def _vector(block: bytes, reading: Reading) -> Iterator[Record]:
    """The text of a serialized object: "X", a line end, three versions (and in version 3 an encoding), the object."""
    if block[:2] != b"X\n" or len(block) < 18:
        yield unread(block, MALFORMED)
        return
    (version,) = struct.unpack_from(">I", block, 2)
    place = 14 + (4 + struct.unpack_from(">I", block, 14)[0] if version == 3 else 0)
    if len(block) < place + 8 or block[place + 3] != _STRINGS:
        return
    (count,) = struct.unpack_from(">I", block, place + 4)
    lines, place = [], place + 8
    for _ in range(count):
        if len(block) < place + 8 or block[place + 3] != _STRING:
            yield unread(block, MALFORMED)
            return
        (length,) = struct.unpack_from(">I", block, place + 4)
        place += 8
        if length != _MISSING:
            lines.append(block[place : place + length])
            place += length
    text = decoded(b"\n".join(lines), reading)
    yield unread(block, UNDECODABLE) if text is None else found(text)


R_DATA = Format(read_r_data)
