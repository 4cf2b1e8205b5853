"""Manuals in reStructuredText (`*.rst`), of docutils or Sphinx: one text a file, its markup lightly taken off.

Paragraphs, headings, signatures and code are kept. Underlines, comments, targets, the options of directives, and
directives with nothing to read in them (`index`, `toctree`, `image`, ...) are left out with what they enclose; roles,
links and emphasis leave the text that they show.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO

from pileline.sources.reading import Reading
from pileline.sources.record import Format, Record, found, whole_text

_UNREAD = {"index", "toctree", "image", "figure", "include", "literalinclude", "raw", "sectionauthor", "moduleauthor",
           "highlight", "currentmodule", "module", "tabularcolumns", "testsetup", "testcleanup", "contents", "meta",
           "only", "role", "default-role", "graphviz", "highlightlang", "audit-event-table", "audit-event"}  # fmt: skip
_CODE = {"code", "code-block", "sourcecode", "doctest", "testcode", "testoutput", "productionlist", "parsed-literal"}
_SAID = {"versionadded": "New in version", "versionchanged": "Changed in version", "deprecated": "Deprecated since"}
_VERSION = re.compile(r"[\d.]+(?:\S*)$")
_DIRECTIVE = re.compile(r"([\w:.+-]+)::(?:\s+(.*))?$")
_EXPLICIT = re.compile(r"(\s*)\.\.(?:\s+(.*))?$")
_FOOTNOTE = re.compile(r"\[[#*\w]+\]\s")
_RULE = re.compile(r"\s*([=\-~^\"'*+#`:.<>_])\1{2,}[=\-~^\"'*+#`:.<>_+ ]*$|\s*\+[-=+]{3,}\+\s*$")
_OPTION = re.compile(r"\s+:[\w-]+:(?:\s|$)")
_INLINE = re.compile(
    r"``(?P<code>.+?)``(?!`)|:(?P<role>[\w:+-]+):`(?P<content>[^`]*)`|`(?P<link>[^`]+)`(?:__?)?"
    r"|(?<![\w*])\*\*(?P<strong>\S(?:.*?\S)??)\*\*(?![\w*])|(?<![\w*])\*(?P<emphasis>\S(?:[^*]*\S)?)\*(?![\w*])"
    r"|\\(?P<escaped>.)",
    re.DOTALL,
)
_TITLE = re.compile(r"(.*?)\s*<[^<>]*>$", re.DOTALL)  # "text <target>"


def read_rst(stream: IO[bytes], reading: Reading, place: str) -> Iterator[Record]:
    text = whole_text(stream, reading, place)
    yield text if isinstance(text, Record) else found(plain(text))


def plain(text: str) -> str:
    """The text without its markup."""
    paragraphs: list[str] = []
    for is_code, lines in _blocks(text):
        paragraph = "\n".join(lines)
        is_code = is_code or lines[0].lstrip().startswith(">>>")
        paragraphs.append(paragraph if is_code else _INLINE.sub(_shown, paragraph))
    return "\n\n".join(filter(str.strip, paragraphs))


def _shown(markup: re.Match[str]) -> str:
    """The text that a piece of inline markup shows."""
    if markup["escaped"] is not None:
        return "" if markup["escaped"].isspace() else markup["escaped"]
    if markup["role"] is None:
        text = markup["code"] or markup["strong"] or markup["emphasis"]
        return text or _TITLE.sub(r"\1", markup["link"])
    content = markup["content"]
    if markup["role"] in ("pep", "rfc"):
        return f"{markup['role'].upper()} {content.partition('#')[0]}"
    if content.startswith("~"):  # the last name of a dotted one
        return content.rpartition(".")[2].lstrip("~")
    return _TITLE.sub(r"\1", content.lstrip("!."))


def _blocks(text: str) -> Iterator[tuple[bool, list[str]]]:
    """The lines between two blank ones that are to be read, and whether they are code."""
    block: list[str] = []
    passed = code = -1  # the column that ends a block which is passed over, and one of code
    announced = options = -1  # the column beyond which code may follow, and options of a directive
    for line in [*text.expandtabs().splitlines(), ""]:
        column = len(line) - len(line.lstrip())
        if not line.strip():
            if block:
                yield code >= 0, block
            block, options = [], -1
            continue
        if 0 <= passed < column or (0 <= options < column and _OPTION.match(line)):
            continue
        if announced >= 0 and not block:
            code, announced = (announced if column > announced else -1), -1
        if 0 <= code < column:
            block.append(line)
            continue
        if code >= 0 and block:
            yield True, block
            block = []
        passed = code = -1
        if explicit := _EXPLICIT.match(line):
            shown, follows = _explicit(explicit.group(2) or "")
            passed, announced = (column if follows == "passed" else -1), (column if follows == "code" else -1)
            options, line = column, " " * column + shown if shown else ""
        elif line.rstrip().endswith("::"):
            announced, line = column, re.sub(r"(?:^|\s)\s*:$", "", line.rstrip()[:-1])
        if line.strip() and not _RULE.match(line):
            block.append(line)


def _explicit(markup: str) -> tuple[str, str]:
    """What is to be read of what follows ".. ", and what its block is: "text", "code" or "passed" over."""
    if _FOOTNOTE.match(markup):
        return markup, "text"
    directive = _DIRECTIVE.match(markup)
    if directive is None or directive.group(1) in _UNREAD or markup.startswith("|"):
        return "", "passed"  # a comment, a target, or a directive without words
    name, argument = directive.group(1), directive.group(2) or ""
    if name in _CODE:
        return "", "code"
    if name in _SAID:
        return f"{_SAID[name]} {argument}" + ("." if _VERSION.match(argument) else ""), "text"
    return argument, "text"


RST = Format(read_rst)
