"""Boilerplate: lines or paragraphs that stand in many documents, as menus, licences and signatures do.

A unit (a line, or a paragraph between blank lines) is told by its normalized text. One that stands in at least so many
different documents of training text is boilerplate, and mixing strips it from every training document, the first not
excepted. Holdout text is never changed, and duplicates are told by the text with its boilerplate. What a unit is, and
how it is stripped, stands in `pileline.boilerplate`, since mixing needs it and nothing else of this room.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pileline import documents
from pileline.boilerplate import NAME, cut
from pileline.deduplication import lookup, passes, words
from pileline.deduplication.codes import Codes, groups
from pileline.deduplication.inventory import Inventory
from pileline.deduplication.passes import Piece

SCHEMA = pa.schema(
    [
        pa.field("text", pa.string(), nullable=False),  # of the unit, normalized
        pa.field("documents", pa.int64(), nullable=False),  # training documents that it stands in
    ]
)
_BLOCK = 1 << 22  # different units counted at once
_EXAMPLES, _EXCERPT = 10, 200


@dataclass(frozen=True)
class Found:
    """The units that are boilerplate (`SCHEMA`, the commonest first), how often they occur, and the bytes they take."""

    table: pa.Table
    occurrences: int
    bytes: int

    def write(self, folder: str | Path) -> None:
        """Write the table, which has no rows where the method looks for none."""
        pq.write_table(self.table, Path(folder) / NAME, compression="zstd", compression_level=3)

    def metrics(self, settings: Mapping[str, Any] | None) -> dict[str, Any] | None:
        """For the manifest; `settings` are those of the search."""
        if settings is None:
            return None
        counts = {"lines": len(self.table), "occurrences": self.occurrences, "bytes": self.bytes}
        examples = [row | {"text": row["text"][:_EXCERPT]} for row in self.table.slice(0, _EXAMPLES).to_pylist()]
        return {"unit": settings["unit"], "documents": settings["documents"], **counts, "examples": examples}


def find_boilerplate(
    inventory: Inventory,
    staying: NDArray[np.bool_],
    settings: Mapping[str, Any] | None,
    seed: int,
    scratch: str | Path,
    threads: int = 1,
) -> Found:
    """The boilerplate of the training documents that `staying` [n] marks; `settings` are a method's `boilerplate`.

    The first pass puts a 64-bit hash of each document's every unit in a file, where sorting brings equal ones
    together; the second counts what the common ones take and notes their text. Memory: the common units, and pieces.
    """
    if settings is None:
        return Found(pa.table({"text": [], "documents": []}, schema=SCHEMA), 0, 0)
    work = _Units(settings["unit"], settings["characters"], seed)
    pieces = inventory.pieces(staying & inventory.training)
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".units-") as folder:
        builder = lookup.Builder(Path(folder) / "units", 64)
        for _, hashes in passes.over(pieces, work.hashes, inventory.size, "boilerplate, counting", threads):
            builder.add(hashes, np.zeros(len(hashes), np.int32))
        table = builder.build()
        often = [np.zeros(0, np.int64)]
        for first in range(0, len(table.hashes), _BLOCK):
            places = np.arange(first, min(first + _BLOCK, len(table.hashes)))
            often.append(places[table.counts(places) >= settings["documents"]])
        places = np.concatenate(often)
        common, counts = table.hashes[places], table.counts(places)
    texts = [""] * len(common)
    occurrences = size = 0
    work = replace(work, common=common)
    for _, (names, times, some) in passes.over(pieces, work.texts, inventory.size, "boilerplate, text", threads):
        occurrences, size = occurrences + times, size + some
        for place, text in names.items():
            texts[place] = text
    found = pa.table({"text": texts, "documents": counts}, schema=SCHEMA)
    return Found(found.sort_by([("documents", "descending"), ("text", "ascending")]), occurrences, size)


@dataclass(frozen=True)
class _Units:
    """What a process needs to cut a piece's texts in units and tell them by their hashes; `common` are sorted."""

    unit: str
    characters: int
    seed: int
    common: NDArray[np.uint64] | None = None

    def hashes(self, piece: Piece) -> NDArray[np.uint64]:
        """Hashes of the long enough units of each document, without repeats."""
        found = [np.zeros(0, np.uint64)]
        for group in groups(piece.texts()):
            units, numbers = self._cut(group)
            chosen, hashes = self._long(units)
            found.append(words.distinct(hashes, np.bincount(numbers[chosen], minlength=len(group)))[0])
        return np.concatenate(found)

    def texts(self, piece: Piece) -> tuple[dict[int, str], int, int]:
        """Normalized texts of the common units by place in `common`; how often they occur, and their UTF-8 bytes."""
        assert self.common is not None
        names: dict[int, str] = {}
        times = size = 0
        for group in groups(piece.texts()):
            units, _ = self._cut(group)
            chosen, hashes = self._long(units)
            place = np.minimum(np.searchsorted(self.common, hashes), max(len(self.common) - 1, 0))
            hit = np.flatnonzero(self.common[place] == hashes) if len(self.common) else place[:0]
            for unit, at in zip(chosen[hit].tolist(), place[hit].tolist(), strict=True):
                times, size = times + 1, size + len(units[unit].encode("utf-8", "surrogatepass"))
                if at not in names:
                    names[at] = documents.normalize_for_key(units[unit])
        return names, times, size

    def _cut(self, texts: list[str]) -> tuple[list[str], NDArray[np.int64]]:
        """The units of all texts, and the number of each one's text."""
        units = [cut(text, self.unit)[::2] for text in texts]
        return list(chain(*units)), np.repeat(np.arange(len(texts)), list(map(len, units)))

    def _long(self, units: list[str]) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        """Places and hashes of the units of enough characters."""
        codes = Codes.bare(units)
        chosen = np.flatnonzero(codes.lengths >= self.characters)
        starts = codes.starts[chosen]
        return chosen, words.runs(codes.values, starts, starts + codes.lengths[chosen], self.seed)
