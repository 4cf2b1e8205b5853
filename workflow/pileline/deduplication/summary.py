"""What the stage reports: example pairs, clusters, counts of protected documents, alarms, the S-curve."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import takewhile
from typing import Any

import numpy as np

from pileline.deduplication import lsh
from pileline.deduplication.codes import normalized
from pileline.deduplication.contained import SMALLEST
from pileline.deduplication.contaminated import Decontamination
from pileline.deduplication.findings import NEAR, NEAR_HOLDOUT, REASONS, Findings
from pileline.deduplication.lsh import Buckets
from pileline.deduplication.method import Method
from pileline.deduplication.resolve import HISTOGRAM_EDGES, Resolution
from pileline.deduplication.scan import Scanned
from pileline.ledger import Ledger

EXCERPT = 240


def example_pairs(findings: Findings, count: int = 12) -> list[dict[str, Any]]:
    """Up to `count` near duplicates, spread evenly from the least to the most similar, with excerpts.

    An excerpt begins shortly before the two texts first differ.
    """
    inventory = findings.inventory
    near = np.flatnonzero(findings.left(NEAR) | findings.left(NEAR_HOLDOUT))
    near = near[np.lexsort((near, findings.similarity[near]))]
    chosen = (
        near[np.unique(np.linspace(0, len(near) - 1, min(count, len(near))).astype(np.int64))] if len(near) else near
    )
    both = np.concatenate((chosen, findings.partner[chosen]))
    texts = dict(inventory.texts(inventory.marked(both)))
    ids = dict(zip(both.tolist(), inventory.ids(both).to_pylist(), strict=True))
    pairs = []
    for removed in chosen.tolist():
        kept = int(findings.partner[removed])
        start = max(0, _same(texts[kept], texts[removed]) - 60)
        pairs.append(
            {
                "kept": ids[kept],
                "removed": ids[removed],
                "reason": REASONS[findings.code[removed]],
                "similarity": float(findings.similarity[removed]),
                "excerpt_kept": texts[kept][start : start + EXCERPT],
                "excerpt_removed": texts[removed][start : start + EXCERPT],
            }
        )
    return pairs


def _same(left: str, right: str) -> int:
    """How many characters two texts have in common at their beginning."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False)))


def clusters(findings: Findings) -> dict[str, int]:
    """Documents that others were removed for: how many, and how many documents the largest cluster has with it."""
    partners = findings.partner[~findings.staying]
    sizes = np.unique(partners, return_counts=True)[1]
    return {"count": len(sizes), "largest": int(sizes.max()) + 1 if len(sizes) else 0}


def protected_counts(findings: Findings) -> dict[str, dict[str, int]]:
    """Documents and bytes that no training document may resemble, by what protects them."""
    inventory = findings.inventory
    masks = {
        "validation": inventory.own & (inventory.split == 1),
        "test": inventory.own & (inventory.split == 2),
        "task": inventory.own & (inventory.split == 0) & inventory.protected,
        "guards": ~inventory.own,
    }
    return {
        name: {"documents": int(mask.sum()), "bytes": int(inventory.size[mask].sum())} for name, mask in masks.items()
    }


def alarms(ledgers: dict[str, Ledger], alarm: float) -> list[str]:
    """A sentence for each source that lost more than a share `alarm` of its bytes: a method too broad, or a source of
    copies.
    """
    lost = {
        source: 1 - ledger.kept.bytes / ledger.entered.bytes
        for source, ledger in ledgers.items()
        if ledger.entered.bytes
    }
    return [
        f"{source} lost {100 * share:.0f} % of its bytes; look at its pairs before trusting the method"
        for source, share in lost.items()
        if share > alarm
    ]


def s_curve(method: Method, points: int = 51) -> dict[str, list[float]]:
    """The theoretical probability that LSH proposes a pair, over its similarity."""
    similarity = np.linspace(0, 1, points)
    probability = lsh.probability(similarity, method.bands, method.rows)
    return {"similarity": similarity.round(4).tolist(), "probability": probability.round(6).tolist()}


def decontamination(
    findings: Findings, scanned: Scanned, settings: Mapping[str, Any] | None, count: int = 5
) -> dict[str, Any] | None:
    """What the n-grams of tests took, by task, with up to `count` documents and what they share; None if not asked."""
    found = scanned.contaminated
    if settings is None:
        return None
    words = Decontamination.from_dict(settings).words
    if found is None:
        return {"words": words, "tasks": {}, "common": 0, "short": 0, "examples": []}
    inventory = findings.inventory
    tasks = {
        task: {"documents": len(numbers), "bytes": int(inventory.size[numbers].sum()), "ngrams": ngrams}
        for task, (numbers, ngrams) in found.by_task.items()
    }
    few = found.numbers[:count]
    both = np.concatenate((few, found.partner[:count]))
    texts = dict(inventory.texts(inventory.marked(both)))
    ids = inventory.ids(both).to_pylist()
    examples = [
        {"removed": removed, "partner": partner, "text": _shared_words(texts[number], texts[other], words)}
        for removed, partner, number, other in zip(
            ids[: len(few)], ids[len(few) :], few, found.partner[:count], strict=True
        )
    ]
    return {"words": words, "tasks": tasks, "common": found.common, "short": found.short, "examples": examples}


def _shared_words(text: str, test: str, size: int) -> str:
    """The first run of `size` normalized words of a text that stands in a test text too."""
    mine, other = normalized(text).split(), normalized(test).split()
    known = {tuple(other[place : place + size]) for place in range(len(other) - size + 1)}
    runs = (tuple(mine[place : place + size]) for place in range(len(mine) - size + 1))
    return " ".join(next((run for run in runs if run in known), ()))


def state_bytes(findings: Findings, scanned: Scanned, found: Buckets) -> dict[str, int]:
    """Bytes of the arrays held over all documents: what memory grows with."""
    return {
        "inventory": findings.inventory.nbytes,
        "findings": findings.nbytes,
        "signatures": scanned.hashes.nbytes,
        "buckets": found.bucket.nbytes + found.member.nbytes,
    }


def metrics(
    corpus: str,
    method: Method,
    findings: Findings,
    scanned: Scanned,
    found: Buckets,
    resolution: Resolution,
    ledgers: dict[str, Ledger],
) -> dict[str, Any]:
    """The stage's metrics, for the manifest; `found` are the buckets of which `resolution` was made."""
    contained = scanned.contained[0]
    state = state_bytes(findings, scanned, found)
    return {
        "corpus": corpus,
        "method": method.to_dict(),
        "ledgers": {source: ledger.to_dict() for source, ledger in ledgers.items()},
        "candidates": resolution.compared,
        "verified": resolution.similar,
        "skipped": resolution.skipped,
        "clusters": clusters(findings),
        "pairs": example_pairs(findings),
        "similarity_histogram": {"edges": HISTOGRAM_EDGES.tolist(), "counts": resolution.histogram.tolist()},
        "s_curve": s_curve(method),
        "contained": {
            "measure": "share of the protected text that stands in the training document, or the other way round",
            "smallest": SMALLEST,
            "documents": len(contained),
            "bytes": int(findings.inventory.size[contained].sum()),
        },
        "protected": protected_counts(findings),
        "alarm": method.alarm,
        "alarms": alarms(ledgers, method.alarm),
        "signature_bytes_per_document": 8 * method.bands,
        "state_bytes": state,
        "state_bytes_per_document": round(sum(state.values()) / max(len(findings.inventory), 1), 1),
    }
