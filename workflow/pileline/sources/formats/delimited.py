"""Tables as text (csv, tsv): a record a row, its text in a column. Fields may hold line ends where they are quoted.

Read as RFC 4180 says and no looser: a quote that is never closed is noticed where the file, or `member_mb`, ends,
instead of hiding the rest of the file in one field.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import IO

from pileline.sources.errors import SourceError
from pileline.sources.formats.fields import object_record
from pileline.sources.reading import FIELDS, Reading
from pileline.sources.record import MALFORMED, TOO_LONG, Format, Record, is_utf8, unread
from pileline.sources.streams import MEGABYTE

_BLOCK = MEGABYTE


def read_delimited(stream: IO[bytes], reading: Reading, place: str) -> Iterator[Record]:
    encoding = "utf-8-sig" if is_utf8(reading) else reading.encoding
    decoded = io.TextIOWrapper(stream, encoding, errors="surrogateescape", newline="")  # type: ignore[type-var]
    try:
        yield from _rows(decoded, replace(reading, where=_written(reading)), place)
    except UnicodeError as error:  # only of encodings of more than one byte a character
        raise SourceError(f"{place}: is not in encoding {reading.encoding} ({error}); mend `encoding`") from error
    finally:
        decoded.detach()


def _written(reading: Reading) -> dict[str, tuple[str, ...]]:
    """`where`, with its values as they stand in a text."""
    return {name: tuple("" if value is None else str(value) for value in some) for name, some in reading.where.items()}


class _Lines(Iterator[str]):
    """The lines of a text, none longer than `most` characters, those of the record that is read kept to be counted."""

    def __init__(self, text: io.TextIOWrapper, most: int, quote: str | None) -> None:
        self._text, self._most, self._quote = text, most, quote
        self.begin()

    def begin(self) -> None:
        """A record begins."""
        self._held: list[str] = []
        self._passed, self._quotes = 0, 0  # bytes and quotes of what is no longer held

    @property
    def size(self) -> int:
        """The bytes of the record."""
        return self._passed + _bytes("".join(self._held))

    def __next__(self) -> str:
        line = self._text.readline(self._most)
        if not line:
            raise StopIteration
        self._held.append(line)
        if len(line) == self._most:
            while line and not line.endswith(("\n", "\r")):
                line = self._pass()
            raise csv.Error("field larger than field limit")  # as the reader says of a field in several lines
        return line

    def pass_over(self) -> None:
        """Read to the end of a record that is too long: while quotes are open, it goes on in the next line."""
        if self._quote is not None:
            self._quotes += sum(line.count(self._quote) for line in self._held)
            while self._quotes % 2 and self._pass():
                pass

    def _pass(self) -> str:
        line = self._text.readline(_BLOCK)
        self._passed += _bytes(line)
        self._quotes += line.count(self._quote) if self._quote is not None else 0
        return line


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogateescape"))


def _rows(text: io.TextIOWrapper, reading: Reading, place: str) -> Iterator[Record]:
    most, quote, header = reading.member_mb * MEGABYTE, reading.options["quote"], reading.options["header"]
    csv.field_size_limit(most)
    lines = _Lines(text, most, quote)
    rows = csv.reader(
        lines,
        delimiter=reading.options["delimiter"],
        quotechar=quote,
        quoting=csv.QUOTE_NONE if quote is None else csv.QUOTE_MINIMAL,
        strict=True,
    )
    names = None if header is True else list(header)
    if names:
        _check(names, reading, place)
    while True:
        lines.begin()
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            too_long = "field limit" in str(error)
            if too_long:
                lines.pass_over()
            yield unread(lines.size, TOO_LONG if too_long else MALFORMED)
            continue
        if names is None:
            names = row
            _check(names, reading, place)
        elif row:  # an empty line is no record
            fits = len(row) == len(names)
            record = object_record(dict(zip(names, row, strict=False)), reading, -1) if fits else unread(-1, MALFORMED)
            yield record if record.size >= 0 else record._replace(size=lines.size)  # counted where there is no text


def _check(names: list[str], reading: Reading, place: str) -> None:
    counts = Counter(names)
    for name in (reading.text, *reading.metadata, *reading.where):
        if counts[name] != 1:
            what = "more than one column" if counts[name] else "no column"
            raise SourceError(
                f"{place}: has {what} '{name}'; its first line names: {', '.join(names)[:500]}. Mend `text`, "
                "`metadata` or `where` in the source's `read` block, or give the columns' names as `header`"
            )


CSV = Format(read_delimited, FIELDS | {"delimiter": ",", "quote": '"', "header": True})
TSV = Format(read_delimited, FIELDS | {"delimiter": "\t", "quote": None, "header": True})
