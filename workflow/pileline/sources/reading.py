"""The `read` block of a source in config.yaml, checked."""

from __future__ import annotations

import codecs
from dataclasses import dataclass, fields
from typing import Any

from pileline.sources.archives import Patterns
from pileline.sources.errors import SourceError


@dataclass(frozen=True)
class Reading:
    """How documents are read from a source's files.

    `members` and `exclude` ("except" in config.yaml) are globs as `archives.Patterns` says. `text` and `metadata`
    name fields of JSON objects. `split` cuts texts into documents of at most so many characters; `fraction` keeps
    that share of the documents. `member_mb` bounds what is held in memory at once: a member, or a line of one.
    """

    format: str = "text"
    members: tuple[str, ...] = ("**",)
    exclude: tuple[str, ...] = ()
    encoding: str = "utf-8"
    text: str = "text"
    metadata: tuple[str, ...] = ()
    split: int | None = None
    fraction: float = 1.0
    member_mb: int = 1024

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Reading:
        """From the block as it stands in config.yaml; `SourceError` names what is wrong in it."""
        from pileline.sources.formats import BY_LINE, FORMATS

        given = {("exclude" if name == "except" else name): item for name, item in value.items()}
        known = [field.name for field in fields(cls)]
        if unknown := sorted(set(given) - set(known)):
            names = ", ".join("except" if name == "exclude" else name for name in known)
            raise SourceError(f"`read` has an unknown setting '{unknown[0]}'; it may have: {names}")
        for name in ("members", "exclude", "metadata"):
            if name in given:
                given[name] = (given[name],) if isinstance(given[name], str) else tuple(given[name])
        made = cls(**given)
        if made.format not in FORMATS:
            raise SourceError(f"`read` has format '{made.format}'; known are: {', '.join(FORMATS)}")
        if not 0 < made.fraction <= 1:
            raise SourceError(f"`read` has fraction {made.fraction}; it must be above 0 and at most 1")
        if made.split is not None and made.split < 1:
            raise SourceError(f"`read` has split {made.split}; it must be a number of characters, 1 or more")
        made._check_encoding(BY_LINE)
        return made

    def _check_encoding(self, by_line: tuple[str, ...]) -> None:
        try:
            codecs.lookup(self.encoding)
            newline = "\n".encode(self.encoding)
        except LookupError:
            raise SourceError(f"`read` has encoding '{self.encoding}', which Python does not know") from None
        if self.format in by_line and newline != b"\n":
            raise SourceError(
                f"`read` has encoding {self.encoding}, in which format {self.format} cannot find line ends"
            )

    @property
    def patterns(self) -> Patterns:
        return Patterns(self.members, self.exclude)
