"""Catalogues of translated messages, as GNU gettext compiles them (`*.mo`): one text a message, its translation.

A catalogue is two tables of lengths and places, of the originals and of their translations, in the same order.
The original is kept as metadata, so that pairs can be made of it. Of a message with plural forms the last is
taken; the entry without an original is the catalogue's header and no text.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import IO

from pileline.sources.reading import Reading
from pileline.sources.record import MALFORMED, TOO_LONG, UNDECODABLE, Format, Record, decoded, found, unread, whole

_MAGIC = {b"\xde\x12\x04\x95": "<", b"\x95\x04\x12\xde": ">"}  # 0x950412de, in either order of bytes


def read_gettext(stream: IO[bytes], reading: Reading, _: str) -> Iterator[Record]:
    data = whole(stream, reading)
    if isinstance(data, int):
        yield unread(data, TOO_LONG)
        return
    order = _MAGIC.get(data[:4])
    pairs = None if order is None or len(data) < 20 else _tables(data, order)
    if pairs is None:
        yield unread(data, MALFORMED)
        return
    for (length, place), (translated, there) in zip(*pairs, strict=True):
        source, target = data[place : place + length], data[there : there + translated]
        if not length:
            continue
        if len(source) < length or len(target) < translated:
            yield unread(target, MALFORMED)
            continue
        text, original = decoded(target.rpartition(b"\0")[2], reading), decoded(source, reading)
        if text is None or original is None:
            yield unread(target, UNDECODABLE)
            continue
        context, _, message = original.rpartition("\4")
        named = {"original": message.split("\0")[0], "context": context}
        yield found(text, {name: value for name, value in named.items() if value})


def _tables(data: bytes, order: str) -> tuple[list[tuple[int, int]], list[tuple[int, int]]] | None:
    """Length and place of each original and of each translation; None if the file ends before them."""
    count, originals, translations = struct.unpack_from(f"{order}3I", data, 8)
    if max(originals, translations) + 8 * count > len(data):
        return None
    found = [[struct.unpack_from(f"{order}2I", data, start + 8 * n) for n in range(count)]
             for start in (originals, translations)]  # fmt: skip
    return found[0], found[1]  # type: ignore[return-value]


GETTEXT = Format(read_gettext)
