"""What decides where a document goes, before it is known how much text there is."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pileline import documents
from pileline.boilerplate import Boilerplate
from pileline.mixing.removals import Removals

TASK, BOILERPLATE, CAP, WEIGHT = "task", "boilerplate", "cap", "weight"  # reasons of removal, in this order
MB = 1_000_000


class MixingError(ValueError):
    """A weight, a way of mixing, or the list of duplicates does not fit the documents."""


@dataclass(frozen=True)
class Plan:
    """A corpus's settings.

    mix          source to its weight, at least 0, and `cap_mb`, the MB of its text that may be used, or None
    mixing       how weights become epochs: `kind` and its settings (see `epochs`)
    holdout      the shares "validation" and "test"
    protected    source to the share of its documents that is a task's test part
    removals     the duplicates
    boilerplate  what is stripped from training documents, or None
    """

    mix: Mapping[str, Mapping[str, Any]]
    mixing: Mapping[str, Any]
    holdout: Mapping[str, float]
    protected: Mapping[str, float]
    removals: Removals
    seed: int
    boilerplate: Boilerplate | None = None

    def __post_init__(self) -> None:
        for source, settings in self.mix.items():
            weight, cap = settings["weight"], settings.get("cap_mb")
            if not (math.isfinite(weight) and weight >= 0):
                raise MixingError(f"mix: the weight of '{source}' is {weight}; use a number from 0 up")
            if cap is not None and not (math.isfinite(cap) and cap > 0):
                raise MixingError(f"mix: cap_mb of '{source}' is {cap}; use a number above 0, or null for no cap")

    @property
    def sources(self) -> list[str]:
        """In the order of the corpus: by name, since the order of YAML keys means nothing."""
        return sorted(self.mix)

    def weight(self, source: str) -> float:
        return float(self.mix[source]["weight"])

    def cap(self, source: str) -> float | None:
        """The most bytes of the source's text that may be used, or None."""
        cap = self.mix[source].get("cap_mb")
        return None if cap is None else cap * MB

    def split(self, key: bytes) -> str:
        return documents.split_of(key, self.holdout["validation"], self.holdout["test"])

    def is_task(self, source: str, key: bytes) -> bool:
        """Whether a document of the train split belongs to the test part of a task."""
        return documents.fraction(key) < self.protected.get(source, 0.0)


def hashed(seed: int, purpose: str, *parts: bytes) -> bytes:
    """128 bits from seed, purpose and parts; each part is led by its length, so no two lists of parts agree."""
    state = hashlib.blake2b(digest_size=16, person=purpose.encode())
    for part in (str(seed).encode(), *parts):
        state.update(len(part).to_bytes(8, "big") + part)
    return state.digest()


def fraction(digest: bytes) -> float:
    """A number in [0, 1) from a digest: its first 53 bits."""
    return (int.from_bytes(digest[:8], "big") >> 11) / 2.0**53
