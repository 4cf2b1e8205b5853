"""The one pass: each text is read, normalized and hashed once, for signatures, containment and decontamination alike.

Protected documents come first (`_guards`), since training documents are held against them: their shingles and the
n-grams of those that a task tests on go to tables in files. Then come the training documents. Both by `passes.over`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pileline.deduplication import contained, exact, lookup, minhash, passes, words
from pileline.deduplication.codes import Codes, groups
from pileline.deduplication.contained import Protected
from pileline.deduplication.contaminated import Contaminated, Decontamination, Matches, Tested, contaminated
from pileline.deduplication.inventory import Inventory, InventoryError, fractions
from pileline.deduplication.lookup import first_of_pairs
from pileline.deduplication.method import Method
from pileline.deduplication.minhash import MinHash, Shingler
from pileline.deduplication.passes import Piece

_NO_MATCHES = (np.zeros(0, np.int64), np.zeros(0, np.int64))


@dataclass(frozen=True)
class Scanned:
    """What the pass saw of the n documents of an inventory.

    hashes        [n, bands] band hashes; of documents that had left before, zeros
    contained     numbers, partners and overlaps of the training documents that overlap with a protected one
    contaminated  those that share an n-gram with a task's test; None where it was not looked for
    """

    hashes: NDArray[np.uint64]
    contained: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]
    contaminated: Contaminated | None


def scan(
    inventory: Inventory,
    staying: NDArray[np.bool_],
    method: Method,
    seed: int,
    scratch: str | Path,
    tasks: Mapping[str, Mapping[str, Any]] | None = None,
    decontamination: Mapping[str, Any] | None = None,
    threads: int = 1,
) -> Scanned:
    """Read each document that `staying` [n] marks once, by `threads` processes; tables lie in `scratch` meanwhile.

    `tasks` maps a task to its "source" and the share "test" of it; `decontamination` is None or has "words" and
    "at_most".
    """
    settings = Decontamination.from_dict(decontamination) if decontamination is not None else None
    tests = _tests(inventory, tasks or {}) if settings else {}
    work = _Work(
        Shingler(method.shingle, seed),
        MinHash(method.bands, method.rows, seed),
        method.threshold,
        settings.words if settings and tests else 0,
    )
    hashes = np.zeros((len(inventory), method.bands), np.uint64)
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".tables-") as folder:
        protected, guards, tested = _guards(inventory, staying, work, tests, hashes, Path(folder), threads)
        work = replace(work, protected=protected, tested=tested.table if tested else None)
        matches = None
        if settings and tested:
            everyone = np.ones(len(inventory), bool)
            matches = Matches(tested, settings.at_most, exact.first_copies(inventory.key, everyone))
        found = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
        training = inventory.pieces(staying & inventory.training)
        for piece, seen in passes.over(training, work.training, inventory.size, "training text", threads):
            hashes[piece.numbers] = seen.hashes
            text, owner, overlap = seen.contained
            found.append((piece.numbers[text], guards[owner], overlap))
            if matches:
                matches.add(piece.numbers[seen.matches[0]], seen.matches[1])
        numbers, partner, overlap = (np.concatenate(column) for column in zip(*found, strict=True))
        order = np.argsort(numbers)
        return Scanned(
            hashes, (numbers[order], partner[order], overlap[order]), contaminated(matches) if matches else None
        )


def _tests(inventory: Inventory, tasks: Mapping[str, Mapping[str, Any]]) -> dict[str, NDArray[np.bool_]]:
    """Task to [n]: True for the documents that it tests on."""
    share = fractions(inventory.key)
    for name, task in tasks.items():
        if task["source"] not in inventory.names:
            raise InventoryError(
                f"task '{name}' tests on source '{task['source']}', which is neither in the corpus nor among `guards`"
            )
    return {
        name: inventory.protected
        & (inventory.source == inventory.names.index(task["source"]))
        & (share < float(task["test"]))
        for name, task in tasks.items()
    }


def _guards(
    inventory: Inventory,
    staying: NDArray[np.bool_],
    work: _Work,
    tests: dict[str, NDArray[np.bool_]],
    hashes: NDArray[np.uint64],
    folder: Path,
    threads: int,
) -> tuple[Protected, NDArray[np.int64], Tested | None]:
    """Read the protected documents: the tables to hold training text against, and the first one's owners' numbers.

    Enters their band hashes in `hashes`. Of copies of one key only one guards, but each keeps its task's n-grams.
    """
    guards = inventory.protected & staying
    tested = np.zeros(len(inventory), bool)
    for mask in tests.values():
        tested |= mask
    numbers, test_numbers = np.flatnonzero(guards), np.flatnonzero(tested)
    sizes, test_sizes = np.zeros(len(numbers), np.int64), np.zeros(len(test_numbers), np.int64)
    read = passes.over(inventory.pieces(guards | tested), work.guards, inventory.size, "protected text", threads)
    shingles = lookup.Builder(folder / "shingles", contained.HASH_BITS)
    ngrams = lookup.Builder(folder / "ngrams", 64)
    for piece, seen in read:
        hashes[piece.numbers] = seen.hashes
        shingles.add(*_owned(seen.shingles, piece.numbers, guards, numbers, sizes))
        ngrams.add(*_owned(seen.ngrams, piece.numbers, tested, test_numbers, test_sizes))
    protected = Protected(shingles.build(), sizes)
    if not tests:
        return protected, numbers, None
    asked = {task: mask[tested] for task, mask in tests.items()}
    return protected, numbers, Tested(ngrams.build(), test_numbers, test_sizes, asked)


def _owned(
    sets: tuple[NDArray[np.uint64], NDArray[np.int64]],
    documents: NDArray[np.int64],
    wanted: NDArray[np.bool_],
    numbers: NDArray[np.int64],
    sizes: NDArray[np.int64],
) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    """The hashes of those `documents` that are `wanted` [n], each with its owner: the document's place in `numbers`.

    `sets` are all documents' hashes without repeats and their numbers; the wanted ones' are entered in `sizes`.
    """
    hashes, counts = sets
    here = wanted[documents]
    owners = np.searchsorted(numbers, documents[here])
    sizes[owners] = counts[here]
    return hashes[np.repeat(here, counts)], np.repeat(owners, counts[here]).astype(np.int32)


@dataclass(frozen=True)
class _Guards:
    """What is taken of a piece of protected documents: sets are hashes without repeats, text by text, and sizes."""

    hashes: NDArray[np.uint64]
    shingles: tuple[NDArray[np.uint64], NDArray[np.int64]]
    ngrams: tuple[NDArray[np.uint64], NDArray[np.int64]]


@dataclass(frozen=True)
class _Training:
    """What is taken of a piece of training documents; texts are numbered in the piece."""

    hashes: NDArray[np.uint64]
    contained: contained.Pairs
    matches: tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True)
class _Work:
    """What a process needs to read a piece; `words` is 0 where no n-grams are wanted."""

    shingler: Shingler
    minhash: MinHash
    threshold: float
    words: int
    protected: Protected | None = None
    tested: lookup.Lookup | None = None

    def guards(self, piece: Piece) -> _Guards:
        parts = []
        for group in groups(piece.texts()):
            codes = Codes.normalized(group)
            hashes, counts = self.shingler.hashes(codes)
            bands = self.minhash.band_hashes(self.minhash.signatures(hashes, counts))
            parts.append((bands, *minhash.distinct(hashes, counts), *self._ngrams(codes)))
        bands, shingles, sizes, ngrams, numbers = (np.concatenate(column) for column in zip(*parts, strict=True))
        return _Guards(bands, (shingles, sizes), (ngrams, numbers))

    def _ngrams(self, codes: Codes) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        if not self.words:
            return np.zeros(0, np.uint64), np.zeros(len(codes.lengths), np.int64)
        return words.distinct(*words.ngrams(codes, self.words, self.shingler.seed))

    def training(self, piece: Piece) -> _Training:
        assert self.protected is not None
        parts, found, matches = [], [], [_NO_MATCHES]
        first = 0
        for group in groups(piece.texts()):
            codes = Codes.normalized(group)
            hashes, counts = self.shingler.hashes(codes)
            parts.append(self.minhash.band_hashes(self.minhash.signatures(hashes, counts)))
            text, owner, overlap = self.protected.overlapping(hashes, counts, self.threshold)
            found.append((first + text, owner, overlap))
            if self.tested is not None:
                text, place = self._matches(codes, text)
                matches.append((first + text, place))
            first += len(group)
        text, owner, overlap = (np.concatenate(column) for column in zip(*found, strict=True))
        return _Training(
            np.concatenate(parts),
            (text, owner, overlap),
            (np.concatenate([text for text, _ in matches]), np.concatenate([place for _, place in matches])),
        )

    def _matches(self, codes: Codes, leaving: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Texts of a group, without those `leaving` already, and the places of the n-grams of tests that they hold."""
        assert self.tested is not None
        hashes, counts = words.ngrams(codes, self.words, self.shingler.seed)
        at, place = self.tested.find(hashes)
        text = np.searchsorted(np.cumsum(counts), at, "right")
        once = first_of_pairs(text, place)
        once = once[~np.isin(text[once], leaving)]
        return text[once], place[once]
