"""The inventory: what deduplication knows of every document without holding its text or its id.

Documents are numbered in corpus order: by their source's place in the list of sources, then by member and
number as their id states them ("source/member#number"). So neither the order of rows in a table nor the number of
parts that a source is cut in matters. Ids are ranked once, a source at a time, as Arrow strings (about as many bytes
as they have letters), and dropped; where one is to be written it is read again from its table and row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pileline import documents, manifest
from pileline.deduplication import passes
from pileline.deduplication.passes import Piece
from pileline.manifest import Manifest
from pileline.parts import folders

SPLITS = ("train", "validation", "test")
_NUMBERED = r"(?s)^(?P<member>.*)#(?P<number>[0-9]{1,18})$"
_CUT = pa.struct([("member", pa.string()), ("number", pa.string())])
_KEY = f"S{documents.KEY_BYTES}"


class InventoryError(ValueError):
    """The documents given to deduplication cannot be numbered, or a source has none."""


@dataclass(frozen=True)
class Inventory:
    """Arrays over n documents in corpus order, 42 bytes each; texts and ids stay in the tables at `paths`.

    Behind those of `sources` stand the protected documents of `guards`: sources that are not in the corpus, whose
    held-out text it must not train on either. They are compared with, and never leave, count or stay.

    source     [n] place in `names`, which is `sources` and then `guards`
    size       [n] UTF-8 bytes of the text
    key        [n] keys, S16
    split      [n] place in `SPLITS`
    protected  [n] True for the holdout and for documents of a task's test part
    table      [n] place in `paths` of the table that holds it: one a part of a source
    row        [n] its row there
    """

    sources: list[str]
    guards: list[str]
    paths: list[Path]
    source: NDArray[np.int32]
    size: NDArray[np.int64]
    key: NDArray[np.bytes_]
    split: NDArray[np.int8]
    protected: NDArray[np.bool_]
    table: NDArray[np.int32]
    row: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.source)

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

    @property
    def nbytes(self) -> int:
        """Bytes that the arrays take."""
        return sum(
            array.nbytes
            for array in (self.source, self.size, self.key, self.split, self.protected, self.table, self.row)
        )

    def marked(self, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
        """[n] True for the documents that are numbered."""
        marked = np.zeros(len(self), bool)
        marked[numbers] = True
        return marked

    def pieces(self, wanted: NDArray[np.bool_]) -> list[Piece]:
        """The documents that `wanted` [n] marks, for a pass over their texts (see `passes`)."""
        return passes.pieces(self.paths, self.table, self.row, wanted)

    def texts(self, wanted: NDArray[np.bool_]) -> Iterator[tuple[int, str]]:
        """Number and text of each document that `wanted` [n] marks, in the order of the tables, streamed."""
        for piece in self.pieces(wanted):
            yield from zip(piece.numbers.tolist(), piece.texts(), strict=True)

    def ids(self, numbers: NDArray[np.int64]) -> pa.ChunkedArray:
        """The ids of the documents of these numbers, in their order, as Arrow strings; read from the tables."""
        wanted, place = np.unique(numbers, return_inverse=True)
        found = [batch for piece in self.pieces(self.marked(wanted)) for batch in piece.batches("id")]
        where = np.zeros(len(wanted), np.int64)
        read = np.concatenate([np.zeros(0, np.int64), *(some for some, _ in found)])
        where[np.searchsorted(wanted, read)] = np.arange(len(read))
        return pa.chunked_array([values for _, values in found], pa.string()).take(pa.array(where[place]))


def fractions(keys: NDArray[np.bytes_]) -> NDArray[np.float64]:
    """`documents.fraction` of each key: [n] in [0, 1)."""
    first = np.ascontiguousarray(keys).view(">u8").reshape(-1, documents.KEY_BYTES // 8)[:, 0]
    fractions: NDArray[np.float64] = (first >> np.uint64(11)).astype(np.float64) / 2.0**53
    return fractions


def read(
    clean: str | Path,
    sources: list[str],
    holdout: Mapping[str, float],
    protected: Mapping[str, float],
    guards: Sequence[str] = (),
    parts: Mapping[str, int] | None = None,
) -> Inventory:
    """The inventory of `clean/{source}/{part}/kept.parquet` of each source, and of the protected documents of guards.

    `holdout` has the shares "validation" and "test"; `protected` maps a source to the share of its documents
    (by `documents.fraction`) that is a task's test part; `parts` says in how many parts a source is cut, one if
    it does not say. Raises `ManifestError` where a part has not been cleaned, `InventoryError` where two documents
    have one id and where no part of a source found anything to read.
    """
    parts = parts or {}
    names = [*sources, *guards]
    paths: list[Path] = []
    found: list[tuple[NDArray[Any], ...]] = []
    for place, name in enumerate(names):
        tables = _tables(Path(clean) / name, parts.get(name, 1), name)
        size, key, table, row = _in_order(tables, name)
        share = fractions(key)
        split = np.where(share < holdout["test"], 2, share < holdout["test"] + holdout["validation"]).astype(np.int8)
        guarded = (split > 0) | (share < protected.get(name, 0.0))
        here = np.flatnonzero(guarded | (place < len(sources)))
        columns = (
            size[here],
            key[here],
            split[here],
            guarded[here],
            (len(paths) + table[here]).astype(np.int32),
            row[here],
        )
        found.append((np.full(len(here), place, np.int32), *columns))
        paths += tables
    return Inventory(list(sources), list(guards), paths, *map(np.concatenate, zip(*found, strict=True)))


def _in_order(tables: list[Path], source: str) -> tuple[NDArray[Any], ...]:
    """Size, key, number of the table and row of each document of a source, in corpus order."""
    ids: list[pa.Array] = []
    sizes, keys, places, rows = [np.zeros(0, np.int64)], [np.zeros(0, _KEY)], [np.zeros(0, np.int32)], []
    for place, path in enumerate(tables):
        count = 0
        for batch in documents.batches(path, ["id", "text", "key"]):
            ids.append(batch.column("id"))
            sizes.append(documents.text_bytes(batch))
            keys.append(_keys(batch.column("key")))
            count += batch.num_rows
        rows.append(np.arange(count))
        places.append(np.full(count, place, np.int32))
    order = _rank(pa.chunked_array(ids, pa.string()), source)
    return tuple(np.concatenate(column)[order] for column in (sizes, keys, places, rows))


def _rank(ids: pa.ChunkedArray, source: str) -> NDArray[np.int64]:
    """The order of a source's ids: "a/b.txt#12" stands behind "a/b.txt#2". Refuses two of the same."""
    if not pc.all(pc.starts_with(ids, f"{source}/")).as_py() and len(ids):
        wrong = ids.filter(pc.invert(pc.starts_with(ids, f"{source}/")))[0].as_py()
        raise InventoryError(f"source '{source}': the id '{wrong}' does not begin with its source's name and '/'")
    cut = pa.chunked_array([pc.extract_regex(chunk, _NUMBERED) for chunk in ids.chunks], _CUT)
    member = pc.coalesce(pc.struct_field(cut, "member"), ids)
    number = pc.cast(pc.coalesce(pc.struct_field(cut, "number"), pa.scalar("0")), pa.int64())
    names = pa.table({"member": member, "number": number, "id": ids})
    order = pc.sort_indices(names, sort_keys=[(name, "ascending") for name in names.column_names])
    ranked = ids.take(order)
    same = pc.equal(ranked.slice(1), ranked.slice(0, max(len(ranked) - 1, 0)))
    if pc.any(same).as_py():
        twice = ranked.slice(1).filter(same)[0].as_py()
        raise InventoryError(f"source '{source}': two documents have the id '{twice}'; ids must be unique in a corpus")
    return np.asarray(order, np.int64)


def _keys(column: pa.Array) -> NDArray[np.bytes_]:
    """A column of keys as S16, without a Python object a key."""
    size = documents.KEY_BYTES
    values = np.frombuffer(column.buffers()[1], np.uint8)[column.offset * size : (column.offset + len(column)) * size]
    return values.view(_KEY).copy()


def _tables(folder: Path, parts: int, source: str) -> list[Path]:
    """The tables of all parts of a source, once each is found to be what its manifest says."""
    stages = [manifest.read(part, "clean") for part in folders(folder, parts)]
    if stages and all(map(_found_nothing, stages)):
        what = f"none of its {parts} parts" if parts > 1 else "its one part"
        raise InventoryError(
            f"{folder}: source '{source}' has no document at all: {what} found one to read; "
            "look at its files and at `read.members` in config.yaml"
        )
    return [stage.path("kept.parquet") for stage in stages]


def _found_nothing(stage: Manifest) -> bool:
    ledger = stage.metrics.get("ledger")
    return ledger is not None and not ledger["in"]["documents"]
