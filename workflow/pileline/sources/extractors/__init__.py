"""Extractors: formats for the files of known packages, one module a family.

    dictd, wordnet      dictionaries, one text an entry
    gettext             catalogues of translations, one text a message
    poems, fortunes     short pieces, many to a file
    mail                a message's body
    man, pod, rst       manuals without their markup, one text a page
    metamath            what a database of proofs says in words, one text a comment
    r_data              character vectors of an R package, one text a vector
    sword               Bibles, one text a chapter
    tagged_words        prose whose words carry tags, one text a member

Each module says what of a file is text, and what is left out.
"""

from __future__ import annotations

from pileline.sources.extractors.dictionaries import DICTD, WORDNET
from pileline.sources.extractors.gettext import GETTEXT
from pileline.sources.extractors.mail import MAIL
from pileline.sources.extractors.man import MAN
from pileline.sources.extractors.metamath import METAMATH
from pileline.sources.extractors.pod import POD
from pileline.sources.extractors.rdata import R_DATA
from pileline.sources.extractors.rst import RST
from pileline.sources.extractors.sword import SWORD
from pileline.sources.extractors.tagged import TAGGED_WORDS
from pileline.sources.extractors.verses import FORTUNES, POEMS
from pileline.sources.record import Format

EXTRACTORS: dict[str, Format] = {
    "dictd": DICTD,
    "wordnet": WORDNET,
    "gettext": GETTEXT,
    "poems": POEMS,
    "fortunes": FORTUNES,
    "mail": MAIL,
    "man": MAN,
    "pod": POD,
    "rst": RST,
    "metamath": METAMATH,
    "r_data": R_DATA,
    "sword": SWORD,
    "tagged_words": TAGGED_WORDS,
}

__all__ = ["EXTRACTORS"]
