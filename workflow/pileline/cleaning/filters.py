"""Filters: the steps of a recipe. A filter rewrites a text, leaves it, or names a reason to remove it.

A filter is a frozen dataclass: its `name` is what config.yaml calls it, its fields are its settings with the
published defaults, and `apply` is a function of the text alone, so that a document's fate depends on neither its
neighbours nor the number of cores. To add one, write the class and list it in `FILTERS`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

from pileline.cleaning.quality import Short
from pileline.cleaning.removal import Removal
from pileline.cleaning.unicode import FixUnicode


class CleaningError(ValueError):
    """A recipe names a filter or setting that does not exist. The message lists those that do."""


class Filter(Protocol):
    """What a recipe needs of its steps."""

    name: ClassVar[str]

    def apply(self, text: str) -> str | Removal: ...


FILTERS: dict[str, type[Any]] = {kind.name: kind for kind in (FixUnicode, Short)}


class Step(NamedTuple):
    """A filter with its settings as canonical JSON values, `{"filter": name, setting: value, ...}`."""

    filter: Filter
    settings: dict[str, Any]


def build(recipe: Sequence[dict[str, Any]]) -> list[Step]:
    """The steps of a recipe, in order, from `[{"filter": "short", "characters": 200}, ...]`.

    Settings that are not given have their defaults. Raises `CleaningError`.
    """
    steps = []
    for item in recipe:
        name = item.get("filter")
        if name not in FILTERS:
            raise CleaningError(f"a recipe has the unknown filter '{name}'; known are: {', '.join(FILTERS)}")
        given = {key: value for key, value in item.items() if key != "filter"}
        known = [field.name for field in dataclasses.fields(FILTERS[name])]
        if unknown := sorted(set(given) - set(known)):
            raise CleaningError(f"filter {name} has no setting '{unknown[0]}'; it has: {', '.join(known)}")
        try:
            made = FILTERS[name](**given)
        except ValueError as error:
            raise CleaningError(f"filter {name}: {error}") from None
        steps.append(Step(made, {"filter": name, **dataclasses.asdict(made)}))
    return steps
