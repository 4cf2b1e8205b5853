"""What deduplication found: which documents leave, for what reason and for which partner.

The reasons, in the order in which they are looked for:

exact         same key as an earlier document of the same split. Always in validation and test, so that the holdout is
              the same for every method; in train where the method's kind is exact or minhash. Its partner is the first
              of the copies. That one may itself leave as near; its own partner then is in the corpus.
near holdout  a training document that has the key of a protected one (the holdout, a task's test part, of the corpus
              or of a guard), that contains it, is contained in it (see `contained`), or whose similarity with it
              reaches the threshold. Always, whatever the kind.
contaminated  a training document that shares a run of words with a task's test text (see `contaminated`). Always,
              unless the config's `decontamination` is null.
near          where the kind is minhash: a training document similar to one that stays (see `resolve`).

The similarity of a removed document with its partner is the Jaccard similarity, save for what `find_contained` found:
there it is the share of the protected text that stands in the training document, or of the latter in the former,
whichever is larger (and 1 for equal keys); and for `contaminated` documents, where it is the share of the
partner's n-grams that stand in the document.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pileline.deduplication import exact
from pileline.deduplication.inventory import SPLITS, Inventory
from pileline.deduplication.method import Method
from pileline.deduplication.minhash import Shingler
from pileline.deduplication.resolve import Resolution
from pileline.deduplication.scan import Scanned
from pileline.deduplication.verify import ShingleSets
from pileline.ledger import Amount, Ledger
from pileline.progress import Progress

EXACT, NEAR_HOLDOUT, CONTAMINATED, NEAR = "exact", "near holdout", "contaminated", "near"
REASONS = ("", EXACT, NEAR_HOLDOUT, CONTAMINATED, NEAR)
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("partner", pa.string(), nullable=False),
        pa.field("partner_source", pa.string(), nullable=False),
        pa.field("similarity", pa.float64(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Findings:
    """Over the inventory's n documents, 17 bytes each: `code` is a place in `REASONS` (0 where a document stays),
    `partner` a number (-1), `similarity` a share (0).
    """

    inventory: Inventory
    code: NDArray[np.int8]
    partner: NDArray[np.int64]
    similarity: NDArray[np.float64]

    @property
    def staying(self) -> NDArray[np.bool_]:
        staying: NDArray[np.bool_] = self.code == 0
        return staying

    @property
    def nbytes(self) -> int:
        """Bytes that the arrays take."""
        return self.code.nbytes + self.partner.nbytes + self.similarity.nbytes

    def left(self, reason: str) -> NDArray[np.bool_]:
        """[n] True for the documents that leave for a reason."""
        left: NDArray[np.bool_] = self.code == REASONS.index(reason)
        return left

    def remove(self, numbers: NDArray[np.int64], reason: str, partner: Any, similarity: Any) -> None:
        self.code[numbers] = REASONS.index(reason)
        self.partner[numbers], self.similarity[numbers] = partner, similarity


def find_exact(inventory: Inventory, method: Method) -> Findings:
    """The documents that leave by their key alone."""
    n = len(inventory)
    findings = Findings(inventory, np.zeros(n, np.int8), np.full(n, -1), np.zeros(n))
    training = inventory.training
    tasks = inventory.protected & (inventory.split == 0)
    guarded = exact.copies_of(inventory.key, training, tasks)
    findings.remove(np.flatnonzero(guarded >= 0), NEAR_HOLDOUT, guarded[guarded >= 0], 1.0)
    eligible = ((inventory.split > 0) & inventory.own) | (training & (guarded < 0) & (method.kind != "none"))
    # The holdout is the same for every method, whatever it prefers.
    rank = np.where(training, _ranks(inventory, method), 0)
    first = exact.first_copies(inventory.key, eligible, rank)
    again = np.flatnonzero(eligible & (first != np.arange(n)))
    findings.remove(again, EXACT, first[again], 1.0)
    return findings


def _ranks(inventory: Inventory, method: Method) -> NDArray[np.int64]:
    """[n] The place of each document's source in the method's priority; equal for all if it has none."""
    return np.array([method.rank(name) for name in inventory.names], np.int64)[inventory.source]


def find_contained(findings: Findings, scanned: Scanned) -> NDArray[np.int64]:
    """Enter the training documents that overlap with a protected one (see `contained`); their numbers.

    It comes before near duplicates are looked for, so that none of those leaves for a document that leaves here.
    """
    numbers, partner, overlap = scanned.contained
    findings.remove(numbers, NEAR_HOLDOUT, partner, overlap)
    return numbers


def find_contaminated(findings: Findings, scanned: Scanned) -> NDArray[np.int64]:
    """Enter the training documents that share words with a task's test (see `contaminated`); their numbers."""
    found = scanned.contaminated
    if found is None:
        return np.zeros(0, np.int64)
    findings.remove(found.numbers, CONTAMINATED, found.partner, found.overlap)
    return found.numbers


def keep_order(findings: Findings, method: Method) -> NDArray[np.int64]:
    """Numbers of the documents still there: protected ones first, then by the keep policy, then in corpus order."""
    inventory = findings.inventory
    numbers = np.flatnonzero(findings.staying)
    length = -inventory.size[numbers] if method.keep != "first" else np.zeros(len(numbers), np.int64)
    rank = _ranks(inventory, method)[numbers]
    return numbers[np.lexsort((numbers, length, rank, ~inventory.protected[numbers]))]


def similarity_between(
    inventory: Inventory, order: NDArray[np.int64], candidates: NDArray[np.int64], shingler: Shingler, scratch: Path
) -> Any:
    """A function of two arrays of places in `order`: the true similarity of each pair of `candidates` (places too).

    Reads the candidates' texts once and keeps their shingle sets in an unnamed file in `scratch`.
    """
    wanted = np.zeros(len(inventory), bool)
    wanted[order[candidates]] = True
    numbers: list[int] = []
    sets = ShingleSets(_texts(inventory, wanted, "candidates", numbers), shingler, scratch)
    place = np.full(len(inventory), -1)
    place[numbers] = np.arange(len(numbers))
    place = place[order]
    return lambda left, right: sets.jaccard(place[left], place[right])


def _texts(inventory: Inventory, wanted: NDArray[np.bool_], what: str, numbers: list[int]) -> Iterator[str]:
    """Texts of the wanted documents, streamed; their numbers are appended to `numbers`."""
    with Progress(what, total=float(inventory.size[wanted].sum()), unit="B") as progress:
        for number, text in inventory.texts(wanted):
            numbers.append(number)
            yield text
            progress.add(int(inventory.size[number]))


def add_near(findings: Findings, order: NDArray[np.int64], resolution: Resolution) -> None:
    """Enter a resolution, whose numbers are places in `order`, into the findings."""
    removed = np.flatnonzero(resolution.partner >= 0)
    partner = order[resolution.partner[removed]]
    similarity = resolution.similarity[removed]
    holdout = findings.inventory.protected[partner]
    for some, reason in ((holdout, NEAR_HOLDOUT), (~holdout, NEAR)):
        findings.remove(order[removed[some]], reason, partner[some], similarity[some])


def write(findings: Findings, path: str | Path) -> None:
    """Write the table of removed documents (`SCHEMA`), in corpus order."""
    inventory = findings.inventory
    removed = np.flatnonzero(~findings.staying)
    partner = findings.partner[removed]
    names = pa.array(inventory.names, pa.string())
    columns = [
        inventory.ids(removed),
        names.take(pa.array(inventory.source[removed])),
        inventory.size[removed],
        pa.array(REASONS).take(pa.array(findings.code[removed])),
        inventory.ids(partner),
        names.take(pa.array(inventory.source[partner])),
        findings.similarity[removed],
        pa.array(SPLITS).take(pa.array(inventory.split[removed])),
    ]
    table = pa.table(dict(zip(SCHEMA.names, columns, strict=True)), schema=SCHEMA)
    pq.write_table(table, path, compression="zstd", compression_level=3)


def ledgers(findings: Findings) -> dict[str, Ledger]:
    """A checked ledger for each source of the corpus: from the cleaned documents to those that stay."""
    inventory = findings.inventory
    result = {}
    for place, source in enumerate(inventory.sources):
        ledger = result[source] = Ledger()
        mine = inventory.source == place
        for code, reason in enumerate(REASONS):
            some = mine & (findings.code == code)
            documents, size = int(some.sum()), int(inventory.size[some].sum())
            if documents:
                ledger.entered.add(size, documents)
                (ledger.removed.setdefault(reason, Amount()) if reason else ledger.kept).add(size, documents)
        ledger.check(f"deduplicate {source}")
    return result
