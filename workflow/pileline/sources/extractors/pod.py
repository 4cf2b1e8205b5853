"""Perl's manuals (`*.pod`): one text a page, its markup left out (perlpod, perlpodspec).

Headings, items and paragraphs are kept, as are verbatim ones, which are indented. Formatting codes leave what they
enclose (`C<x>`), links the text that they show, index entries nothing; blocks for other programs (`=begin html`) go.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import IO

from pileline.sources.reading import Reading
from pileline.sources.record import MALFORMED, Format, Record, found, unread, whole_text

_COMMAND = re.compile(r"=([a-z]+\d?)\b[ \t]*(.*)", re.DOTALL)
_CODE = re.compile(r"(?P<open>[A-Z](?:<{2,}\s+|<))|(?P<close>\s+>{2,}|>)")
_KEPT = ("head1", "head2", "head3", "head4", "head5", "head6", "item")


def read_pod(stream: IO[bytes], reading: Reading, place: str) -> Iterator[Record]:
    text = whole_text(stream, reading, place)
    if isinstance(text, Record):
        yield text
        return
    kept, inside, foreign = [], False, False  # inside the manual; inside a block for another program
    for paragraph in re.split(r"\n[ \t]*\n", text.replace("\r\n", "\n")):
        paragraph = paragraph.strip("\n")
        command = _COMMAND.match(paragraph)
        if command:
            inside = command.group(1) != "cut"
            foreign = command.group(1) == "begin" or (foreign and command.group(1) != "end")
            paragraph = command.group(2) if command.group(1) in _KEPT else ""
        if inside and not foreign:
            kept.append(paragraph.rstrip() if paragraph[:1].isspace() else plain(paragraph))
    joined = re.sub(r"^\*\n\n(?=\S)", "* ", "\n\n".join(filter(str.strip, kept)), flags=re.MULTILINE)
    yield found(joined) if joined else unread(text.encode(), MALFORMED)


def plain(paragraph: str) -> str:
    """A paragraph without its formatting codes, which nest: "B<a C<b>>", "C<<< a >> b >>>"."""
    levels, place = [("", "", [])], 0  # type: list[tuple[str, str, list[str]]], int
    for match in _CODE.finditer(paragraph):
        levels[-1][2].append(paragraph[place : match.start()])
        place = match.end()
        if match["open"]:
            levels.append((match.group()[0], ">" * match.group().count("<"), []))
        elif len(levels) > 1 and match.group().strip() == levels[-1][1]:
            code, _, parts = levels.pop()
            levels[-1][2].append(_shown(code, "".join(parts)))
        else:
            levels[-1][2].append(match.group())
    levels[-1][2].append(paragraph[place:])
    return " ".join("".join(part for _, _, parts in levels for part in parts).split())


def _shown(code: str, content: str) -> str:
    if code in "XZ":
        return ""
    if code == "E":
        return {"verbar": "|", "sol": "/"}.get(content) or html.unescape(f"&{content};")
    if code == "L":
        shown, bar, target = content.rpartition("|")
        return shown if bar else target.replace('"', "").strip("/").replace("/", ", ")
    return content


POD = Format(read_pod)
