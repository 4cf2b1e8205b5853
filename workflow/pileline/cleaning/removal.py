"""What a filter returns instead of a text, and what it raises."""

from __future__ import annotations

from typing import NamedTuple


class CleaningError(ValueError):
    """A recipe names a filter or setting that does not exist, or a user's own filter failed."""


class Removal(NamedTuple):
    """The document goes; the ledger counts it under `reason`, as "gopher_quality: too few words"."""

    reason: str
