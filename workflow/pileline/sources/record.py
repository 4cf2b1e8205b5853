"""What a format gives and what it is made of: records, the reasons why one has no text, and lines in bounded memory.

A format is a `Format`: a reader from a member's byte stream to records, and the settings that it has beyond those
that every format has. `formats.FORMATS` names them all. To add one, write

    def read(stream: IO[bytes], reading: Reading, place: str) -> Iterator[Record]: ...
    FORMAT = Format(read, {"gender": "any"})  # a setting with its default; the reader finds it in reading.options

`place` names the member in errors. What should be a text and cannot be read is a record with a reason, never an
exception and never silence; a `SourceError` is raised only where the whole member cannot be what the settings say.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from pileline.sources.errors import SourceError
from pileline.sources.streams import MEGABYTE

if TYPE_CHECKING:
    from pileline.sources.reading import Reading

UNDECODABLE = "undecodable"  # the bytes are not in the encoding, or the text is not valid Unicode
MALFORMED = "malformed"  # the syntax is not the format's
MISSING = "no text"  # a record without the field that should have its text, or with something else in it
TOO_LONG = "too long"  # beyond `member_mb`
NUL = "NUL characters"  # not text: binary data, or text in another encoding
PASSED_OVER = "passed over"  # another source's record, which `where` does not select: never a document of this one

_BLOCK = MEGABYTE


class Record(NamedTuple):
    """A text with its metadata, or the `reason` why there is none; `size` in bytes, of the text or its stand-in."""

    text: str
    size: int
    metadata: dict[str, Any]
    reason: str | None = None


Reader = Callable[[IO[bytes], "Reading", str], Iterator[Record]]


@dataclass(frozen=True)
class Format:
    """How a kind of file is read. `settings` are those of its own, with their defaults."""

    read: Reader
    settings: Mapping[str, Any] = field(default_factory=dict)
    by_line: bool = False  # whether it finds line ends in the bytes, before they are decoded


def found(text: str, metadata: dict[str, Any] | None = None) -> Record:
    """The record of a text. One that is not valid Unicode or has NUL characters in it gets its reason."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:  # JSON can escape half a surrogate pair, which is no character
        return unread(text.encode("utf-8", "surrogatepass"), UNDECODABLE)
    if "\0" in text:
        return Record(text, size, metadata or {}, NUL)
    return Record(text, size, metadata or {})


def found_bytes(data: bytes, reading: Reading, metadata: dict[str, Any] | None = None) -> Record:
    """The record of a text that stands as bytes in the encoding of the settings."""
    try:
        return found(data.decode(reading.encoding), metadata)
    except UnicodeDecodeError:
        return unread(data, UNDECODABLE)


def unread(data: bytes | int, reason: str) -> Record:
    """The record that stands for these bytes (or so many), which are no text."""
    return Record("", data if isinstance(data, int) else len(data), {}, reason)


def whole(stream: IO[bytes], reading: Reading) -> bytes | int:
    """All bytes of a member; only their number if that is beyond `member_mb`."""
    most, size = reading.member_mb * MEGABYTE, 0
    pieces: list[bytes] = []
    while data := stream.read(_BLOCK):
        size += len(data)
        if size > most:
            pieces.clear()
        else:
            pieces.append(data)
    return b"".join(pieces) if size <= most else size


def whole_text(stream: IO[bytes], reading: Reading, place: str) -> str | Record:
    """A member of many records as one text, or the record of why it is none. `SourceError` beyond `member_mb`."""
    data = whole(stream, reading)
    if isinstance(data, int):
        raise SourceError(
            f"{place}: is longer than {reading.member_mb} MB; raise `member_mb` in the source's `read` block, "
            "if there is memory for it, or use a format by lines"
        )
    text = decoded(data, reading)
    return unread(data, UNDECODABLE) if text is None else text


def whole_json(stream: IO[bytes], reading: Reading, place: str) -> dict[str, Any] | list[Any] | Record:
    """The JSON object or list that the member is, or the record of why it is none."""
    text = whole_text(stream, reading, place)
    if isinstance(text, Record):
        return text
    value = from_json(text)
    return value if isinstance(value, dict | list) else unread(text.encode(), MALFORMED)


def decoded(data: bytes, reading: Reading) -> str | None:
    """The bytes as text, without a byte-order mark; None if they are not in the encoding."""
    try:
        return data.removeprefix(codecs.BOM_UTF8 if is_utf8(reading) else b"").decode(reading.encoding)
    except UnicodeDecodeError:
        return None


def is_utf8(reading: Reading) -> bool:
    return codecs.lookup(reading.encoding).name == "utf-8"


def raw_lines(stream: IO[bytes], reading: Reading) -> Iterator[bytes | int]:
    """Each line without its end; of a line beyond `member_mb` only the number of its bytes."""
    most, first = reading.member_mb * MEGABYTE, is_utf8(reading)
    while line := stream.readline(most + 1):
        if len(line) > most and not line.endswith(b"\n"):
            yield _passed(stream, len(line))
            first = False
            continue
        line = line.removesuffix(b"\n").removesuffix(b"\r")
        if first:
            line, first = line.removeprefix(codecs.BOM_UTF8), False
        yield line


def _passed(stream: IO[bytes], size: int) -> int:
    """The bytes of a line of which `size` are read, once the rest is passed over."""
    while part := stream.readline(_BLOCK):
        size += len(part)
        if part.endswith(b"\n"):
            return size - 1
    return size


def lines(stream: IO[bytes], reading: Reading) -> Iterator[str | Record]:
    """Each line's text, or the record of why it has none."""
    for line in raw_lines(stream, reading):
        if isinstance(line, int):
            yield unread(line, TOO_LONG)
            continue
        try:
            yield line.decode(reading.encoding)
        except UnicodeDecodeError:
            yield unread(line, UNDECODABLE)


def from_json(text: str | bytes) -> Any:
    """The JSON value; None if the text is not JSON, is nested too deep, or is `null`."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
