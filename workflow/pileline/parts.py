"""Parts: how a big source is cut, so that many jobs can work on it at once.

A source in n parts has the folders "1-of-n" to "n-of-n" (zeros in front, so that names sort as numbers do). What a
part holds is a function of the source and of the part's name alone, never of the machine or the number of cores, and
no document's id depends on it: whatever reads all parts of a source gets the same documents for every n.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_FORM = re.compile(r"(0*[1-9][0-9]*)-of-([1-9][0-9]*)")


@dataclass(frozen=True)
class Part:
    """Part `number`, counted from 1, of `of` parts."""

    number: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            raise ValueError(f"there is no part {self.number} of {self.of}; parts are counted from 1")

    @classmethod
    def parse(cls, name: str) -> Part:
        """The part of a name such as "03-of-16"; `ValueError` for any other spelling."""
        found = _FORM.fullmatch(name)
        if found is None or str(part := cls(int(found[1]), int(found[2]))) != name:
            raise ValueError(f"'{name}' is no part of a source; names of parts are as 03-of-16")
        return part

    def __str__(self) -> str:
        return f"{self.number:0{len(str(self.of))}d}-of-{self.of}"

    def takes(self, number: int) -> bool:
        """Whether the thing of that number, counted from 0, is dealt to this part: in turn, as cards are."""
        return number % self.of == self.number - 1


WHOLE = Part(1, 1)


def names(parts: int) -> list[str]:
    """The names of all parts of a source in `parts` parts, in order."""
    return [str(Part(number, parts)) for number in range(1, parts + 1)]


def folders(folder: str | Path, parts: int) -> list[Path]:
    """The folders of all parts of a source that lies at `folder`, in order."""
    return [Path(folder) / name for name in names(parts)]
