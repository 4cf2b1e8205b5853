"""The two passes over the cleaned tables: `survey` sizes the sources, `mix` writes the three splits.

Each pass gives every table to a process of its own; what they count adds up in any order. With one thread nothing is
started, and the same functions run here.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from joblib import Parallel, delayed
from numpy.typing import NDArray

from pileline import documents, manifest, parts
from pileline.ledger import Amount, Ledger
from pileline.mixing import piles
from pileline.mixing.epochs import Epochs
from pileline.mixing.judge import Judged, judge
from pileline.mixing.plan import CAP, WEIGHT, MixingError, Plan, fraction, hashed
from pileline.mixing.supply import Supply, interval
from pileline.progress import Progress

SPLITS = ("train", "validation", "test")
SAMPLE = 10  # first documents of the train split that the metrics quote
EXCERPT = 200  # characters
Tables = Mapping[str, list[Path]]


@dataclass
class Mix:
    """What a mix has counted, by source: unique documents of each split, effective train documents, ledgers."""

    splits: dict[str, dict[str, Amount]]
    effective: dict[str, Amount]
    ledgers: dict[str, Ledger]
    sample: list[dict[str, str]] = field(default_factory=list)

    @classmethod
    def of(cls, sources: list[str]) -> Mix:
        """Nothing counted yet."""
        return cls(
            {split: {source: Amount() for source in sources} for split in SPLITS},
            {source: Amount() for source in sources},
            {source: Ledger() for source in sources},
        )


@dataclass
class _Table:
    """What one process made of one table: its counts, the duplicates it met, and where its documents lie, by split."""

    source: str
    splits: dict[str, Amount]
    effective: Amount
    ledger: Ledger
    found: NDArray[np.int64]
    dealt: dict[str, piles.Dealt]


def tables(clean: str | Path, numbers: Mapping[str, int]) -> dict[str, list[Path]]:
    """The kept documents of each source, a table a part, below `clean/{source}/{part}/`; each is checked by its hash.

    `numbers` is the number of parts of each source. Raises `ManifestError` where a part has not been cleaned.
    """
    return {
        source: [
            manifest.read(folder, "clean").path("kept.parquet")
            for folder in parts.folders(Path(clean) / source, numbers[source])
        ]
        for source in sorted(numbers)
    }


def survey(found: Tables, plan: Plan, threads: int = 1) -> dict[str, Supply]:
    """How much training text each source has, duplicates and boilerplate aside."""
    supply = {source: Supply() for source in plan.sources}
    work = [(source, path) for source in plan.sources for path in found[source]]
    measured = Parallel(n_jobs=threads, return_as="generator")(
        delayed(_measure)(path, source, plan) for source, path in work
    )
    with Progress("survey", total=len(work), unit="tables") as progress:
        for (source, _), part in zip(work, measured, strict=True):
            supply[source].merge(part)
            progress.add(1)
    return supply


def _measure(path: Path, source: str, plan: Plan) -> Supply:
    supply = Supply()
    capped = plan.cap(source) is not None
    for batch in judge(path, source, plan):
        for key, size, split, reason in zip(batch.keys, batch.size.tolist(), batch.split, batch.reason, strict=True):
            if split == "train" and not reason:
                supply.add(size, interval(plan.seed, key) if capped else None)
    return supply


def mix(
    found: Tables, plan: Plan, epochs: Epochs, output: str | Path, threads: int = 1, pile_bytes: int = piles.PILE_BYTES
) -> Mix:
    """Write train.parquet, validation.parquet and test.parquet to `output`; return what was counted.

    Raises `MixingError` where a duplicate is in no source, as after a change of the cleaning without a new
    deduplication.
    """
    output = Path(output)
    scratch = output / ".piles"
    scratch.mkdir()
    held = sum(plan.holdout.values()) * epochs.effective
    deals = {
        split: piles.Deal.of(math.ceil(epochs.effective if split == "train" else held), pile_bytes) for split in SPLITS
    }
    work = [(source, path) for source in plan.sources for path in found[source]]
    counted = Mix.of(plan.sources)
    seen = np.zeros(len(plan.removals), bool)
    dealt: dict[str, list[piles.Dealt]] = {split: [] for split in SPLITS}
    made = Parallel(n_jobs=threads, return_as="generator")(
        delayed(_deal)(path, source, plan, epochs, deals, scratch / f"table-{number:06d}")
        for number, (source, path) in enumerate(work)
    )
    with Progress("deal", total=len(work), unit="tables") as progress:
        for table in made:
            _count(counted, table)
            seen[table.found] = True
            for split, file in table.dealt.items():
                dealt[split].append(file)
            progress.add(1)
    _check(plan, counted, seen)
    for split in SPLITS:
        _write(split, dealt[split], deals[split], output / f"{split}.parquet", counted, threads)
    shutil.rmtree(scratch)
    return counted


def _count(counted: Mix, table: _Table) -> None:
    """Add a table's counts to its source's."""
    for split, amount in table.splits.items():
        counted.splits[split][table.source].add(amount.bytes, amount.documents)
    counted.effective[table.source].add(table.effective.bytes, table.effective.documents)
    ledger = counted.ledgers[table.source]
    ledger.entered.add(table.ledger.entered.bytes, table.ledger.entered.documents)
    ledger.kept.add(table.ledger.kept.bytes, table.ledger.kept.documents)
    ledger.rewritten += table.ledger.rewritten
    for reason, amount in table.ledger.removed.items():
        ledger.removed.setdefault(reason, Amount()).add(amount.bytes, amount.documents)


def _check(plan: Plan, counted: Mix, seen: NDArray[np.bool_]) -> None:
    """Hold the books to their promise, and the duplicates to the documents."""
    for source, ledger in counted.ledgers.items():
        ledger.check(f"mix {source}")
    unseen = np.flatnonzero(~seen)
    if len(unseen):
        raise MixingError(
            f"{len(unseen)} duplicates are in no source of the mix, '{plan.removals.example(unseen)}' among them; "
            "the cleaned documents have changed since: run the deduplication again"
        )


def copies(plan: Plan, key: bytes, epochs: float) -> int:
    """How many times the train split holds a document: floor(epochs), or one more by a hash of seed and key."""
    whole = math.floor(epochs)
    return whole + (fraction(hashed(plan.seed, "epoch", key)) < epochs - whole)


def _deal(
    path: Path, source: str, plan: Plan, epochs: Epochs, deals: Mapping[str, piles.Deal], scratch: Path
) -> _Table:
    """Deal one table's documents, as often as they stand in their split, to files named after `scratch`."""
    dealers = {split: piles.Dealer(scratch.with_name(f"{scratch.name}-{split}"), deals[split]) for split in SPLITS}
    table = _Table(source, {split: Amount() for split in SPLITS}, Amount(), Ledger(), np.empty(0, np.int64), {})
    met = [table.found]
    with dealers["train"], dealers["validation"], dealers["test"]:
        for batch in judge(path, source, plan):
            met.append(batch.found)
            rows = _enter(batch, table, plan, epochs)
            for split, (numbers, places) in rows.items():
                for part in _pieces(batch, numbers, places, deals[split].pile_bytes):
                    dealers[split].add(part)
    table.found = np.concatenate(met)
    table.dealt = {split: dealer.dealt for split, dealer in dealers.items()}
    return table


def _enter(batch: Judged, table: _Table, plan: Plan, epochs: Epochs) -> dict[str, tuple[list[int], list[bytes]]]:
    """Count a batch; for each split the row of every copy that enters it, and the copy's place."""
    rows: dict[str, tuple[list[int], list[bytes]]] = {split: ([], []) for split in SPLITS}
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
            continue
        table.ledger.keep(entered, size)
        table.splits[split].add(size)
        numbers, places = rows[split]
        numbers += [row] * number
        if split == "train":
            table.effective.add(size * number, number)
            places += [hashed(plan.seed, "shuffle", name.encode(), copy.to_bytes(4, "big")) for copy in range(number)]
        else:
            places.append(_holdout_place(order, len(plan.sources), name))
    return rows


def _holdout_place(order: int, sources: int, name: str) -> bytes:
    """Source by source, and within one by a hash of the id that knows no seed: every corpus has the same holdout."""
    digest = int.from_bytes(hashed(0, "holdout", name.encode()), "big")
    return (((order << 128) + digest) // sources).to_bytes(16, "big")


def _pieces(batch: Judged, numbers: list[int], places: list[bytes], most: int) -> Iterator[pa.RecordBatch]:
    """The rows with these numbers, each with its place, in batches of about `most` bytes however often rows repeat."""
    ends = np.cumsum(batch.size[numbers])
    start = 0
    while start < len(numbers):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + most, "right")))
        rows = batch.rows.take(pa.array(numbers[start:stop], pa.int64()))
        yield pa.record_batch([*rows.columns, pa.array(places[start:stop], pa.binary(16))], schema=piles.SCHEMA)
        start = stop


def _write(split: str, dealt: list[piles.Dealt], deal: piles.Deal, path: Path, counted: Mix, threads: int) -> None:
    """Sort the piles of a split, each in a process, and write them one behind the other."""
    found = piles.collect(dealt)
    sorted_piles = Parallel(n_jobs=threads, return_as="generator", pre_dispatch="2 * n_jobs")(
        delayed(piles.sort)(pile, deal, dealt[0].path.with_name(f"{split}-{number:03d}"))
        for number, pile in enumerate(found)
    )
    with (
        documents.Writer(path) as writer,
        Progress(f"shuffle {split}", total=sum(pile.bytes for pile in found), unit="B") as progress,
    ):
        for pile, files in zip(found, sorted_piles, strict=True):
            for batch in (batch for file in files for batch in piles.read(file)):
                writer.write_batch(batch)
                if split == "train" and len(counted.sample) < SAMPLE:
                    counted.sample += _shown(batch.slice(0, SAMPLE - len(counted.sample)))
            progress.add(pile.bytes)


def _shown(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    return [
        {"id": name, "excerpt": text[:EXCERPT]}
        for name, text in zip(batch.column("id").to_pylist(), batch.column("text").to_pylist(), strict=True)
    ]
