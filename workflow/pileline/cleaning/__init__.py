"""Cleaning: a recipe, an ordered list of filters, decides for every document whether it stays, and as what.

`build` makes the steps of a recipe from its settings, `clean` runs them over a source's documents and keeps the
books; `FILTERS` lists the filters there are. One's own filter is a function that returns a text or a `Removal`.
"""

from pileline.cleaning.filters import FILTERS, Filter, Step, build
from pileline.cleaning.lengths import EDGES
from pileline.cleaning.recipe import KEPT, REMOVED, Cleaned, clean
from pileline.cleaning.removal import CleaningError, Removal

__all__ = [
    "EDGES",
    "FILTERS",
    "KEPT",
    "REMOVED",
    "Cleaned",
    "CleaningError",
    "Filter",
    "Removal",
    "Step",
    "build",
    "clean",
]
