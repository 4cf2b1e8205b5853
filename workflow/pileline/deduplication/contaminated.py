"""Decontamination: training documents that share a run of words with a task's test text, as GPT-3 and The Pile do it.

A training document leaves if an n-gram of `words` normalized words stands in it and in a document that a task tests
on. As GPT-3 does, an n-gram that more than `at_most` training documents hold is taken for a common phrase and tells
nothing (Brown et al., 2020, appendix C). Counted are the documents that would otherwise stay, and those of one key as
one, so that a leak does not become a phrase by having been copied. A test text of fewer words than an n-gram has none;
for it stands the guard of `contained`, as for every protected document. The same holds for writing that sets no blanks
between words, where an n-gram is as long as `words` phrases between two marks of punctuation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pileline.deduplication.lookup import Lookup, first_of_pairs

WORDS, AT_MOST = 13, 10
_WAITING = 1 << 22  # matches held before the common ones among them are dropped


class DecontaminationError(ValueError):
    """A setting of decontamination is unknown or out of range."""


@dataclass(frozen=True)
class Decontamination:
    """`words` of an n-gram, and the number of training documents from which on it is a phrase: more than `at_most`."""

    words: int = WORDS
    at_most: int = AT_MOST

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Decontamination:
        """What the config's `decontamination` states."""
        if unknown := sorted(set(settings) - {"words", "at_most"}):
            raise DecontaminationError(f"decontamination: unknown setting {', '.join(unknown)}; known: words, at_most")
        made = cls(**settings)
        for name, least in (("words", 1), ("at_most", 1)):
            value = getattr(made, name)
            if type(value) is not int or value < least:
                raise DecontaminationError(f"decontamination: {name} is {value!r}; use a whole number from {least} up")
        return made


@dataclass(frozen=True)
class Tested:
    """The n-grams of all tasks' test documents.

    table    their hashes; an owner is a test document, counted in corpus order
    numbers  [owners] numbers in the inventory
    sizes    [owners] different n-grams of each
    tasks    task to [owners], True for the documents that it tests on
    """

    table: Lookup
    numbers: NDArray[np.int64]
    sizes: NDArray[np.int64]
    tasks: dict[str, NDArray[np.bool_]]


@dataclass
class Matches:
    """Training documents and the places in the table of the n-grams that they share with tests, added as they come.

    `same` [n] is for each document the first of its key. Memory: at most `at_most` + 1 matches for each n-gram in the
    table, and 4 million.
    """

    tested: Tested
    at_most: int
    same: NDArray[np.int64]
    common: NDArray[np.bool_] = field(init=False)
    _waiting: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = field(default_factory=list)
    _count: int = 0

    def __post_init__(self) -> None:
        self.common = np.zeros(len(self.tested.table.hashes), bool)

    def add(self, numbers: NDArray[np.int64], places: NDArray[np.int64]) -> None:
        rare = ~self.common[places]
        self._waiting.append((numbers[rare], places[rare]))
        self._count += int(rare.sum())
        if self._count > _WAITING:
            self._waiting = [self.rare()]
            self._count = len(self._waiting[0][0])

    def rare(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """What was added, without the n-grams that are common by now."""
        numbers, places = (
            np.concatenate([np.zeros(0, np.int64), *column])
            for column in list(zip(*self._waiting, strict=True)) or [(), ()]
        )
        once = first_of_pairs(places, self.same[numbers])
        held, documents = np.unique(places[once], return_counts=True)
        self.common[held[documents > self.at_most]] = True
        rare = ~self.common[places]
        return numbers[rare], places[rare]


@dataclass(frozen=True)
class Contaminated:
    """Training documents that leave, in corpus order: `numbers`, the test document with which each shares most n-grams
    (`partner`, the first of equals), and the share of that one's n-grams that it holds (`overlap`).

    by_task  task to its documents' numbers and to how many of its n-grams were found
    common   n-grams taken for phrases
    short    test documents of too few words to have an n-gram
    """

    numbers: NDArray[np.int64]
    partner: NDArray[np.int64]
    overlap: NDArray[np.float64]
    by_task: dict[str, tuple[NDArray[np.int64], int]]
    common: int
    short: int


def contaminated(matches: Matches) -> Contaminated:
    """What leaves, once all training documents have been matched."""
    tested = matches.tested
    numbers, places = matches.rare()
    owners = len(tested.numbers)
    number, owner, shared = tested.table.shared(numbers, places, owners)
    best = np.lexsort((owner, -shared, number))
    leaving, first = np.unique(number[best], return_index=True)
    partner = owner[best][first]
    overlap = shared[best][first] / tested.sizes[partner]
    held = np.unique(places)
    gram, holder, _ = tested.table.shared(held, held, owners)
    by_task = {
        task: (np.unique(number[mask[owner]]), len(np.unique(gram[mask[holder]])))
        for task, mask in tested.tasks.items()
    }
    return Contaminated(
        leaving, tested.numbers[partner], overlap, by_task, int(matches.common.sum()), int((tested.sizes == 0).sum())
    )
