"""A deduplication method: an entry of the config's `deduplications`, checked, with its defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

KINDS = ("none", "exact", "minhash")
KEEPS = ("longest", "first")


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
    keep       longest or first: which document of a cluster stays

    The settings of MinHash hold for every kind, since near duplicates of the holdout always leave training.
    """

    kind: str = "minhash"
    threshold: float = 0.8
    shingle: int = 13
    bands: int = 20
    rows: int = 6
    keep: str = "longest"

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Method:
        """The method that a config entry states; raises `MethodError` for a key or a value that it cannot have."""
        known = [field.name for field in fields(cls)]
        if unknown := sorted(set(settings) - set(known)):
            raise MethodError(f"deduplications: unknown setting {', '.join(unknown)}; known are {', '.join(known)}")
        if "kind" not in settings:
            raise MethodError(f"deduplications: no kind in {dict(settings)}; it is one of {', '.join(KINDS)}")
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

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
