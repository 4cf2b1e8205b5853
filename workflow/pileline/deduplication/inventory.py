"""The inventory: what deduplication knows of every document without holding its text.

Documents are numbered in corpus order: by their source's place in the list of sources, then by member and
number as their id states them ("source/member#number"). So the order of rows in a table does not matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from pileline import documents, manifest

SPLITS = ("train", "validation", "test")


class InventoryError(ValueError):
    """The documents given to deduplication cannot be numbered."""


@dataclass(frozen=True)
class Inventory:
    """Arrays over n documents in corpus order, about 250 bytes each; texts stay in the tables at `paths`.

    Behind those of `sources` stand the protected documents of `guards`: sources that are not in the corpus, whose
    held-out text it must not train on either. They are compared with, and never leave, count or stay.

    ids        [n] ids
    source     [n] place in `names`, which is `sources` and then `guards`
    size       [n] UTF-8 bytes of the text
    key        [n] keys, S16
    split      [n] place in `SPLITS`
    protected  [n] True for the holdout and for documents of a task's test part
    row        [n] the document's row in its source's table
    """

    sources: list[str]
    guards: list[str]
    paths: list[Path]
    ids: list[str]
    source: NDArray[np.int64]
    size: NDArray[np.int64]
    key: NDArray[np.bytes_]
    split: NDArray[np.int64]
    protected: NDArray[np.bool_]
    row: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def names(self) -> list[str]:
        return self.sources + self.guards

    @property
    def own(self) -> NDArray[np.bool_]:
        """[n] True for documents of the corpus, False for those of guards."""
        own: NDArray[np.bool_] = self.source < len(self.sources)
        return own

    @property
    def training(self) -> NDArray[np.bool_]:
        """[n] True for documents of the train split that no task protects."""
        training: NDArray[np.bool_] = (self.split == 0) & ~self.protected
        return training

    def texts(self, wanted: NDArray[np.bool_]) -> Iterator[tuple[int, str]]:
        """Number and text of each document that `wanted` [n] marks, in the order of the tables, streamed."""
        for place, path in enumerate(self.paths):
            numbers = np.flatnonzero(self.source == place)
            rows = self.row[numbers]  # of a guard's table only some are here
            number_of_row = np.full(int(rows.max()) + 1 if len(rows) else 0, -1)
            number_of_row[rows] = numbers
            first = 0
            for batch in documents.batches(path, ["text"]):
                here = number_of_row[first : first + batch.num_rows]
                first += batch.num_rows
                chosen = np.flatnonzero((here >= 0) & wanted[here])
                if len(chosen):
                    yield from zip(here[chosen].tolist(), batch.column(0).take(chosen).to_pylist(), strict=True)


def _order(identifier: str) -> tuple[str, int]:
    """An id's place in its source: "a/b.txt#12" stands behind "a/b.txt#2"."""
    member, _, number = identifier.rpartition("#")
    return (member, int(number)) if number.isdecimal() else (identifier, 0)


def _splits(keys: list[bytes], holdout: dict[str, float]) -> list[int]:
    return [SPLITS.index(documents.split_of(key, holdout["validation"], holdout["test"])) for key in keys]


def read(
    clean: str | Path,
    sources: list[str],
    holdout: dict[str, float],
    protected: dict[str, float],
    guards: Sequence[str] = (),
) -> Inventory:
    """The inventory of `clean/{source}/kept.parquet` of each source, and of the protected documents of each guard.

    `holdout` has the shares "validation" and "test"; `protected` maps a source to the share of its documents
    (by `documents.fraction`) that is a task's test part. Raises `ManifestError` where a source has not been
    cleaned, `InventoryError` where two documents have one id.
    """
    ids: list[str] = []
    sizes: list[NDArray[np.int64]] = []
    keys: list[bytes] = []
    counts: list[int] = []
    names = [*sources, *guards]
    paths = [manifest.read(Path(clean) / source, "clean").path("kept.parquet") for source in names]
    for path in paths:
        before = len(ids)
        for batch in documents.batches(path, ["id", "text", "key"]):
            ids += batch.column(0).to_pylist()
            sizes.append(np.asarray(pc.binary_length(batch.column(1)), np.int64))
            keys += batch.column(2).to_pylist()
        counts.append(len(ids) - before)
    if len(set(ids)) < len(ids):
        twice = next(a for a, b in zip(sorted(ids), sorted(ids)[1:], strict=False) if a == b)
        raise InventoryError(f"{clean}: two documents have the id '{twice}'; ids must be unique in a corpus")
    source = np.repeat(np.arange(len(names)), counts)
    limit = np.array([protected.get(name, 0.0) for name in names])[source] if ids else np.empty(0)
    split = np.array(_splits(keys, holdout), np.int64)
    guarded = (split > 0) | (np.array([documents.fraction(key) for key in keys]) < limit)
    rows = np.concatenate([np.arange(count) for count in counts]) if counts else np.empty(0, np.int64)
    places = source.tolist()
    here = np.flatnonzero(guarded | (source < len(sources))).tolist()
    order = np.array(sorted(here, key=lambda i: (places[i], *_order(ids[i]))), np.int64)
    return Inventory(
        sources=list(sources),
        guards=list(guards),
        paths=paths,
        ids=[ids[i] for i in order],
        source=source[order],
        size=(np.concatenate(sizes) if sizes else np.empty(0, np.int64))[order],
        key=np.array(keys, f"S{documents.KEY_BYTES}")[order],
        split=split[order],
        protected=guarded[order],
        row=rows[order],
    )
