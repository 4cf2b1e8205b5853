"""Mixing: cleaned documents less duplicates become a corpus of a weighted, shuffled train split and a holdout.

Split. A document's key alone decides it (`documents.split_of`), so every corpus has the same holdout.

Weights. As in The Pile (Gao et al., 2020, table 1) a source's weight w is the number of epochs that training sees of
it: each document stands floor(w) times in the train split, and a share w - floor(w) of them, chosen by a hash of the
key, once more. The effective size of a source is its bytes in the train split, copies counted.

Shuffle. Each copy has a place, a hash of seed, id and copy; the train split is sorted by it. Places do not depend on
the order of reading, so neither does the corpus. As The Pile and SlimPajama do, the sorting goes through piles:
copies are dealt by the first bits of their places to files of about `PILE_BYTES`, and one pile at a time
is sorted in memory. Memory thus holds one pile and the list of duplicates, not the corpus.
"""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pileline import documents, manifest
from pileline.documents import Document
from pileline.ledger import Amount, Ledger
from pileline.progress import Progress

SPLITS = ("train", "validation", "test")
PILE_BYTES = 64_000_000
SAMPLE = 10  # first documents of the train split that the metrics quote
TASK, WEIGHT = "task", "weight"  # reasons: in a task's test part; passed over by a weight below one
_PILED = documents.SCHEMA.append(pa.field("place", pa.binary(16), nullable=False))


class MixingError(ValueError):
    """A weight, or the list of duplicates, does not fit the documents."""


@dataclass(frozen=True)
class Plan:
    """Everything that decides where a document goes.

    weights    source to epochs, each at least 0
    holdout    the shares "validation" and "test"
    protected  source to the share of its documents that is a task's test part
    reasons    id of a duplicate to the reason of its removal
    """

    weights: Mapping[str, float]
    holdout: Mapping[str, float]
    protected: Mapping[str, float]
    reasons: Mapping[str, str]
    seed: int

    def __post_init__(self) -> None:
        for source, weight in self.weights.items():
            if not (math.isfinite(weight) and weight >= 0):
                raise MixingError(f"mix: the weight of '{source}' is {weight}; use a number of epochs from 0 up")

    def split(self, document: Document) -> str:
        return documents.split_of(document.key, self.holdout["validation"], self.holdout["test"])

    def is_task(self, document: Document) -> bool:
        """Whether a document of the train split belongs to the test part of a task."""
        return documents.fraction(document.key) < self.protected.get(document.source, 0.0)

    def copies(self, document: Document) -> int:
        """How many times the train split holds a document: floor(w), or one more by a hash of seed and key."""
        weight = self.weights[document.source]
        whole = math.floor(weight)
        return whole + (_fraction(_hash(self.seed, "epoch", document.key)) < weight - whole)


@dataclass
class Mix:
    """What a mix has counted, by source: unique documents of each split, effective train documents, ledgers."""

    splits: dict[str, dict[str, Amount]]
    effective: dict[str, Amount]
    ledgers: dict[str, Ledger]
    sample: list[Document] = field(default_factory=list)


def _hash(seed: int, purpose: str, *parts: bytes) -> bytes:
    """128 bits from seed, purpose and parts; each part is led by its length, so no two lists of parts agree."""
    state = hashlib.blake2b(digest_size=16, person=purpose.encode())
    for part in (str(seed).encode(), *parts):
        state.update(len(part).to_bytes(8, "big") + part)
    return state.digest()


def _fraction(digest: bytes) -> float:
    return (int.from_bytes(digest[:8], "big") >> 11) / 2.0**53


def read_duplicates(folder: str | Path) -> dict[str, str]:
    """Id to reason of every document that the deduplication stage at `folder` removes."""
    table = pq.read_table(manifest.read(folder, "deduplicate").path("duplicates.parquet"), columns=["id", "reason"])
    return dict(zip(table["id"].to_pylist(), table["reason"].to_pylist(), strict=True))


def mix(clean: str | Path, plan: Plan, output: str | Path, pile_bytes: int = PILE_BYTES) -> Mix:
    """Write train.parquet, validation.parquet and test.parquet to `output`; return what was counted.

    Reads `clean/{source}/kept.parquet` of each weighted source, once. Holds about `pile_bytes` of train text at a
    time, and the holdout. Raises `MixingError` where a duplicate is in no source, as after a change of the
    cleaning without a new deduplication.
    """
    output = Path(output)
    sources = sorted(plan.weights)
    paths = {source: manifest.read(Path(clean) / source, "clean").path("kept.parquet") for source in sources}
    counted = Mix(
        {split: {source: Amount() for source in sources} for split in SPLITS},
        {source: Amount() for source in sources},
        {source: Ledger() for source in sources},
    )
    holdout: dict[str, list[Document]] = {"validation": [], "test": []}
    total = sum(plan.weights[source] * _text_bytes(path) for source, path in paths.items())
    with _Piles(output / ".piles", math.ceil(total / pile_bytes) or 1, pile_bytes) as piles:
        for document in _sorted_out(paths, plan, counted):
            split = plan.split(document)
            if split != "train":
                holdout[split].append(document)
                continue
            for copy in range(plan.copies(document)):
                piles.add(document, _hash(plan.seed, "shuffle", document.id.encode(), copy.to_bytes(4, "big")))
        for split, found in holdout.items():
            found.sort(key=lambda document: (document.source, document.id))
            documents.write(output / f"{split}.parquet", found)
        with documents.Writer(output / "train.parquet") as writer:
            for document in piles.sorted(sum(amount.bytes for amount in counted.effective.values())):
                writer.write(document)
                if len(counted.sample) < SAMPLE:
                    counted.sample.append(document)
    for source, ledger in counted.ledgers.items():
        ledger.check(f"mix {source}")
    return counted


class _Piles:
    """Documents dealt by place to `number` temporary files in `folder`; waiting rows are a quarter of a pile."""

    def __init__(self, folder: Path, number: int, pile_bytes: int) -> None:
        self._folder, self._limit = folder, pile_bytes // 4
        folder.mkdir()
        self._paths = [folder / f"{pile}.parquet" for pile in range(number)]
        self._files = [pq.ParquetWriter(path, _PILED, compression="zstd") for path in self._paths]
        self._waiting: list[list[tuple[Any, ...]]] = [[] for _ in self._paths]
        self._bytes = 0

    def __enter__(self) -> _Piles:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.close()
        shutil.rmtree(self._folder)

    def add(self, document: Document, place: bytes) -> None:
        """Deal a copy to its pile: the first by place to the first pile."""
        self._waiting[int(_fraction(place) * len(self._paths))].append((*document, place))
        self._bytes += len(document.text)
        if self._bytes > self._limit:
            self._flush()

    def _flush(self) -> None:
        for file, rows in zip(self._files, self._waiting, strict=True):
            if rows:
                columns = zip(*rows, strict=True)
                arrays = [pa.array(column, part.type) for column, part in zip(columns, _PILED, strict=True)]
                file.write_batch(pa.record_batch(arrays, schema=_PILED))
                rows.clear()
        self._bytes = 0

    def sorted(self, total: int) -> Iterator[Document]:
        """All documents by place, one pile after the other; `total` bytes are expected."""
        self._flush()
        with Progress("shuffle", total=total, unit="B") as progress:
            for file, path in zip(self._files, self._paths, strict=True):
                file.close()
                rows = pq.read_table(path).sort_by("place").select(documents.SCHEMA.names)
                path.unlink()
                for batch in rows.to_batches(documents.BATCH_DOCUMENTS):
                    for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                        document = Document._make(row)
                        yield document
                        progress.add(len(document.text.encode()))


def _text_bytes(path: Path) -> int:
    """Bytes of the text column, before compression, as the table's footer states them; no text is read."""
    with pq.ParquetFile(path) as file:
        column = file.schema_arrow.get_field_index("text")
        groups = (file.metadata.row_group(number) for number in range(file.metadata.num_row_groups))
        return sum(int(group.column(column).total_uncompressed_size) for group in groups)


def _sorted_out(paths: Mapping[str, Path], plan: Plan, counted: Mix) -> Iterator[Document]:
    """The documents that enter a split, source by source; counts them and those that do not."""
    unseen = set(plan.reasons)
    for source, path in paths.items():
        ledger = counted.ledgers[source]
        for document in documents.read(path):
            size = len(document.text.encode())
            split = plan.split(document)
            reason = plan.reasons.get(document.id, "")
            unseen.discard(document.id)
            if not reason and split == "train":
                reason = TASK if plan.is_task(document) else "" if plan.copies(document) else WEIGHT
            if reason:
                ledger.remove(size, reason)
                continue
            ledger.keep(size)
            counted.splits[split][source].add(size)
            if split == "train":
                copies = plan.copies(document)
                counted.effective[source].add(size * copies, copies)
            yield document
    if unseen:
        raise MixingError(
            f"{len(unseen)} duplicates are in no source of the mix, '{min(unseen)}' among them; "
            "the cleaned documents have changed since: run the deduplication again"
        )


def table(counted: Mix, weights: Mapping[str, float]) -> list[dict[str, Any]]:
    """The Pile's table 1 for this corpus: unique size, epochs, effective size and share of each source in train."""
    total = sum(amount.bytes for amount in counted.effective.values())
    return [
        {
            "source": source,
            "documents": counted.splits["train"][source].documents,
            "bytes": counted.splits["train"][source].bytes,
            "epochs": float(weights[source]),
            "effective_bytes": effective.bytes,
            "share": effective.bytes / total if total else 0.0,
        }
        for source, effective in counted.effective.items()
    ]


def metrics(corpus: str, plan: Plan, counted: Mix) -> dict[str, Any]:
    """The stage's metrics, for the manifest."""
    train = counted.effective.values()
    return {
        "corpus": corpus,
        "weights": {source: float(weight) for source, weight in plan.weights.items()},
        "table": table(counted, plan.weights),
        "splits": {
            "train": {
                "documents": sum(amount.documents for amount in train),
                "bytes": sum(amount.bytes for amount in train),
            },
            **{
                split: {source: amount.to_dict() for source, amount in counted.splits[split].items()}
                for split in ("validation", "test")
            },
        },
        "ledgers": {source: ledger.to_dict() for source, ledger in counted.ledgers.items()},
        "sample": [{"id": document.id, "excerpt": document.text[:200]} for document in counted.sample],
    }
