"""Unicode repaired: mojibake decoded, entities and odd characters put right, letters composed.

SlimPajama's first step is `ftfy.fix_text(text, normalization="NFC")`, with all of ftfy's defaults (curly quotes
become straight, ligatures are taken apart, full-width letters narrowed, control characters dropped, line ends \\n).
So is this, to the byte. ftfy reads 1 to 2 MB/s, so lines of plain ASCII, which it provably leaves alone, pass it by.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import ftfy

# Tab, line feed and printable ASCII but "&", which may begin an entity: no rule of ftfy concerns any of these.
_PLAIN = re.compile(r"[\t\n -%'-~]*")
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
Form = Literal["NFC", "NFD", "NFKC", "NFKD"]


@dataclass(frozen=True)
class FixUnicode:
    """Rewrites text as ftfy does, in the normalization form `form`; removes nothing."""

    name: ClassVar[str] = "fix_unicode"
    form: Form = "NFC"

    def __post_init__(self) -> None:
        if self.form not in get_args(Form):
            raise ValueError(f"form '{self.form}' is none of {', '.join(get_args(Form))}")

    def apply(self, text: str) -> str:
        if _PLAIN.fullmatch(text):
            return text
        # ftfy works line by line and carries one thing along: after a "<" it takes entities for HTML and keeps them.
        config = ftfy.TextFixerConfig(normalization=self.form)
        fixed = []
        for line in _LINE.findall(text):
            fixed.append(line if _PLAIN.fullmatch(line) else ftfy.fix_text(line, config))
            if "<" in line:
                config = config._replace(unescape_html=False)
        return "".join(fixed)
