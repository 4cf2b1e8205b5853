"""Short pieces, many to a file.

poems     a JSON list of objects (or one object) with a list of lines each, in the field that `text` names: one text
          a poem, a line a line. `metadata` names fields to keep, such as title and author.
fortunes  pieces parted by lines of "%", as the program fortune reads them: one text a piece. Colours for a terminal
          are left out, as is overprinting (a character, a backspace, the character again).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import IO, Any

from pileline.sources.extractors.pieces import pieces
from pileline.sources.reading import Reading
from pileline.sources.record import MISSING, Format, Record, found, whole_json

_TERMINAL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|.\x08|[\x0e\x0f]")


def read_poems(stream: IO[bytes], reading: Reading, place: str) -> Iterator[Record]:
    value = whole_json(stream, reading, place)
    if isinstance(value, Record):
        yield value
        return
    for poem in value if isinstance(value, list) else [value]:
        yield _poem(poem, reading)


def _poem(poem: Any, reading: Reading) -> Record:
    verse = poem.get(reading.text) if isinstance(poem, dict) else None
    if not isinstance(verse, list) or not all(isinstance(line, str) for line in verse):
        return Record("", len(json.dumps(poem, ensure_ascii=False).encode("utf-8", "replace")), {}, MISSING)
    return found("\n".join(verse), {name: poem[name] for name in reading.metadata if poem.get(name) is not None})


def read_fortunes(stream: IO[bytes], reading: Reading, _: str) -> Iterator[Record]:
    for piece in pieces(stream, reading, lambda _, line: line.rstrip() == "%"):
        if isinstance(piece, Record):
            yield piece
            continue
        shown = piece[1:] if piece[0].rstrip() == "%" else piece
        text = "\n".join(_TERMINAL.sub("", line).rstrip() for line in shown).strip("\n")
        if text:
            yield found(text)


POEMS = Format(read_poems, {"text": "paragraphs", "metadata": []})
FORTUNES = Format(read_fortunes, by_line=True)
