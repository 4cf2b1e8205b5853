"""JSON: an object a line, or a member of many objects; the text of each is in a field."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from pileline.sources.formats.fields import object_record
from pileline.sources.reading import FIELDS, Reading
from pileline.sources.record import (
    MALFORMED,
    TOO_LONG,
    UNDECODABLE,
    Format,
    Record,
    from_json,
    raw_lines,
    unread,
    whole_text,
)


def read_jsonl(stream: IO[bytes], reading: Reading, _: str) -> Iterator[Record]:
    for line in raw_lines(stream, reading):
        if isinstance(line, int):
            yield unread(line, TOO_LONG)
            continue
        try:
            text = line.decode(reading.encoding)
        except UnicodeDecodeError:
            yield unread(line, UNDECODABLE)
            continue
        if text and not text.isspace():  # a blank line between objects is no record
            value = from_json(text)
            yield unread(line, MALFORMED) if value is None else object_record(value, reading, len(line))


def read_json_records(stream: IO[bytes], reading: Reading, place: str) -> Iterator[Record]:
    text = whole_text(stream, reading, place)
    if isinstance(text, Record):
        yield text
        return
    value = from_json(text)
    if not isinstance(value, dict | list):
        yield unread(text.encode(), MALFORMED)
        return
    for item in value.values() if isinstance(value, dict) else value:
        yield object_record(item, reading, 0)


JSONL = Format(read_jsonl, FIELDS, by_line=True)
JSON_RECORDS = Format(read_json_records, FIELDS)
