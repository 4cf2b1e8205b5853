"""Formats: how the texts of a member are told from what surrounds them.

A format gives records, one a text, in the member's order:

    text                one text, the whole member
    lines               one text a line
    jsonl               one JSON object a line, its text in a field
    json_records        a JSON list of objects, or an object of objects, the text of each in a field
    csv, tsv            one text a row, in a column; fields may hold line ends where they are quoted
    parquet, arrow      one text a row, in a column; Arrow's files and streams
    html                one text, the page as it is seen
    yaml_conversations  ChatterBot's YAML: a member's conversations are one text, a turn a line, blank lines between
    rated_snippets      lines of id, rating and sentence, parted by tabs; the sentences of a review ("7_1", "7_2", ...)
                        are one text, joined by blanks

and those of `extractors`, each for the files of one package. Bytes are counted of texts, in UTF-8. The syntax around
them (line ends between texts, JSON's quotes, ratings) is not text. What should be a text and cannot be read is a
record with a reason, never an exception. `record.py` says how a format is made.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from pileline.sources.extractors import EXTRACTORS
from pileline.sources.formats.conversations import YAML_CONVERSATIONS
from pileline.sources.formats.delimited import CSV, TSV
from pileline.sources.formats.html import HTML
from pileline.sources.formats.objects import JSON_RECORDS, JSONL
from pileline.sources.formats.plain import LINES, TEXT
from pileline.sources.formats.snippets import RATED_SNIPPETS
from pileline.sources.formats.tables import ARROW, PARQUET
from pileline.sources.reading import Reading
from pileline.sources.record import MALFORMED, MISSING, NUL, TOO_LONG, UNDECODABLE, Format, Record

__all__ = [
    "FORMATS",
    "MALFORMED",
    "MISSING",
    "NUL",
    "TOO_LONG",
    "UNDECODABLE",
    "Format",
    "Record",
    "records",
]

FORMATS: dict[str, Format] = {
    "text": TEXT,
    "lines": LINES,
    "jsonl": JSONL,
    "json_records": JSON_RECORDS,
    "csv": CSV,
    "tsv": TSV,
    "parquet": PARQUET,
    "arrow": ARROW,
    "html": HTML,
    "yaml_conversations": YAML_CONVERSATIONS,
    "rated_snippets": RATED_SNIPPETS,
    **EXTRACTORS,
}


def records(stream: IO[bytes], reading: Reading, place: str) -> Iterator[Record]:
    """The records of one member. `place` names it in errors. Raises `SourceError` if it is not of the format."""
    yield from FORMATS[reading.format].read(stream, reading, place)
