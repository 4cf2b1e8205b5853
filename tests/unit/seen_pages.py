"""What a browser would find in a page of the report, and what it must not find there."""

from __future__ import annotations

import html.parser
import re


class Seen(html.parser.HTMLParser):
    """What a browser would find in a page: elements, attributes, ids, text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def values(self, name: str) -> list[str]:
        return [value for _, attribute, value in self.attributes if attribute == name]


def assert_harmless(text: str, scripts: int = 0) -> None:
    """No script but as many of our own, no handler, nothing that a browser would fetch."""
    seen = Seen(text)
    assert seen.elements.count("script") == scripts
    assert not {"iframe", "object", "embed", "link", "base", "form"} & set(seen.elements)
    assert not [name for _, name, _ in seen.attributes if name.startswith("on")]
    assert not [value for value in seen.values("src") + seen.values("srcset") if not value.startswith("data:image/")]
    references = [value for tag, name, value in seen.attributes if name in ("href", "xlink:href") and tag != "a"]
    assert not [value for value in references if not value.startswith("#")]
    links = [value for tag, name, value in seen.attributes if name == "href" and tag == "a"]
    assert not [value for value in links if re.match(r"\s*(javascript|data|vbscript|file):", value, re.IGNORECASE)]
    assert not [value for value in seen.values("style") if "url(" in value.replace("url(#", "")]
