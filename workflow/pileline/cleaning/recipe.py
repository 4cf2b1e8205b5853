"""A recipe at work: every document of a source is kept or removed for a named reason, and the books balance.

The order is fixed: what could not be read and what is empty goes first, then what `fraction` does not take, then
come the recipe's filters. Whether a document is taken hangs on a hash of its key, so copies of one text stay
together, and every recipe of one seed sees the same documents.
"""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from pileline import documents
from pileline.cleaning.filters import Step
from pileline.cleaning.removal import Removal
from pileline.documents import Document
from pileline.ledger import Amount, Ledger
from pileline.progress import Progress
from pileline.sources import EMPTY, GAPS, MALFORMED, UNDECODABLE, Extracted

KEPT, REMOVED = "kept.parquet", "removed.parquet"
NOT_SAMPLED = "not sampled"
EXCERPT = 200  # characters
EXAMPLES = 3  # of each reason
SAMPLE = 8  # kept documents shown
UNREADABLE_LISTED = 100
QUANTILES = {"minimum": 0.0, "p05": 0.05, "p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95, "maximum": 1.0}


@dataclass
class Passage:
    """What one filter did. Bytes in = bytes removed + bytes rewritten + bytes in of the next filter."""

    filter: str
    documents_in: int = 0
    bytes_in: int = 0
    documents_removed: int = 0
    bytes_removed: int = 0
    bytes_rewritten: int = 0


@dataclass
class Cleaned:
    """What a recipe made of a source; `metrics` is what the manifest says of it."""

    source: str
    steps: list[Step]
    ledger: Ledger = field(default_factory=Ledger)
    passages: list[Passage] = field(default_factory=list)
    unreadable: list[dict[str, str]] = field(default_factory=list)
    removed: dict[str, _Sample] = field(default_factory=dict)
    kept: _Sample = field(default_factory=lambda: _Sample(SAMPLE))
    lengths: dict[str, float] = field(default_factory=dict)  # quantiles of characters of the kept documents

    def metrics(self, recipe: str) -> dict[str, Any]:
        return {
            "source": self.source,
            "recipe": recipe,
            "filters": [step.settings for step in self.steps],
            "ledger": self.ledger.to_dict(),
            "steps": [asdict(passage) for passage in self.passages],
            "unreadable": self.unreadable,
            "examples_removed": {reason: sample.shown() for reason, sample in sorted(self.removed.items())},
            "lengths": self.lengths,
            "sample": self.kept.shown(),
        }


class _Sample:
    """The `most` documents whose ids have the smallest hashes: a fair sample that knows no order and no clock."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._found: list[tuple[bytes, str, str]] = []

    def add(self, identity: str, text: str) -> None:
        place = hashlib.blake2b(identity.encode(), digest_size=8).digest()
        if len(self._found) < self._most or place < self._found[-1][0]:
            bisect.insort(self._found, (place, identity, text[:EXCERPT]))
            del self._found[self._most :]

    def shown(self) -> list[dict[str, str]]:
        return [{"id": identity, "excerpt": excerpt} for _, identity, excerpt in self._found]


def taken(key: bytes, fraction: float, seed: int) -> bool:
    """Whether a sample of `fraction` of the documents has the one with this key; independent of its split."""
    digest = hashlib.blake2b(key, digest_size=8, key=str(seed).encode(), person=b"fraction").digest()
    return int.from_bytes(digest, "big") < fraction * 2.0**64


def clean(
    extracted: Iterable[Extracted], source: str, steps: list[Step], output: str | Path, fraction: float, seed: int
) -> Cleaned:
    """Run the steps over a source's documents; write `kept.parquet` and `removed.parquet` below `output`.

    Both tables are in the order of `extracted`, and `key` is of the text as extracted. Removed documents keep that
    text too; those that could not be read have none. Raises `LedgerError` if the books do not balance.
    """
    output = Path(output)
    made = Cleaned(source, steps, passages=[Passage(step.settings["filter"]) for step in steps])
    with (
        documents.Writer(output / KEPT) as kept,
        documents.Writer(output / REMOVED, documents.REMOVED_SCHEMA) as removed,
        Progress(f"cleaning {source}", unit="B") as progress,
    ):
        for item in extracted:
            progress.add(item.size)
            if item.reason == GAPS:  # bytes without a document
                made.ledger.entered.add(item.size, documents=0)
                made.ledger.removed.setdefault(GAPS, Amount()).add(item.size, documents=0)
                continue
            document = Document(item.id, source, item.text, documents.key_of(item.text), item.metadata)
            outcome = _judge(item, document.key, made, fraction, seed)
            if isinstance(outcome, Removal):
                made.ledger.remove(item.size, outcome.reason)
                made.removed.setdefault(outcome.reason, _Sample(EXAMPLES)).add(item.id, item.text)
                removed.write((*document, outcome.reason))
            else:
                made.ledger.keep(item.size, len(outcome.encode()))
                made.kept.add(item.id, outcome)
                kept.write(document._replace(text=outcome))
    made.ledger.check(f"cleaning {source}")
    made.lengths = _quantiles(characters(output / KEPT))
    return made


def _judge(item: Extracted, key: bytes, made: Cleaned, fraction: float, seed: int) -> str | Removal:
    """The text as the recipe leaves it, or why the document goes."""
    if item.reason is not None:
        if item.reason in (UNDECODABLE, MALFORMED) and len(made.unreadable) < UNREADABLE_LISTED:
            made.unreadable.append({"member": item.member, "id": item.id, "reason": item.reason})
        return Removal(item.reason)
    if not taken(key, fraction, seed):
        return Removal(NOT_SAMPLED)
    text, size = item.text, item.size
    for step, passage in zip(made.steps, made.passages, strict=True):
        passage.documents_in += 1
        passage.bytes_in += size
        outcome = step.filter.apply(text)
        if isinstance(outcome, str) and not outcome.strip():
            outcome = Removal(EMPTY)  # nothing was left after the repair
        if isinstance(outcome, Removal):
            passage.documents_removed += 1
            passage.bytes_removed += size
            return outcome
        if outcome != text:
            rewritten = len(outcome.encode())
            passage.bytes_rewritten += size - rewritten
            text, size = outcome, rewritten
    return text


def characters(table: str | Path) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The number of characters of each document of a table, int64 [documents]."""
    counts = [
        pc.utf8_length(batch.column("text")).to_numpy(zero_copy_only=False)
        for batch in documents.batches(table, ["text"])
    ]
    return np.concatenate(counts).astype(np.int64) if counts else np.zeros(0, np.int64)


def _quantiles(lengths: np.ndarray[Any, np.dtype[np.int64]]) -> dict[str, float]:
    if len(lengths) == 0:
        return {}
    found = {name: float(np.quantile(lengths, share)) for name, share in QUANTILES.items()}
    return found | {"mean": round(float(lengths.mean()), 2)}
