"""The page of removed documents: of each corpus, source and reason a few, with what they were removed for.

Cleaning's examples stand in its manifests; of the duplicates and of what mixing left out, the first of each source and
reason are read from the tables that these stages wrote. Those tables are in an order that knows no time, so the page
is the same for the same results. The beginnings of their texts are looked up where the cleaned source is small enough
to be searched in a moment. All other documents are looked up by `python -m pileline.why`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pileline.report.read import Results, Stage
from pileline.report.sections.ledgers import filter_of
from pileline.report.tables import decimal, size

EACH = 4  # documents of a source and reason
EXCERPT = 200  # characters
SEARCHED_BYTES = 200_000_000  # of a cleaned source's tables, up to which texts are looked up
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
            found[stage.last] = [
                Group(source, _with_excerpts(by_source[source], _clean_stage(results, stage, source)))
                for source in results.in_order(by_source)
            ]
    return found


def _clean_stage(results: Results, mixed: Stage, source: str) -> Stage | None:
    """The cleaning of a corpus's source."""
    recipe = mixed.metrics.get("recipe") or results.part("corpora", mixed.last).get("recipe")
    return results.get(f"clean/{recipe}/{source}")


def _with_excerpts(documents: list[Removed], cleaned: Stage | None) -> list[Removed]:
    """The documents, with the beginnings of the texts that cleaning kept."""
    wanted = pa.array([document.id for document in documents if not document.excerpt], pa.string())
    paths = [part.folder / "kept.parquet" for part in cleaned.each if "kept.parquet" in part.files] if cleaned else []
    paths = [path for path in paths if path.exists()]
    if sum(path.stat().st_size for path in paths) > SEARCHED_BYTES:
        return documents
    found: dict[str, str] = {}
    for path in paths if len(wanted) else []:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                if pc.any(pc.is_in(file.read_row_group(group, columns=["id"])["id"], wanted)).as_py():
                    rows = file.read_row_group(group, columns=["id", "text"])
                    rows = rows.filter(pc.is_in(rows["id"], wanted))
                    texts = pc.utf8_slice_codeunits(rows["text"], 0, EXCERPT)
                    found |= dict(zip(rows["id"].to_pylist(), texts.to_pylist(), strict=True))
    return [replace(document, excerpt=document.excerpt or found.get(document.id, "")) for document in documents]


def _cleaned(results: Results, mixed: Stage) -> Iterator[Removed]:
    """What cleaning removed of the sources of a corpus."""
    for row in mixed.metrics.get("table", []):
        stage = _clean_stage(results, mixed, row["source"])
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
