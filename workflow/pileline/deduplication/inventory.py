"""The inventory: what deduplication knows of every document without holding its text.

Documents are numbered in corpus order: by their source's place in the list of sources, then by member and
number as their id states them ("source/member#number"). So the order of rows in a table does not matter.
"""

from __future__ import annotations

from collections.abc import Iterator
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

    ids        [n] ids
    source     [n] place in `sources`
    size       [n] UTF-8 bytes of the text
    key        [n] keys, S16
    split      [n] place in `SPLITS`
    protected  [n] True for the holdout and for documents of a task's test part
    row        [n] the document's row in its source's table
    """

    sources: list[str]
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
    def training(self) -> NDArray[np.bool_]:
        """[n] True for documents of the train split that no task protects."""
        training: NDArray[np.bool_] = (self.split == 0) & ~self.protected
        return training

    def texts(self, wanted: NDArray[np.bool_]) -> Iterator[tuple[int, str]]:
        """Number and text of each document that `wanted` [n] marks, in the order of the tables, streamed."""
        for place, path in enumerate(self.paths):
            numbers = np.flatnonzero(self.source == place)
            number_of_row = np.empty(len(numbers), np.int64)
            number_of_row[self.row[numbers]] = numbers
            first = 0
            for batch in documents.batches(path, ["text"]):
                here = number_of_row[first : first + batch.num_rows]
                first += batch.num_rows
                chosen = np.flatnonzero(wanted[here])
                if len(chosen):
                    yield from zip(here[chosen].tolist(), batch.column(0).take(chosen).to_pylist(), strict=True)


def _order(identifier: str) -> tuple[str, int]:
    """An id's place in its source: "a/b.txt#12" stands behind "a/b.txt#2"."""
    member, _, number = identifier.rpartition("#")
    return (member, int(number)) if number.isdecimal() else (identifier, 0)


def _splits(keys: list[bytes], holdout: dict[str, float]) -> list[int]:
    return [SPLITS.index(documents.split_of(key, holdout["validation"], holdout["test"])) for key in keys]


def read(clean: str | Path, sources: list[str], holdout: dict[str, float], protected: dict[str, float]) -> Inventory:
    """The inventory of `clean/{source}/kept.parquet` of each source.

    `holdout` has the shares "validation" and "test"; `protected` maps a source to the share of its documents
    (by `documents.fraction`) that is a task's test part. Raises `ManifestError` where a source has not been
    cleaned, `InventoryError` where two documents have one id.
    """
    ids: list[str] = []
    sizes: list[NDArray[np.int64]] = []
    keys: list[bytes] = []
    counts: list[int] = []
    paths = [manifest.read(Path(clean) / source, "clean").path("kept.parquet") for source in sources]
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
    source = np.repeat(np.arange(len(sources)), counts)
    limit = np.array([protected.get(name, 0.0) for name in sources])[source] if ids else np.empty(0)
    split = np.array(_splits(keys, holdout), np.int64)
    guarded = (split > 0) | (np.array([documents.fraction(key) for key in keys]) < limit)
    rows = np.concatenate([np.arange(count) for count in counts]) if counts else np.empty(0, np.int64)
    places = source.tolist()
    order = np.array(sorted(range(len(ids)), key=lambda i: (places[i], *_order(ids[i]))), np.int64)
    return Inventory(
        sources=list(sources),
        paths=paths,
        ids=[ids[i] for i in order],
        source=source[order],
        size=(np.concatenate(sizes) if sizes else np.empty(0, np.int64))[order],
        key=np.array(keys, f"S{documents.KEY_BYTES}")[order],
        split=split[order],
        protected=guarded[order],
        row=rows[order],
    )
