"""HTML made harmless: what is not on the list of allowed elements and attributes does not come through.

An executed notebook holds whatever its stages printed, and stages print text from the network. Its HTML is
parsed and written anew from allowed parts: text escaped, attributes quoted, no script, style sheet, frame, form or
handler, no reference that a browser would load. Pages forbid the same by a content security policy; either
alone would do.
"""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser

_TEXT = """a abbr b blockquote br caption code col colgroup dd del details div dl dt em figcaption figure h1 h2 h3 h4 h5
h6 hr i img input kbd li mark ol p pre q s samp section small span strong sub summary sup table tbody td tfoot th thead
tr u ul var"""
_MATH = """math menclose mfrac mi mmultiscripts mn mo mover mpadded mphantom mprescripts mroot mrow ms mspace msqrt
mstyle msub msubsup msup mtable mtd mtext mtr munder munderover none"""
_SVG = """svg circle clippath defs desc ellipse g line lineargradient marker path pattern polygon polyline
radialgradient rect stop symbol text tspan use"""
ELEMENTS = frozenset(f"{_TEXT} {_MATH} {_SVG}".split())
VOID = frozenset(["br", "col", "hr", "img", "input"])
# Dropped with all they hold; of other unknown elements only the tags go.
_WITH_CONTENT = """script style iframe object applet template noscript noembed noframes textarea title xmp plaintext
foreignobject metadata"""
DROPPED = frozenset(_WITH_CONTENT.split())

_DRAWING = """clip-path clip-rule cx cy d dx dy fill fill-opacity fill-rule font-family font-size font-style
font-weight gradienttransform gradientunits markerheight markerwidth offset opacity orient patternunits points
preserveaspectratio r refx refy rx ry stop-color stop-opacity stroke stroke-dasharray stroke-dashoffset stroke-linecap
stroke-linejoin stroke-miterlimit stroke-opacity stroke-width text-anchor transform version viewbox x x1 x2
xml:space y y1 y2 dominant-baseline"""
_PLAIN = """align alt checked class colspan dir disabled display columnalign fence height href id lang
linethickness lspace mathvariant maxsize minsize open role rowspan rspace scope separator span src start stretchy style
title type valign width xlink:href accent movablelimits columnspacing rowspacing displaystyle scriptlevel form
largeop symmetric notation depth voffset"""
ATTRIBUTES = frozenset(f"{_DRAWING} {_PLAIN}".split())

_LINK = re.compile(r"(?:https?://|mailto:|#|[\w.%~-]+(?:/[\w.%~-]+)*(?:#[\w.%-]*)?$)", re.IGNORECASE)
_IMAGE = re.compile(r"data:image/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/=\s]*$")
_LOADS = re.compile(r"url\s*\((?!\s*['\"]?#)|@import|expression\s*\(|image-set|\\|/\*", re.IGNORECASE)
_LAYOUT = re.compile(r"position\s*:|z-index\s*:", re.IGNORECASE)


def _allowed(element: str, name: str, value: str) -> bool:
    """May this attribute stay on this element?"""
    if name.startswith(("aria-", "data-")):
        return True
    if name not in ATTRIBUTES:
        return False
    if name in ("href", "xlink:href"):
        return bool(_LINK.match(value)) if element == "a" else value.startswith("#")
    if name == "src":
        return element == "img" and bool(_IMAGE.match(value))
    return not _LOADS.search(value) and not (name == "style" and _LAYOUT.search(value))


class _Writer(HTMLParser):
    """Writes what it parses, less what is not allowed; closes what was left open."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._open: list[str] = []
        self._dropping: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in DROPPED:
            self._dropping.append(tag)
            return
        if self._dropping or tag not in ELEMENTS:
            return
        kept = [(name, value or "") for name, value in attrs if _allowed(tag, name, value or "")]
        if tag == "img" and not any(name == "src" for name, _ in kept):
            self.parts.append('<span class="removed">[image not shown]</span>')
            return
        if tag == "input" and ("type", "checkbox") not in kept:
            return
        text = "".join(f' {name}="{html.escape(value, quote=True)}"' for name, value in kept)
        self.parts.append(f"<{tag}{text}>")
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._dropping:
            del self._dropping[len(self._dropping) - 1 - self._dropping[::-1].index(tag) :]
        elif not self._dropping and tag in self._open:
            while self._open:
                closed = self._open.pop()
                self.parts.append(f"</{closed}>")
                if closed == tag:
                    break

    def handle_data(self, data: str) -> None:
        if not self._dropping:
            self.parts.append(html.escape(data, quote=False))

    def result(self) -> str:
        self.close()
        return "".join([*self.parts, *(f"</{tag}>" for tag in reversed(self._open))])


def sanitize(text: str) -> str:
    """The HTML with only what is allowed; text of unknown elements stays, text of scripts and styles goes."""
    writer = _Writer()
    writer.feed(text)
    return writer.result()
