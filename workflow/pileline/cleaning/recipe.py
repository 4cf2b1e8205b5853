"""A recipe at work: every document of a part is kept or removed for a named reason, and the books balance.

The order is fixed: what could not be read and what is empty goes first, then what `fraction` does not take, then
come the recipe's filters. Whether a document is taken hangs on a hash of its key, so copies of one text stay
together, and every recipe of one seed sees the same documents. Documents go through the filters in groups, since
numpy is quicker on many; a group is only so large that memory does not grow with the source.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pileline import documents
from pileline.cleaning.filters import Step
from pileline.cleaning.lengths import Lengths
from pileline.cleaning.removal import CleaningError, Removal
from pileline.cleaning.sample import Sample
from pileline.documents import Document
from pileline.ledger import Amount, Ledger
from pileline.progress import Progress
from pileline.sources import EMPTY, GAPS, Extracted, Extraction

KEPT, REMOVED = "kept.parquet", "removed.parquet"
NOT_SAMPLED = "not sampled"
EXAMPLES = 3  # of each reason
SAMPLE = 8  # kept documents shown
UNREADABLE_LISTED = 100
GROUP_CHARACTERS = 1 << 18
GROUP_DOCUMENTS = 512


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
    """What a recipe made of a part of a source; `metrics` is what the manifest says of it.

    Parts add up: counts by sums, samples by their places (`sample.py`), lengths by their bins (`lengths.py`).
    """

    source: str
    steps: list[Step]
    ledger: Ledger = field(default_factory=Ledger)
    passages: list[Passage] = field(default_factory=list)
    read: dict[str, Any] = field(default_factory=dict)  # members and records that the extraction counted
    unreadable: Sample = field(default_factory=lambda: Sample(UNREADABLE_LISTED))
    removed: dict[str, Sample] = field(default_factory=dict)
    kept: Sample = field(default_factory=lambda: Sample(SAMPLE))
    lengths: Lengths = field(default_factory=Lengths)  # of kept documents
    removed_lengths: Lengths = field(default_factory=Lengths)

    def metrics(self, recipe: str, part: str = "1-of-1") -> dict[str, Any]:
        return {
            "source": self.source,
            "part": part,
            "recipe": recipe,
            "filters": [step.settings for step in self.steps],
            "ledger": self.ledger.to_dict(),
            "steps": [asdict(passage) for passage in self.passages],
            **self.read,
            "unreadable": self.unreadable.shown(),
            "examples_removed": {reason: sample.shown() for reason, sample in sorted(self.removed.items())},
            "lengths": self.lengths.to_dict(),
            "sample": self.kept.shown(),
        }

    def remove(self, item: Extracted, reason: str) -> None:
        self.ledger.remove(item.size, reason)
        self.removed.setdefault(reason, Sample(EXAMPLES)).add(item.id, excerpt=item.text)
        self.removed_lengths.add(len(item.text))

    def keep(self, item: Extracted, text: str) -> None:
        self.ledger.keep(item.size, len(text.encode()))
        self.kept.add(item.id, excerpt=text)
        self.lengths.add(len(text))


def taken(key: bytes, fraction: float, seed: int) -> bool:
    """Whether a sample of `fraction` of the documents has the one with this key; independent of its split."""
    digest = hashlib.blake2b(key, digest_size=8, key=str(seed).encode(), person=b"fraction").digest()
    return int.from_bytes(digest, "big") < fraction * 2.0**64


def clean(
    extracted: Iterable[Extracted], source: str, steps: list[Step], output: str | Path, fraction: float, seed: int
) -> Cleaned:
    """Run the steps over a source's documents; write `kept.parquet` and `removed.parquet` below `output`.

    Both tables are in the order of `extracted`, and `key` is of the text as extracted. Removed documents keep that
    text too; those that could not be read have none. Raises `LedgerError` if the books do not balance, and
    `CleaningError` with the document's id where a user's own filter fails.
    """
    output = Path(output)
    made = Cleaned(source, steps, passages=[Passage(step.settings["filter"]) for step in steps])
    with (
        documents.Writer(output / KEPT) as kept,
        documents.Writer(output / REMOVED, documents.REMOVED_SCHEMA) as removed,
        Progress(f"cleaning {source}", unit="B") as progress,
    ):
        for group in _groups(_without_gaps(extracted, made, progress)):
            keys = [documents.key_of(item.text) for item in group]
            for item, key, outcome in zip(group, keys, _judge(group, keys, made, fraction, seed), strict=True):
                document = Document(item.id, source, item.text, key, item.metadata)
                if isinstance(outcome, Removal):
                    made.remove(item, outcome.reason)
                    removed.write((*document, outcome.reason))
                else:
                    made.keep(item, outcome)
                    kept.write(document._replace(text=outcome))
    made.ledger.check(f"cleaning {source}")
    if isinstance(extracted, Extraction):
        made.read = extracted.counts()
    return made


def _without_gaps(extracted: Iterable[Extracted], made: Cleaned, progress: Progress) -> Iterator[Extracted]:
    """The documents; bytes without a document are booked here."""
    for item in extracted:
        progress.add(item.size)
        if item.reason == GAPS:
            made.ledger.entered.add(item.size, documents=0)
            made.ledger.removed.setdefault(GAPS, Amount()).add(item.size, documents=0)
            made.removed.setdefault(GAPS, Sample(EXAMPLES))
        else:
            yield item


def _groups(items: Iterable[Extracted]) -> Iterator[list[Extracted]]:
    group: list[Extracted] = []
    characters = 0
    for item in items:
        group.append(item)
        characters += len(item.text)
        if characters >= GROUP_CHARACTERS or len(group) == GROUP_DOCUMENTS:
            yield group
            group, characters = [], 0
    if group:
        yield group


def _judge(group: list[Extracted], keys: list[bytes], made: Cleaned, fraction: float, seed: int) -> list[str | Removal]:
    """For each document the text as the recipe leaves it, or why the document goes."""
    outcomes: list[str | Removal] = []
    for item, key in zip(group, keys, strict=True):
        if item.reason is not None:
            if item.reason != EMPTY:
                made.unreadable.add(item.id, member=item.member, reason=item.reason)
            outcomes.append(Removal(item.reason))
        else:
            outcomes.append(item.text if taken(key, fraction, seed) else Removal(NOT_SAMPLED))
    sizes = [item.size for item in group]
    for step, passage in zip(made.steps, made.passages, strict=True):
        left = [place for place, outcome in enumerate(outcomes) if isinstance(outcome, str)]
        texts = [text for text in outcomes if isinstance(text, str)]
        for place, before, after in zip(left, texts, _apply(step, texts, left, group), strict=True):
            outcomes[place], sizes[place] = _book(passage, before, after, sizes[place])
    return outcomes


def _apply(step: Step, texts: list[str], places: list[int], group: list[Extracted]) -> list[str | Removal]:
    """The step's outcomes; a failure is raised with the id of the document that it happened on."""
    try:
        return step.apply_many(texts)
    except CleaningError:
        for place, text in zip(places, texts, strict=True):
            try:
                step.filter.apply(text)
            except CleaningError as error:
                raise CleaningError(f"document {group[place].id}: {error}") from error
        raise


def _book(passage: Passage, before: str, after: str | Removal, size: int) -> tuple[str | Removal, int]:
    """Count one document's way through a step; its outcome and its bytes from there on."""
    passage.documents_in += 1
    passage.bytes_in += size
    if isinstance(after, str) and (not after or after.isspace()):
        after = Removal(EMPTY)  # nothing was left after the repair
    if isinstance(after, Removal):
        passage.documents_removed += 1
        passage.bytes_removed += size
        return after, size
    if after == before:
        return after, size
    rewritten = len(after.encode())
    passage.bytes_rewritten += size - rewritten
    return after, rewritten
