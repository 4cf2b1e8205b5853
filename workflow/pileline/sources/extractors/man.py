"""Manual pages in the `man` macros of roff (`*.1`, ...): one text a page, set as plain text (man(7), groff(7)).

Paragraphs are filled, each on one line; headings and the items of lists stand on lines of their own; examples keep
their lines. Comments, fonts, tables, equations, macros that the page defines and what stands under a condition are
left out. A page that only points to another (`.so`) has no text; one in the `mdoc` macros is not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO

from pileline.sources.reading import Reading
from pileline.sources.record import MALFORMED, MISSING, Format, Record, found, unread, whole_text

_ESCAPE = re.compile(
    r"\\(?:f(?:\(..|\[[^]]*\]|.)|s[-+]?(?:\d+|'[^']*')|[hvwNbCDLlo]'[^']*'|[nFgkmMVYz](?:\(..|\[[^]]*\]|.)"
    r"|\*?\((?P<two>..)|\*?\[(?P<name>[^]]*)\]|\*(?P<one>.)|(?P<other>.))"
)
_SIGNS = {"aq": "'", "dq": '"', "lq": "“", "rq": "”", "oq": "‘", "cq": "’", "em": "—", "en": "–", "hy": "-", "mi": "-",
          "bu": "•", "co": "©", "rg": "®", "tm": "™", "Tm": "™", "R": "®", "ti": "~", "ha": "^", "ga": "`", "rs": "\\",
          "ba": "|", "bv": "|", "mu": "×", "di": "÷", "<=": "≤", ">=": "≥", "!=": "≠", "+-": "±", "->": "→", "<-": "←",
          "de": "°", "12": "½", "sc": "§", "at": "@", "sh": "#", "Do": "$", "lB": "[", "rB": "]", "pl": "+", "eq": "=",
          "Fo": "«", "Fc": "»", "Aq": "'", "C'": "'", "``": "“", "''": "”"}  # fmt: skip
_OTHERS = {"-": "-", "e": "\\", "\\": "\\", " ": " ", "~": " ", "0": " ", "'": "´", "`": "`", ".": ".", "t": "\t"}
_FONTS = {"B": " ", "I": " ", "SM": " ", "SB": " "} | dict.fromkeys(("BR", "BI", "IB", "IR", "RB", "RI"), "")
_BREAKS = ("PP", "P", "LP", "HP", "SH", "SS", "TP", "TQ", "IP", "sp", "RS", "RE", "nf", "fi", "EX", "EE", "br", "ce")
_ENDS = {"de": "..", "ig": "..", "am": "..", "TS": ".TE", "EQ": ".EN", "PS": ".PE"}  # what is passed over, to where
_CONTINUED = re.compile(r"(?<!\\)((?:\\\\)*)\\\n")  # a line that goes on in the next
_ARGUMENT = re.compile(r'"((?:[^"]|"")*)"?|(\S+)')


def read_man(stream: IO[bytes], reading: Reading, place: str) -> Iterator[Record]:
    text = whole_text(stream, reading, place)
    if isinstance(text, Record):
        yield text
    elif re.search(r"^\.\s*TH\b", text, re.MULTILINE):
        yield found(_Page(text).plain())
    else:
        alias = re.match(r"(?:[.']\\\".*\n|\s)*\.so\b", text) is not None
        yield unread(text.encode(), MISSING if alias else MALFORMED)


class _Page:
    """The page as it grows: paragraphs that are done, and the lines of the one being filled."""

    def __init__(self, text: str) -> None:
        self.done: list[str] = []
        self.lines: list[str] = []
        self.verbatim = self.tag = False  # within an example; the next line is the label of an item
        self.until = ""  # passed over to this line
        self.depth = 0  # of braces under a condition
        for line in _CONTINUED.sub(r"\1", text).splitlines():
            self._line(line)

    def plain(self) -> str:
        self._end()
        return re.sub(r"\n{3,}", "\n\n", "\n\n".join(self.done)).strip()

    def _line(self, line: str) -> None:
        if self.until:
            self.until = "" if line.startswith(self.until) else self.until
        elif self.depth:
            self.depth += line.count("\\{") - line.count("\\}")
        elif line[:1] in (".", "'"):
            name, _, rest = line[1:].strip().partition(" ")
            self._request(name, re.sub(r'\s*\\".*', "", rest))
        else:
            self._text(line)

    def _request(self, name: str, rest: str) -> None:
        if name in _ENDS:
            self.until = _ENDS[name]
        elif name in ("if", "ie", "el", "while"):
            self.depth = rest.count("\\{") - rest.count("\\}")
        elif name in _FONTS:
            if shown := _arguments(rest):  # without, it is about the next line
                self._text(_FONTS[name].join(shown))
        elif name in ("UR", "MT"):
            self._text(rest)
        elif name in _BREAKS:
            self._end(tight=name in ("br", "TQ"))
            self.verbatim = name in ("nf", "EX") or (self.verbatim and name not in ("fi", "EE", "SH", "SS"))
            self.tag = name in ("TP", "TQ")
            if name in ("SH", "SS", "IP") and (shown := _arguments(rest)):
                self._label(" ".join(shown) if name != "IP" else shown[0])

    def _label(self, text: str) -> None:
        if label := _plain(text).strip():
            self.lines = [label + "\n"]

    def _text(self, line: str) -> None:
        if self.tag:
            self.tag = False
            self._label(line)
        elif self.verbatim:
            self.lines.append(_plain(line) + "\n")
        elif line.strip():
            self.lines.append(_plain(line).strip())
        else:
            self._end()

    def _end(self, tight: bool = False) -> None:
        """The paragraph is done, or (tight) its line."""
        if tight and self.lines:
            self.lines[-1] += "\n"
        elif not tight:
            filled = re.sub(r"\n ", "\n", " ".join(filter(None, self.lines)))
            text = "".join(self.lines) if self.verbatim else filled
            self.done.append(text.strip("\n"))
            self.lines = []


def _arguments(rest: str) -> list[str]:
    return [quoted.replace('""', '"') or bare for quoted, bare in _ARGUMENT.findall(rest)]


def _plain(line: str) -> str:
    """The line without escapes: signs by their names, others for themselves, fonts and sizes for nothing."""

    def sign(match: re.Match[str]) -> str:
        name = match["two"] or match["name"] or match["one"]
        return _SIGNS.get(name, "") if name else _OTHERS.get(match["other"] or "", "")

    return _ESCAPE.sub(sign, re.sub(r'\\".*', "", line))


MAN = Format(read_man)
