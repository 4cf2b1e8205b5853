"""HTML: the visible text of a page, a block a line, with blank lines between paragraphs.

Resiliparse reads pages as browsers do, so broken markup and tags nested without end are text like any other, and it
does so about thirty times faster than Beautiful Soup. Scripts, styles and navigation are no text. The encoding is
what a byte-order mark or the page itself says, else the one of the settings.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import IO

import webencodings  # type: ignore[import-untyped]
from bs4.dammit import EncodingDetector
from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.html import HTMLTree

from pileline.sources.reading import Reading
from pileline.sources.record import TOO_LONG, UNDECODABLE, Format, Record, found, unread, whole

SKIPPED = ["script", "style", "nav", "template", "svg"]
DECLARED = 4096  # bytes at the beginning of a page in which its encoding is looked for
DEEPEST = 20  # lists in lists
_LIST = re.compile(r"<(/?)[ou]l\b", re.IGNORECASE)
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


def read_html(stream: IO[bytes], reading: Reading, _: str) -> Iterator[Record]:
    data = whole(stream, reading)
    if isinstance(data, int):
        yield unread(data, TOO_LONG)
        return
    page = _decoded(data, reading)
    if page is None:
        yield unread(data, UNDECODABLE)
        return
    tree = HTMLTree.parse(_shallow(page))
    text = extract_plain_text(
        tree, preserve_formatting=True, main_content=reading.options["main_content"], skip_elements=SKIPPED
    )
    yield found(text, {"title": tree.title} if tree.title else {})


def _shallow(page: str) -> str:
    """The page; without its lists, if they lie so deep in each other that to indent them would fill the memory."""
    depth = deepest = 0
    for tag in _LIST.finditer(page):
        depth = max(0, depth - 1) if tag[1] else depth + 1
        deepest = max(deepest, depth)
    return page if deepest <= DEEPEST else _LIST.sub(r"<\1div", page)


def _decoded(data: bytes, reading: Reading) -> str | None:
    """The page as text; None if it is not in the encoding that it states."""
    for mark, name in _MARKS:
        if data.startswith(mark):
            data, codec = data.removeprefix(mark), codecs.lookup(name)
            break
    else:
        declared = EncodingDetector.find_declared_encoding(data[:DECLARED], is_html=True, search_entire_document=True)
        known = webencodings.lookup(declared or "")  # names as browsers know them: latin1 is windows-1252
        if known and known.name.startswith("utf-16"):
            known = webencodings.UTF8  # a page whose declaration can be read so is not in UTF-16
        codec = known.codec_info if known else codecs.lookup(reading.encoding)
    try:
        return str(codec.decode(data, "strict")[0])
    except UnicodeDecodeError:
        return None


HTML = Format(read_html, {"main_content": False})
