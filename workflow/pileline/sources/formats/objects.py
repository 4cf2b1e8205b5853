"""JSON: an object a line, or a member of many objects; the text of each is in a field."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import IO

from pileline.sources.formats.fields import object_record
from pileline.sources.reading import FIELDS, Reading
from pileline.sources.record import (
    MALFORMED,
    PASSED_OVER,
    TOO_LONG,
    UNDECODABLE,
    Format,
    Record,
    from_json,
    raw_lines,
    unread,
    whole_json,
)

_PLAIN = re.compile(r"[ !#-.0-\[\]-~]+")  # ASCII that JSON needs no escape for, and that nobody escapes by "\" alone
_ESCAPED = re.compile(rb"\\u00[2-7]")  # a letter of it written as \u0041 all the same


def read_jsonl(stream: IO[bytes], reading: Reading, _: str) -> Iterator[Record]:
    may_match = _prefilter(reading)
    for line in raw_lines(stream, reading):
        if isinstance(line, int):
            yield unread(line, TOO_LONG)
        elif may_match and not may_match(line):
            yield unread(line, PASSED_OVER)
        else:
            record = _from_line(line, reading)
            if record is not None:
                yield record


def _from_line(line: bytes, reading: Reading) -> Record | None:
    """A line's record; None for a blank line, which is no record."""
    try:
        text = line.decode(reading.encoding)
    except UnicodeDecodeError:
        return unread(line, UNDECODABLE)
    if not text or text.isspace():
        return None
    value = from_json(text)
    return unread(line, MALFORMED) if value is None else object_record(value, reading, len(line))


def _prefilter(reading: Reading) -> Callable[[bytes], bool] | None:
    """A test of a line's bytes that is false only where `where` cannot select the line's object.

    Many sources read one file, each a small share of it: most lines need not be parsed. A plain string can stand in
    JSON as it is or with letters escaped, so a line that has neither it nor such an escape does not hold it. A line
    that does not end as an object does is left to the parser, which says what is wrong with it.
    """
    tests = [
        [b'"' + value.encode() + b'"' for value in wanted]
        for wanted in reading.where.values()
        if all(isinstance(value, str) and _PLAIN.fullmatch(value) for value in wanted)
    ]
    if not tests:
        return None

    def may_match(line: bytes) -> bool:
        if all(any(value in line for value in wanted) for wanted in tests):
            return True
        return not line.endswith(b"}") or _ESCAPED.search(line) is not None

    return may_match


def read_json_records(stream: IO[bytes], reading: Reading, place: str) -> Iterator[Record]:
    value = whole_json(stream, reading, place)
    if isinstance(value, Record):
        yield value
        return
    for item in value.values() if isinstance(value, dict) else value:
        yield object_record(item, reading, 0)


JSONL = Format(read_jsonl, FIELDS, by_line=True)
JSON_RECORDS = Format(read_json_records, FIELDS)
