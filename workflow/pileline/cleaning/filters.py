"""Filters: the steps of a recipe. A filter rewrites a text, leaves it, or names a reason to remove it.

A filter is a frozen dataclass: its `name` is what config.yaml calls it, its fields are its settings with the
published defaults, and `apply` is a function of the text alone, so that a document's fate depends on neither its
neighbours nor the number of cores. One that is quicker on many texts at once has `apply_many` too, which must say the
same. To add one, write the class and list it in `FILTERS`; or name a function of your own in the recipe (`own.py`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from pileline.cleaning.c4 import C4
from pileline.cleaning.fineweb import FineWeb
from pileline.cleaning.gopher import GopherQuality, GopherRepetition
from pileline.cleaning.language import Language
from pileline.cleaning.own import Own
from pileline.cleaning.pii import Pii
from pileline.cleaning.quality import Short
from pileline.cleaning.removal import CleaningError, Removal
from pileline.cleaning.unicode import FixUnicode

KINDS = (FixUnicode, Short, GopherQuality, GopherRepetition, C4, FineWeb, Language, Pii)
FILTERS: dict[str, type[Any]] = {kind.name: kind for kind in KINDS}


class Filter(Protocol):
    """What a recipe needs of its steps."""

    def apply(self, text: str) -> str | Removal: ...


class Step(NamedTuple):
    """A filter with its settings as canonical JSON values, `{"filter": name, setting: value, ...}`."""

    filter: Filter
    settings: dict[str, Any]

    def apply_many(self, texts: Sequence[str]) -> list[str | Removal]:
        """What the filter makes of each text; how texts are grouped changes nothing but the time it takes."""
        together = getattr(self.filter, "apply_many", None)
        return together(texts) if together else [self.filter.apply(text) for text in texts]


def build(recipe: Sequence[dict[str, Any]]) -> list[Step]:
    """The steps of a recipe, in order, from `[{"filter": "short", "characters": 200}, ...]`.

    Settings that are not given have their defaults. Raises `CleaningError`.
    """
    return [_step(str(item.get("filter")), {key: item[key] for key in item if key != "filter"}) for item in recipe]


def _step(name: str, given: dict[str, Any]) -> Step:
    if ":" in name:
        return Step(Own(name, given), {"filter": name, **given})
    if name not in FILTERS:
        raise CleaningError(
            f"a recipe has the unknown filter '{name}'; known are: {', '.join(FILTERS)}; "
            "your own is named as module:function"
        )
    known = [field.name for field in dataclasses.fields(FILTERS[name])]
    if unknown := sorted(set(given) - set(known)):
        raise CleaningError(f"filter {name} has no setting '{unknown[0]}'; it has: {', '.join(known)}")
    try:
        made = FILTERS[name](**given)
    except ValueError as error:
        raise CleaningError(f"filter {name}: {error}") from None
    settings = {key: list(value) if isinstance(value, tuple) else value for key, value in vars(made).items()}
    return Step(made, {"filter": name, **settings})
