"""The `read` block of a source in config.yaml, checked: settings that every format has, and those of its own."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pileline.sources.errors import SourceError
from pileline.sources.patterns import Patterns

COMMON: dict[str, Any] = {  # of every format, with their defaults
    "format": "text",
    "members": "**",
    "except": [],
    "encoding": "utf-8",
    "split": None,
    "fraction": 1.0,
    "member_mb": 100,
}
FIELDS: dict[str, Any] = {"text": "text", "metadata": [], "where": {}}  # of formats whose records have fields


@dataclass(frozen=True)
class Reading:
    """How documents are read from a source's files.

    `members` and `exclude` ("except" in config.yaml) are globs as `patterns.Patterns` says. `split` cuts texts into
    documents of at most so many characters; `fraction` keeps that share of the documents. `member_mb` bounds what is
    held in memory at once: a member, or a line or record of one.

    Where records have fields, `text` names the one with the text, `metadata` those to keep, and `where` selects
    records by the values of fields: {"meta.pile_set_name": ("Pile-CC",)}. A dotted name is a field of a field.
    `options` are the format's own settings, defaults filled in.
    """

    format: str = "text"
    members: tuple[str, ...] = ("**",)
    exclude: tuple[str, ...] = ()
    encoding: str = "utf-8"
    split: int | None = None
    fraction: float = 1.0
    member_mb: int = 100
    text: str = "text"
    metadata: tuple[str, ...] = ()
    where: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Reading:
        """From the block as it stands in config.yaml; `SourceError` names what is wrong in it."""
        from pileline.sources.formats import FORMATS

        name = value.get("format", COMMON["format"])
        if name not in FORMATS:
            raise SourceError(f"`read` has format '{name}'; known are: {', '.join(FORMATS)}")
        own = FORMATS[name].settings
        if unknown := sorted(set(value) - set(COMMON) - set(own)):
            raise SourceError(
                f"`read` has an unknown setting '{unknown[0]}'; "
                f"with format {name} it may have: {', '.join([*COMMON, *own])}"
            )
        given = COMMON | {key: own[key] for key in FIELDS if key in own} | value
        options = {key: given.pop(key, default) for key, default in own.items() if key not in FIELDS}
        given["exclude"] = given.pop("except")
        for key in ("members", "exclude", "metadata"):
            if key in given:
                given[key] = _several(given[key])
        if "where" in given:
            given["where"] = {key: _several(wanted) for key, wanted in given["where"].items()}
        made = cls(**given, options=options)
        made._check(FORMATS[name].by_line)
        return made

    def _check(self, by_line: bool) -> None:
        if not 0 < self.fraction <= 1:
            raise SourceError(f"`read` has fraction {self.fraction}; it must be above 0 and at most 1")
        if self.split is not None and self.split < 1:
            raise SourceError(f"`read` has split {self.split}; it must be a number of characters, 1 or more")
        if self.member_mb < 1:
            raise SourceError(f"`read` has member_mb {self.member_mb}; it must be a number of megabytes, 1 or more")
        if strange := [key for key, wanted in self.where.items() if not wanted or not all(map(_is_scalar, wanted))]:
            raise SourceError(f"`where` has no value, or a list or object in it, for '{strange[0]}'; name plain values")
        try:
            codecs.lookup(self.encoding)
            newline = "\n".encode(self.encoding)
        except LookupError:
            raise SourceError(f"`read` has encoding '{self.encoding}', which Python does not know") from None
        if by_line and newline != b"\n":
            raise SourceError(
                f"`read` has encoding {self.encoding}, in which format {self.format} cannot find line ends"
            )

    @property
    def patterns(self) -> Patterns:
        return Patterns(self.members, self.exclude)


def _several(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)
