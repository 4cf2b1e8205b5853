"""What deduplication found: which documents leave, for what reason and for which partner.

The reasons, in the order in which they are looked for:

exact         same key as an earlier document of the same split. Always in validation and test, so that the holdout is
              the same for every method; in train where the method's kind is exact or minhash. Its partner is the first
              of the copies. That one may itself leave as near; its own partner then is in the corpus.
near holdout  a training document that has the key of a protected one (the holdout, a task's test part, of the corpus
              or of a guard), that contains it, is contained in it (see `contained`), or whose similarity with it
              reaches the threshold. Always, whatever the kind.
near          where the kind is minhash: a training document similar to one that stays (see `resolve`).

The similarity of a removed document with its partner is the Jaccard similarity, save for what `find_contained` found:
there it is the share of the protected text that stands in the training document, or of the latter in the former,
whichever is larger (and 1 for equal keys).
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

from pileline.deduplication import contained, exact
from pileline.deduplication.inventory import SPLITS, Inventory
from pileline.deduplication.method import Method
from pileline.deduplication.minhash import MinHash, Shingler, groups, normalized
from pileline.deduplication.resolve import Resolution
from pileline.deduplication.verify import ShingleSets
from pileline.ledger import Ledger
from pileline.progress import Progress

EXACT, NEAR, NEAR_HOLDOUT = "exact", "near", "near holdout"
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
    """Over the inventory's n documents: `reason` ("" where a document stays), `partner` (-1), `similarity` (0)."""

    inventory: Inventory
    reason: NDArray[np.str_]
    partner: NDArray[np.int64]
    similarity: NDArray[np.float64]

    @property
    def staying(self) -> NDArray[np.bool_]:
        staying: NDArray[np.bool_] = self.reason == ""
        return staying

    def remove(self, numbers: NDArray[np.int64], reason: str, partner: Any, similarity: Any) -> None:
        self.reason[numbers], self.partner[numbers], self.similarity[numbers] = reason, partner, similarity


def find_exact(inventory: Inventory, method: Method) -> Findings:
    """The documents that leave by their key alone."""
    n = len(inventory)
    findings = Findings(inventory, np.full(n, "", "U12"), np.full(n, -1), np.zeros(n))
    training = inventory.training
    tasks = inventory.protected & (inventory.split == 0)
    guarded = exact.copies_of(inventory.key, training, tasks)
    findings.remove(np.flatnonzero(guarded >= 0), NEAR_HOLDOUT, guarded[guarded >= 0], 1.0)
    eligible = ((inventory.split > 0) & inventory.own) | (training & (guarded < 0) & (method.kind != "none"))
    first = exact.first_copies(inventory.key, eligible)
    again = np.flatnonzero(eligible & (first != np.arange(n)))
    findings.remove(again, EXACT, first[again], 1.0)
    return findings


def find_contained(findings: Findings, shingler: Shingler, threshold: float) -> NDArray[np.int64]:
    """Enter the training documents that overlap with a protected one by `threshold` (see `contained`); their numbers.

    It comes before near duplicates are looked for, so that none of those leaves for a document that leaves here.
    """
    inventory = findings.inventory
    owners: list[int] = []
    read: list[int] = []
    guards, training = (findings.staying & part for part in (inventory.protected, inventory.training))
    table = contained.Table(_normalized(inventory, guards, "protected shingles", owners), shingler)
    text, owner, overlap = table.overlapping(_normalized(inventory, training, "containment", read), threshold)
    numbers, partner = np.array(read, np.int64)[text], np.array(owners, np.int64)[owner]
    findings.remove(numbers, NEAR_HOLDOUT, partner, overlap)
    return np.sort(numbers)


def keep_order(findings: Findings, method: Method) -> NDArray[np.int64]:
    """Numbers of the documents still there: protected ones first, then by the keep policy, then in corpus order."""
    inventory = findings.inventory
    numbers = np.flatnonzero(findings.staying)
    length = -inventory.size[numbers] if method.keep == "longest" else np.zeros(len(numbers), np.int64)
    return numbers[np.lexsort((numbers, length, ~inventory.protected[numbers]))]


def _normalized(inventory: Inventory, wanted: NDArray[np.bool_], what: str, numbers: list[int]) -> Iterator[str]:
    """Normalized texts of the wanted documents, streamed; their numbers are appended to `numbers`."""
    with Progress(what, total=float(inventory.size[wanted].sum()), unit="B") as progress:
        for number, text in inventory.texts(wanted):
            numbers.append(number)
            yield normalized(text)
            progress.add(int(inventory.size[number]))


def signatures(
    inventory: Inventory, order: NDArray[np.int64], shingler: Shingler, minhash: MinHash
) -> NDArray[np.uint64]:
    """Band hashes [len(order), bands] of the documents that `order` numbers, in that order; one pass over the text."""
    wanted = np.zeros(len(inventory), bool)
    wanted[order] = True
    numbers: list[int] = []
    texts = _normalized(inventory, wanted, "signatures", numbers)
    parts = [minhash.band_hashes(minhash.signatures(*shingler.hashes(group))) for group in groups(texts)]
    result = np.empty((len(inventory), minhash.bands), np.uint64)
    if parts:
        result[numbers] = np.concatenate(parts)
    return result[order]


def similarity_between(
    inventory: Inventory, order: NDArray[np.int64], candidates: NDArray[np.int64], shingler: Shingler, scratch: Path
) -> Any:
    """A function of two arrays of places in `order`: the true similarity of each pair of `candidates` (places too).

    Reads the candidates' texts once and keeps their shingle sets in an unnamed file in `scratch`.
    """
    wanted = np.zeros(len(inventory), bool)
    wanted[order[candidates]] = True
    numbers: list[int] = []
    sets = ShingleSets(_normalized(inventory, wanted, "shingle sets", numbers), shingler, scratch)
    place = np.full(len(inventory), -1)
    place[numbers] = np.arange(len(numbers))
    place = place[order]
    return lambda left, right: sets.jaccard(place[left], place[right])


def add_near(findings: Findings, order: NDArray[np.int64], resolution: Resolution) -> None:
    """Enter a resolution, whose numbers are places in `order`, into the findings."""
    removed = np.flatnonzero(resolution.partner >= 0)
    partner = order[resolution.partner[removed]]
    reason = np.where(findings.inventory.protected[partner], NEAR_HOLDOUT, NEAR)
    findings.remove(order[removed], reason, partner, resolution.similarity[removed])  # type: ignore[arg-type]


def write(findings: Findings, path: str | Path) -> None:
    """Write the table of removed documents (`SCHEMA`), in corpus order."""
    inventory = findings.inventory
    removed = np.flatnonzero(~findings.staying)
    partner = findings.partner[removed]
    columns = [
        [inventory.ids[number] for number in removed],
        [inventory.names[place] for place in inventory.source[removed]],
        inventory.size[removed],
        findings.reason[removed].tolist(),
        [inventory.ids[number] for number in partner],
        [inventory.names[place] for place in inventory.source[partner]],
        findings.similarity[removed],
        [SPLITS[split] for split in inventory.split[removed]],
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    pq.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA), path, compression="zstd", compression_level=3)


def ledgers(findings: Findings) -> dict[str, Ledger]:
    """A checked ledger for each source of the corpus: from the cleaned documents to those that stay."""
    inventory = findings.inventory
    own = inventory.own
    result = {source: Ledger() for source in inventory.sources}
    for place, size, reason in zip(
        inventory.source[own].tolist(), inventory.size[own].tolist(), findings.reason[own].tolist(), strict=True
    ):
        ledger = result[inventory.sources[place]]
        if reason:
            ledger.remove(size, reason)
        else:
            ledger.keep(size)
    for source, ledger in result.items():
        ledger.check(f"deduplicate {source}")
    return result
