"""Cleaning: a recipe, an ordered list of filters, decides for every document whether it stays, and as what.

`build` makes the steps of a recipe from its settings, `clean` runs them over a source's documents and keeps the
books; `FILTERS` lists the filters there are.
"""

from pileline.cleaning.filters import FILTERS, CleaningError, Filter, Step, build
from pileline.cleaning.recipe import KEPT, REMOVED, Cleaned, characters, clean
from pileline.cleaning.removal import Removal

__all__ = [
    "FILTERS",
    "KEPT",
    "REMOVED",
    "Cleaned",
    "CleaningError",
    "Filter",
    "Removal",
    "Step",
    "build",
    "characters",
    "clean",
]
