"""The documents that deduplication removes: for each a hash of its id and a reason, 17 bytes, however long the id is.

A corpus of the web loses half its documents as duplicates, and each worker process looks every document up. So the
list is two arrays, sorted by hash, that all processes map to the same memory, not a dictionary of strings.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pileline import manifest

TABLE = "duplicates.parquet"
_DIGEST = "S16"  # numpy pads with zero bytes and ignores them in comparisons: equal length keeps that unambiguous


def _digests(ids: Iterable[str]) -> NDArray[np.bytes_]:
    return np.array([hashlib.blake2b(name.encode(), digest_size=16).digest() for name in ids], _DIGEST)


@dataclass(frozen=True)
class Removals:
    """Sorted digests of n ids, the place of each one's reason in `names`, and where the list can be read again."""

    digests: NDArray[np.bytes_]
    reasons: NDArray[np.uint8]
    names: tuple[str, ...]
    path: Path | None = None

    def __len__(self) -> int:
        return len(self.digests)

    @classmethod
    def of(cls, reasons: Mapping[str, str]) -> Removals:
        """From ids and their reasons."""
        return cls._sorted(_digests(reasons), list(reasons.values()))

    @classmethod
    def read(cls, folder: str | Path) -> Removals:
        """What the deduplication stage at `folder` removes."""
        path = manifest.read(folder, "deduplicate").path(TABLE)
        digests, reasons = [np.empty(0, _DIGEST)], []
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=["id", "reason"]):
                digests.append(_digests(batch.column(0).to_pylist()))
                reasons.append(batch.column(1).dictionary_encode())
        names = sorted({name for column in reasons for name in column.dictionary.to_pylist()})
        places = {name: place for place, name in enumerate(names)}
        codes = [
            np.array([places[name] for name in column.dictionary.to_pylist()], np.uint8)[column.indices.to_numpy()]
            for column in reasons
        ]
        return cls._of_codes(np.concatenate(digests), np.concatenate([np.empty(0, np.uint8), *codes]), names, path)

    @classmethod
    def _sorted(cls, digests: NDArray[np.bytes_], reasons: list[str]) -> Removals:
        names = sorted(set(reasons))
        return cls._of_codes(digests, np.array([names.index(reason) for reason in reasons], np.uint8), names, None)

    @classmethod
    def _of_codes(
        cls, digests: NDArray[np.bytes_], codes: NDArray[np.uint8], names: list[str], path: Path | None
    ) -> Removals:
        order = np.argsort(digests, kind="stable")
        return cls(digests[order], codes[order], tuple(names), path)

    def counts(self) -> dict[str, int]:
        """Documents by reason."""
        found = np.bincount(self.reasons, minlength=len(self.names))
        return dict(zip(self.names, found.tolist(), strict=True))

    def find(self, ids: list[str]) -> NDArray[np.int64]:
        """The place of each id in this list, -1 for those that stay: int64 [ids]."""
        digests = _digests(ids)
        place = np.searchsorted(self.digests, digests)
        inside = place < len(self)
        inside[inside] = self.digests[place[inside]] == digests[inside]
        return np.where(inside, place, -1)

    def example(self, places: NDArray[np.int64]) -> str:
        """The id of one of the documents at these places, for a message; empty where the list cannot be read again."""
        wanted = set(self.digests[places].tolist())
        if self.path is not None:
            with pq.ParquetFile(self.path) as file:
                for batch in file.iter_batches(columns=["id"]):
                    ids = batch.column(0).to_pylist()
                    for name, digest in zip(ids, _digests(ids).tolist(), strict=True):
                        if digest in wanted:
                            return str(name)
        return ""
