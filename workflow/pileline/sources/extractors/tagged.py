"""Text whose words carry tags, as the Brown corpus has it ("The/at jury/nn said/vbd ./."): one text a member.

Tags are left out and the words set as prose: quotation marks for `` and '', no blank before what closes and after
what opens. Blank lines part paragraphs; other line ends are blanks. Of signs that the corpus writes twice ("?/. ?/.")
one is kept.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import IO

from pileline.sources.reading import Reading
from pileline.sources.record import MALFORMED, Format, Record, found, unread, whole_text

_BEFORE = re.compile(r" (?=(?:[,.;:?!)\]}]|'')+(?: |$))")  # the blank before what closes
_TWICE = (";", "?", "!")
_AFTER = re.compile(r"(?:(?<=^)|(?<= ))((?:[(\[{]|``)+) ")  # the blank after what opens


def read_tagged_words(stream: IO[bytes], reading: Reading, place: str) -> Iterator[Record]:
    text = whole_text(stream, reading, place)
    if isinstance(text, Record):
        yield text
        return
    paragraphs, untagged = [], 0
    for paragraph in re.split(r"\n\s*\n", text):
        tokens = [token.rpartition("/") for token in paragraph.split()]
        untagged += sum(not word for word, _, _ in tokens)
        words = [word or rest for word, _, rest in tokens]
        paragraphs.append(
            _prose([word for word, after in itertools.pairwise([*words, ""]) if word != after or word not in _TWICE])
        )
    joined = "\n\n".join(filter(None, paragraphs))
    if 2 * untagged > max(1, len(text.split())):
        yield unread(text.encode(), MALFORMED)  # most words have no tag: it is another kind of file
    else:
        yield found(joined)


def _prose(words: list[str]) -> str:
    line = _AFTER.sub(r"\1", _BEFORE.sub("", " ".join(words)))
    return line.replace("``", '"').replace("''", '"')


TAGGED_WORDS = Format(read_tagged_words)
