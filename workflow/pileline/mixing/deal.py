"""What one process makes of one table: its documents, as often as they stand in their split, dealt to piles."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pileline import documents
from pileline.ledger import Amount, Ledger
from pileline.mixing import piles
from pileline.mixing.epochs import Epochs
from pileline.mixing.judge import Judged, judge
from pileline.mixing.plan import CAP, WEIGHT, Plan, fraction, hashed
from pileline.mixing.supply import interval

SPLITS = ("train", "validation", "test")
REMOVED = "removed"  # beside the splits: the documents that leave at this stage, duplicates apart
REMOVED_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ]
)
SCHEMAS = dict.fromkeys(SPLITS, documents.SCHEMA) | {REMOVED: REMOVED_SCHEMA}


@dataclass
class Table:
    """What was made of a table: its counts, the duplicates it met, and where its rows lie, by output."""

    source: str
    splits: dict[str, Amount] = field(default_factory=lambda: {split: Amount() for split in SPLITS})
    effective: Amount = field(default_factory=Amount)
    ledger: Ledger = field(default_factory=Ledger)
    found: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    dealt: dict[str, piles.Dealt] = field(default_factory=dict)


@dataclass
class _Rows:
    """Rows of a batch that go to one output: their numbers, repeated for copies, their places, why they leave."""

    numbers: list[int] = field(default_factory=list)
    places: list[bytes] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)


def copies(plan: Plan, key: bytes, epochs: float) -> int:
    """How many times the train split holds a document: floor(epochs), or one more by a hash of seed and key."""
    whole = math.floor(epochs)
    return whole + (fraction(hashed(plan.seed, "epoch", key)) < epochs - whole)


def deal(path: Path, source: str, plan: Plan, epochs: Epochs, deals: Mapping[str, piles.Deal], scratch: Path) -> Table:
    """Deal the documents of the table at `path` to a file for each output, named after `scratch`."""
    table = Table(source)
    met = [table.found]
    with ExitStack() as stack:
        dealers = {
            name: stack.enter_context(piles.Dealer(Path(f"{scratch}-{name}"), schema.append(piles.PLACE), deals[name]))
            for name, schema in SCHEMAS.items()
        }
        for batch in judge(path, source, plan):
            met.append(batch.found)
            rows = _enter(batch, table, plan, epochs)
            for split in SPLITS:
                for part in _documents(batch, rows[split], deals[split].pile_bytes):
                    dealers[split].add(part)
            dealers[REMOVED].add(_removed(batch, rows[REMOVED], source))
    table.found = np.concatenate(met)
    table.dealt = {name: dealer.dealt for name, dealer in dealers.items()}
    return table


def _enter(batch: Judged, table: Table, plan: Plan, epochs: Epochs) -> dict[str, _Rows]:
    """Count a batch, and say which of its rows go where."""
    rows = {name: _Rows() for name in SCHEMAS}
    source, order = table.source, plan.sources.index(table.source)
    capped = plan.cap(source) is not None
    for row, (name, key, entered, size, split, reason) in enumerate(
        zip(batch.ids, batch.keys, batch.entered.tolist(), batch.size.tolist(), batch.split, batch.reason, strict=True)
    ):
        number = 1 if split != "train" else copies(plan, key, epochs.epochs[source])
        if not reason and split == "train":
            if capped and interval(plan.seed, key) >= epochs.intervals[source]:
                reason = CAP
            elif not number:
                reason = WEIGHT
        if reason:
            table.ledger.remove(entered, reason)
            if reason not in plan.removals.names:  # duplicates have their own table
                rows[REMOVED].numbers.append(row)
                rows[REMOVED].places.append(_place_by_source(order, len(plan.sources), name))
                rows[REMOVED].reasons.append(reason)
            continue
        table.ledger.keep(entered, size)
        table.splits[split].add(size)
        rows[split].numbers += [row] * number
        if split == "train":
            table.effective.add(size * number, number)
            rows[split].places += [
                hashed(plan.seed, "shuffle", name.encode(), copy.to_bytes(4, "big")) for copy in range(number)
            ]
        else:
            rows[split].places.append(_place_by_source(order, len(plan.sources), name))
    return rows


def _place_by_source(order: int, sources: int, name: str) -> bytes:
    """Source by source, and within one by a hash of the id that knows no seed: every corpus has the same holdout."""
    digest = int.from_bytes(hashed(0, "by source", name.encode()), "big")
    return (((order << 128) + digest) // sources).to_bytes(16, "big")


def _documents(batch: Judged, rows: _Rows, most: int) -> Iterator[pa.RecordBatch]:
    """The rows, each with its place, in batches of about `most` bytes however often rows repeat."""
    ends = np.cumsum(batch.size[rows.numbers])
    start = 0
    while start < len(rows.numbers):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + most, "right")))
        taken = batch.rows.take(pa.array(rows.numbers[start:stop], pa.int64()))
        places = pa.array(rows.places[start:stop], piles.PLACE.type)
        yield pa.record_batch([*taken.columns, places], schema=documents.SCHEMA.append(piles.PLACE))
        start = stop


def _removed(batch: Judged, rows: _Rows, source: str) -> pa.RecordBatch:
    columns = {
        "id": [batch.ids[number] for number in rows.numbers],
        "source": [source] * len(rows.numbers),
        "bytes": batch.entered[rows.numbers],
        "reason": rows.reasons,
        "place": rows.places,
    }
    schema = REMOVED_SCHEMA.append(piles.PLACE)
    return pa.record_batch([pa.array(columns[part.name], part.type) for part in schema], schema=schema)
