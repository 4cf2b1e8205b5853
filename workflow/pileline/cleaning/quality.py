"""Filters that judge a text by simple statistics."""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from typing import ClassVar

from pileline.cleaning.removal import Removal

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_BLANKS = re.compile(r"\s+")


@dataclass(frozen=True)
class Short:
    """Removes texts of fewer than `characters` characters, as SlimPajama counts them.

    Lower case, ASCII punctuation stripped, each run of blanks one. The rule was made for English web pages: Chinese
    says in 200 characters what English says in 600, so it weighs on Chinese most (the ledger shows how much).
    """

    name: ClassVar[str] = "short"
    characters: int = 200

    def __post_init__(self) -> None:
        if self.characters < 1:
            raise ValueError(f"characters is {self.characters}; it must be 1 or more")

    def apply(self, text: str) -> str | Removal:
        bare = _BLANKS.sub(" ", text.lower().translate(_PUNCTUATION).strip())
        return Removal(self.name) if len(bare) < self.characters else text
