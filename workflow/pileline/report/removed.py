"""The page of removed documents: of each corpus, source and reason a few, with what they were removed for.

Cleaning's examples stand in its manifests; of the duplicates and of what mixing left out, the first of each source and
reason are read from the tables that these stages wrote. Those tables are in an order that knows no time, so the page
is the same for the same results. All other documents are looked up by `python -m pileline.why`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from pileline.report.read import Results, Stage
from pileline.report.sections.ledgers import filter_of
from pileline.report.tables import decimal, size

EACH = 4  # documents of a source and reason
_BATCH = 65_536  # rows


@dataclass(frozen=True)
class Removed:
    """A removed document: which, at which stage, why; a duplicate's partner; the beginning of its text if known."""

    id: str
    source: str
    stage: str
    reason: str
    partner: str = ""
    similarity: str = ""
    size: str = ""
    excerpt: str = ""


@dataclass(frozen=True)
class Group:
    """The removed documents of one source of a corpus, in the order of stages and reasons."""

    source: str
    documents: list[Removed]


def corpora(results: Results) -> dict[str, list[Group]]:
    """For each corpus the sources that lost something."""
    found = {}
    for stage in results.of("mix"):
        documents = [*_cleaned(results, stage), *_duplicates(results, stage), *_left_out(stage)]
        by_source: dict[str, list[Removed]] = {}
        for document in documents:
            by_source.setdefault(document.source, []).append(document)
        if by_source:
            found[stage.last] = [Group(source, by_source[source]) for source in results.in_order(by_source)]
    return found


def _cleaned(results: Results, mixed: Stage) -> Iterator[Removed]:
    """What cleaning removed of the sources of a corpus."""
    recipe = mixed.metrics.get("recipe") or results.part("corpora", mixed.last).get("recipe")
    for row in mixed.metrics.get("table", []):
        stage = results.get(f"clean/{recipe}/{row['source']}")
        examples = stage.metrics.get("examples_removed", {}) if stage else {}
        for reason, entries in sorted(examples.items(), key=lambda item: (filter_of(item[0]), item[0])):
            for entry in entries[:EACH]:
                yield Removed(entry["id"], row["source"], "cleaning", reason, excerpt=entry.get("excerpt", ""))


def _duplicates(results: Results, mixed: Stage) -> Iterator[Removed]:
    """What deduplication removed."""
    stage = results.get(f"duplicates/{mixed.last}")
    if stage is None:
        return
    excerpts = {pair.get("removed"): pair.get("excerpt_removed", "") for pair in stage.metrics.get("pairs", [])}
    for row in _first(stage, "duplicates.parquet"):
        yield Removed(
            row["id"],
            row["source"],
            "deduplication",
            row["reason"],
            row["partner"],
            decimal(row["similarity"]),
            size(row["bytes"]),
            excerpts.get(row["id"], ""),
        )


def _left_out(mixed: Stage) -> Iterator[Removed]:
    """What mixing left out."""
    for row in _first(mixed, "removed.parquet"):
        yield Removed(row["id"], row["source"], "mixing", row["reason"], size=size(row["bytes"]))


def _first(stage: Stage, name: str) -> Iterator[dict[str, Any]]:
    """The first rows of each source and reason of a stage's table, as many as its books have of them, up to `EACH`."""
    path = stage.folder / name
    if name not in stage.files or not path.exists():
        return
    missing = {
        (source, reason): min(EACH, amount["documents"])
        for source, ledger in stage.metrics.get("ledgers", {}).items()
        for reason, amount in ledger["removed"].items()
    }
    chosen: dict[tuple[str, str], list[dict[str, Any]]] = {key: [] for key in missing}
    with pq.ParquetFile(path) as file:
        present = set(_reasons(file))
        missing = {key: number for key, number in missing.items() if key[1] in present}
        for batch in file.iter_batches(batch_size=_BATCH):
            keys = zip(batch.column("source").to_pylist(), batch.column("reason").to_pylist(), strict=True)
            rows = []
            for row, key in enumerate(keys):
                if missing.get(key, 0) > 0:
                    missing[key] -= 1
                    rows.append((key, row))
            for key, row in rows:
                chosen[key] += batch.slice(row, 1).to_pylist()
            if not any(missing.values()):
                break
    for rows_of in chosen.values():
        yield from rows_of


def _reasons(file: pq.ParquetFile) -> Iterator[str]:
    """The reasons that a table has; those of its stage's books that it has not stand in another stage's table."""
    for batch in file.iter_batches(batch_size=_BATCH, columns=["reason"]):
        yield from batch.column(0).unique().to_pylist()
