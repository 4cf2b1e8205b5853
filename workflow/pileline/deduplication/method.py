"""A deduplication method: an entry of the config's `deduplications`, checked, with its defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from fnmatch import fnmatchcase
from typing import Any

from pileline.boilerplate import UNITS

KINDS = ("none", "exact", "minhash")
KEEPS = ("longest", "first", "priority")
_BOILERPLATE: dict[str, Any] = {"unit": "line", "documents": 10, "characters": 20}


class MethodError(ValueError):
    """A setting of a deduplication method is unknown or out of range."""


@dataclass(frozen=True)
class Method:
    """How duplicates are told and which copy stays.

    kind       none, exact (equal keys) or minhash (exact, and near duplicates)
    threshold  Jaccard similarity, in (0, 1], from which two documents are near duplicates
    shingle    characters in a shingle, of the normalized text
    bands      bands of the MinHash signature; a pair that agrees in one whole band is a candidate
    rows       MinHash values in a band
    keep       which document of a cluster stays: longest; first (in corpus order: the corpus's first sources, then by
               name); or priority: that of the source named first in `priority`, then the longest. Of equals the first
    priority   names or globs of sources; a source that none of them takes comes last
    alarm      share of its bytes from which on a source that loses more is named
    boilerplate  None, or what to strip from training text: units (line or paragraph) of at least so many characters
               that stand in at least so many documents

    The settings of MinHash hold for every kind, since near duplicates of the holdout always leave training.
    """

    kind: str = "minhash"
    threshold: float = 0.8
    shingle: int = 13
    bands: int = 20
    rows: int = 6
    keep: str = "longest"
    priority: list[str] = field(default_factory=list)
    alarm: float = 0.5
    boilerplate: dict[str, Any] | None = None

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Method:
        """The method that a config entry states; raises `MethodError` for a key or a value that it cannot have."""
        known = [field.name for field in fields(cls)]
        if unknown := sorted(set(settings) - set(known)):
            raise MethodError(f"deduplications: unknown setting {', '.join(unknown)}; known are {', '.join(known)}")
        if "kind" not in settings:
            raise MethodError(f"deduplications: no kind in {dict(settings)}; it is one of {', '.join(KINDS)}")
        boilerplate = settings.get("boilerplate")
        if isinstance(boilerplate, Mapping):
            settings = {**settings, "boilerplate": _BOILERPLATE | dict(boilerplate)}
        method = cls(**settings)
        method._check()
        return method

    def _check(self) -> None:
        for name, allowed in (("kind", KINDS), ("keep", KEEPS)):
            if getattr(self, name) not in allowed:
                raise MethodError(f"deduplications: {name} is {getattr(self, name)!r}; use {' or '.join(allowed)}")
        if not isinstance(self.threshold, int | float) or not 0 < self.threshold <= 1:
            raise MethodError(f"deduplications: threshold is {self.threshold!r}; use a number above 0 and up to 1")
        for name, largest in (("shingle", 1000), ("bands", 1000), ("rows", 100)):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= largest:
                raise MethodError(f"deduplications: {name} is {value!r}; use a whole number from 1 to {largest}")

        if not isinstance(self.alarm, int | float) or not 0 <= self.alarm <= 1:
            raise MethodError(f"deduplications: alarm is {self.alarm!r}; use a share from 0 to 1")
        if not isinstance(self.priority, list) or not all(isinstance(name, str) for name in self.priority):
            raise MethodError(f"deduplications: priority is {self.priority!r}; use a list of names or globs of sources")
        if (self.keep == "priority") != bool(self.priority):
            raise MethodError(
                f"deduplications: keep is {self.keep!r} and priority {self.priority!r}; `keep: priority` takes a list "
                "of sources, the one to keep first, and nothing else does"
            )
        self._check_boilerplate()

    def _check_boilerplate(self) -> None:
        settings = self.boilerplate
        if settings is None:
            return
        if not isinstance(settings, Mapping) or set(settings) != set(_BOILERPLATE):
            raise MethodError(f"deduplications: boilerplate is {settings!r}; use null or {', '.join(_BOILERPLATE)}")
        if settings["unit"] not in UNITS:
            raise MethodError(f"deduplications: boilerplate.unit is {settings['unit']!r}; use {' or '.join(UNITS)}")
        for name, least in (("documents", 2), ("characters", 1)):
            if type(settings[name]) is not int or settings[name] < least:
                found = settings[name]
                raise MethodError(f"deduplications: boilerplate.{name} is {found!r}; a whole number from {least} up")

    def rank(self, source: str) -> int:
        """A source's place among `priority`: the number of the first glob that takes it."""
        places = (place for place, glob in enumerate(self.priority) if fnmatchcase(source, glob))
        return next(places, len(self.priority))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
