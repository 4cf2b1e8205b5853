"""Unicode repaired: mojibake decoded, entities and odd characters put right, letters composed.

SlimPajama's first step is `ftfy.fix_text(text, normalization="NFC")`, with all of ftfy's defaults (curly quotes
become straight, ligatures are taken apart, full-width letters narrowed, control characters dropped, line ends \\n).
So is this, to the byte. But ftfy reads 1 to 2 MB/s, so whatever it provably treats character by character is treated
so here, and only the rest is given to it, line by line. ftfy's repair of mojibake and entities leaves a text alone if

- it has no "&", control character, lone surrogate or line end other than \\n and \\r\\n, and
- its expression for bad sequences finds nothing. Each of that expression's alternatives needs two neighbours among
  the characters that it names, or one of few that are bad alone, so that mostly there is nowhere to look.

What is left of ftfy then is a table of single characters, and the normalization.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal, get_args

import ftfy
from ftfy import badness, chardata, fixes

from pileline import documents

# Tab, line feed and printable ASCII but "&", which may begin an entity: no rule of ftfy concerns any of these.
_PLAIN = re.compile(r"[\t\n -%'-~]*")
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_REACH = 6  # characters around two suspicious ones that a bad sequence may reach to
_AT_ONCE = 1_000_000  # characters; ftfy cuts longer lines
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
        if (fixed := _by_character(text, self.form)) is not None:
            return fixed
        text = documents.marks_in_order(text)
        # ftfy works line by line and carries one thing along: after a "<" it takes entities for HTML and keeps them.
        config = ftfy.TextFixerConfig(normalization=self.form, explain=False)
        lines = []
        for line in _LINE.findall(text):
            fixed = _by_character(line, self.form)
            lines.append(ftfy.fix_text(line, config) if fixed is None else fixed)
            if "<" in line:
                config = config._replace(unescape_html=False)
        return "".join(lines)


def _by_character(text: str, form: Form) -> str | None:
    """What ftfy makes of the text, if that is so much as replacing single characters; else None."""
    if _PLAIN.fullmatch(text):
        return text
    single, replaced, others, suspicious = _tables()
    if len(text) > _AT_ONCE or others.search(text) or _may_be_bad(text, suspicious):
        return None
    fixed = documents.normalize(form, single.sub(replaced, text))
    if fixed == text:
        return text
    # ftfy begins again until nothing changes, so the result must be one that it leaves alone.
    again = documents.normalize(form, single.sub(replaced, fixed))
    return None if again != fixed or others.search(fixed) or _may_be_bad(fixed, suspicious) else fixed


def _may_be_bad(text: str, suspicious: re.Pattern[str]) -> bool:
    """Whether ftfy may see mojibake; where this is false, it does not."""
    for found in suspicious.finditer(text):
        # Some sequences are bad at the beginning of a line alone: a window that reaches it begins there.
        reach = max(0, found.start() - _REACH)
        start = max(text.rfind("\n", reach, found.start()) + 1, reach)
        if badness.is_bad(text[start : found.end() + _REACH]):
            return True
    return False


@lru_cache(maxsize=1)
def _tables() -> tuple[re.Pattern[str], Callable[[re.Match[str]], str], re.Pattern[str], re.Pattern[str]]:
    """From ftfy's own tables: expressions for characters that it replaces, with the function that does, for those
    that need ftfy itself, and for suspicious neighbours."""
    table = {}
    for letter in map(chr, {*chardata.LIGATURES, *chardata.WIDTH_MAP, 0x2BC, *range(0x2018, 0x2020)}):
        table[letter] = fixes.uncurl_quotes(fixes.fix_character_width(fixes.fix_latin_ligatures(letter)))
    single = f"\r\n|{_class(set(table))}"
    table["\r\n"] = "\n"
    others = {
        "&",
        "＆",
        "\x85",
        "\u2028",
        "\u2029",
        *map(chr, range(0x7F, 0xA0)),
        *map(chr, range(0xD800, 0xE000)),
    }
    others |= {chr(code) for code in chardata.CONTROL_CHARS} - {"\t", "\n", "\r"}
    pattern = badness.BADNESS_RE.pattern
    named = {letter for letter in pattern if letter > "\x7f"} | {"\xa0", "\xad"}
    for first, last in re.findall("([^\0-\x7f])-([^\0-\x7f])", pattern):
        named |= set(map(chr, range(ord(first), ord(last) + 1)))
    neighbours = _class(named)
    return (
        re.compile(single),
        lambda found: table[found[0]],
        re.compile(f"\r(?!\n)|{_class(others)}"),
        re.compile(f"{neighbours}{{2,}}|[\x80-\x9fŒœÂÃ]"),
    )


def _class(letters: set[str]) -> str:
    return f"[{''.join(map(re.escape, sorted(letters)))}]"
