"""The two passes over the cleaned tables: `survey` sizes the sources, `mix` writes the splits and what leaves here.

Each pass gives every table to a process of its own; what they count adds up in any order. With one thread, or with
little to read, nothing is started, and the same functions run here.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Mapping
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
from pileline.mixing.deal import REMOVED, SCHEMAS, SPLITS, Table, deal
from pileline.mixing.epochs import Epochs
from pileline.mixing.judge import judge
from pileline.mixing.plan import MixingError, Plan
from pileline.mixing.supply import Supply, interval
from pileline.progress import Progress

SAMPLE = 10  # first documents of the train split that the metrics quote
EXCERPT = 200  # characters
PROCESS_BYTES = 32_000_000  # of files or piles, from which on another process is worth its start
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


def tables(clean: str | Path, sources: Iterable[str], numbers: Mapping[str, int]) -> dict[str, list[Path]]:
    """The kept documents of each source, a table a part, below `clean/{source}/{part}/`; each is checked by its hash.

    `numbers` is the number of parts of a source, one if it is not stated. Raises `ManifestError` where a part has not
    been cleaned.
    """
    return {
        source: [
            manifest.read(folder, "clean").path("kept.parquet")
            for folder in parts.folders(Path(clean) / source, numbers.get(source, 1))
        ]
        for source in sorted(sources)
    }


def survey(found: Tables, plan: Plan, threads: int = 1) -> dict[str, Supply]:
    """How much training text each source has, duplicates and boilerplate aside."""
    supply = {source: Supply() for source in plan.sources}
    work = [(source, path) for source in plan.sources for path in found[source]]
    measured = Parallel(n_jobs=_processes(threads, work), return_as="generator")(
        delayed(_measure)(path, source, plan) for source, path in work
    )
    with Progress("survey", total=len(work), unit="tables") as progress:
        for (source, _), part in zip(work, measured, strict=True):
            supply[source].merge(part)
            progress.add(1)
    return supply


def _processes(threads: int, work: list[tuple[str, Path]]) -> int:
    """How many processes read these tables."""
    return _worth(threads, len(work), sum(path.stat().st_size for _, path in work))


def _worth(threads: int, pieces: int, size: int) -> int:
    """At most `threads` processes, and no more than there are pieces of work and bytes for."""
    return max(1, min(threads, pieces, math.ceil(size / PROCESS_BYTES)))


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
    """Write train.parquet, validation.parquet, test.parquet and removed.parquet to `output`; return what was counted.

    Raises `MixingError` where a duplicate is in no source, as after a change of the cleaning without a new
    deduplication.
    """
    output = Path(output)
    scratch = output / ".piles"
    scratch.mkdir()
    held = sum(plan.holdout.values()) * epochs.effective
    sizes = {"train": epochs.effective, "validation": held, "test": held, REMOVED: 0}  # a wrong guess costs a pass
    deals = {name: piles.Deal.of(math.ceil(size), pile_bytes) for name, size in sizes.items()}
    work = [(source, path) for source in plan.sources for path in found[source]]
    counted = Mix.of(plan.sources)
    seen = np.zeros(len(plan.removals), bool)
    dealt: dict[str, list[piles.Dealt]] = {name: [] for name in deals}
    made = Parallel(n_jobs=_processes(threads, work), return_as="generator")(
        delayed(deal)(path, source, plan, epochs, deals, scratch / f"table-{number:06d}")
        for number, (source, path) in enumerate(work)
    )
    with Progress("deal", total=len(work), unit="tables") as progress:
        for table in made:
            _count(counted, table)
            seen[table.found] = True
            for name, file in table.dealt.items():
                dealt[name].append(file)
            progress.add(1)
    _check(plan, counted, seen)
    for name, files in dealt.items():
        _write(name, files, deals[name], output / f"{name}.parquet", counted, threads)
    shutil.rmtree(scratch)
    return counted


def _count(counted: Mix, table: Table) -> None:
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


def _write(name: str, dealt: list[piles.Dealt], deal: piles.Deal, path: Path, counted: Mix, threads: int) -> None:
    """Sort the piles of an output, each in a process, and write them one behind the other."""
    found = piles.collect(dealt)
    whole = sum(pile.bytes for pile in found)
    sorted_piles = Parallel(
        n_jobs=_worth(threads, len(found), whole), return_as="generator", pre_dispatch="2 * n_jobs"
    )(
        delayed(piles.sort)(pile, deal, path.parent / ".piles" / f"{name}-{number:03d}")
        for number, pile in enumerate(found)
    )
    with (
        documents.Writer(path, SCHEMAS[name]) as writer,
        Progress(f"sort {name}", total=whole, unit="B") as progress,
    ):
        for pile, files in zip(found, sorted_piles, strict=True):
            for batch in (batch for file in files for batch in piles.read(file)):
                writer.write_batch(batch)
                if name == "train" and len(counted.sample) < SAMPLE:
                    counted.sample += _shown(batch.slice(0, SAMPLE - len(counted.sample)))
            progress.add(pile.bytes)


def _shown(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    return [
        {"id": name, "excerpt": text[:EXCERPT]}
        for name, text in zip(batch.column("id").to_pylist(), batch.column("text").to_pylist(), strict=True)
    ]
