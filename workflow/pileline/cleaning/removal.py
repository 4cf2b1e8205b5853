"""What a filter returns instead of a text."""

from __future__ import annotations

from typing import NamedTuple


class Removal(NamedTuple):
    """The document goes; the ledger counts it under `reason`."""

    reason: str
