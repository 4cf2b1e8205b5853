"""What the stage reports: example pairs, clusters, counts of protected documents, alarms, the S-curve."""

from __future__ import annotations

from itertools import takewhile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pileline.deduplication import lsh
from pileline.deduplication.contained import SMALLEST
from pileline.deduplication.findings import EXACT, Findings
from pileline.deduplication.method import Method
from pileline.deduplication.resolve import HISTOGRAM_EDGES, Resolution
from pileline.ledger import Ledger

EXCERPT = 240
ALARM = 0.5  # a source that loses more than this share of its bytes is named


def example_pairs(findings: Findings, count: int = 12) -> list[dict[str, Any]]:
    """Up to `count` near duplicates, spread evenly from the least to the most similar, with excerpts.

    An excerpt begins shortly before the two texts first differ.
    """
    inventory = findings.inventory
    near = np.flatnonzero(~findings.staying & (findings.reason != EXACT))
    near = near[np.lexsort((near, findings.similarity[near]))]
    chosen = (
        near[np.unique(np.linspace(0, len(near) - 1, min(count, len(near))).astype(np.int64))] if len(near) else near
    )
    wanted = np.zeros(len(inventory), bool)
    wanted[chosen] = wanted[findings.partner[chosen]] = True
    texts = dict(inventory.texts(wanted))
    pairs = []
    for removed in chosen.tolist():
        kept = int(findings.partner[removed])
        start = max(0, _same(texts[kept], texts[removed]) - 60)
        pairs.append(
            {
                "kept": inventory.ids[kept],
                "removed": inventory.ids[removed],
                "reason": str(findings.reason[removed]),
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


def alarms(ledgers: dict[str, Ledger]) -> list[str]:
    """A sentence for each source that lost more than half its bytes: a method too broad, or a source of copies."""
    lost = {
        source: 1 - ledger.kept.bytes / ledger.entered.bytes
        for source, ledger in ledgers.items()
        if ledger.entered.bytes
    }
    return [
        f"{source} lost {100 * share:.0f} % of its bytes; look at its pairs before trusting the method"
        for source, share in lost.items()
        if share > ALARM
    ]


def s_curve(method: Method, points: int = 51) -> dict[str, list[float]]:
    """The theoretical probability that LSH proposes a pair, over its similarity."""
    similarity = np.linspace(0, 1, points)
    probability = lsh.probability(similarity, method.bands, method.rows)
    return {"similarity": similarity.round(4).tolist(), "probability": probability.round(6).tolist()}


def metrics(
    corpus: str,
    method: Method,
    findings: Findings,
    contained: NDArray[np.int64],
    resolution: Resolution,
    ledgers: dict[str, Ledger],
) -> dict[str, Any]:
    """The stage's metrics, for the manifest; `contained` are the numbers that `find_contained` gave."""
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
        "alarms": alarms(ledgers),
        "signature_bytes_per_document": 8 * method.bands,
    }
