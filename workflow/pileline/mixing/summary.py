"""What the stage reports: The Pile's table of effective sizes, the splits, the books."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pileline.mixing.epochs import Epochs
from pileline.mixing.passes import Mix
from pileline.mixing.plan import Plan
from pileline.mixing.supply import Supply


def table(plan: Plan, supply: Mapping[str, Supply], epochs: Epochs, counted: Mix) -> list[dict[str, Any]]:
    """The Pile's table 1 for this corpus, a row a source.

    unique_documents, unique_bytes  different training documents, before cap and weight
    weight, cap_bytes               as configured (a cap may be null)
    documents, bytes                different documents that stand in the train split
    epochs, effective_bytes, share  how often, bytes with copies counted, and their share of the train split
    """
    total = sum(amount.bytes for amount in counted.effective.values())
    return [
        {
            "source": source,
            "unique_documents": supply[source].amount.documents,
            "unique_bytes": supply[source].amount.bytes,
            "weight": plan.weight(source),
            "cap_bytes": plan.cap(source),
            "documents": counted.splits["train"][source].documents,
            "bytes": counted.splits["train"][source].bytes,
            "epochs": epochs.epochs[source],
            "effective_bytes": effective.bytes,
            "share": effective.bytes / total if total else 0.0,
        }
        for source, effective in counted.effective.items()
    ]


def metrics(
    corpus: str, recipe: str, plan: Plan, supply: Mapping[str, Supply], epochs: Epochs, counted: Mix
) -> dict[str, Any]:
    """The stage's metrics, for the manifest."""
    train = counted.effective.values()
    return {
        "corpus": corpus,
        "recipe": recipe,
        "mixing": dict(plan.mixing),
        "warnings": epochs.warnings,
        "table": table(plan, supply, epochs, counted),
        "splits": {
            "train": {
                "documents": sum(amount.documents for amount in train),
                "bytes": sum(amount.bytes for amount in train),
            },
            **{
                split: {source: amount.to_dict() for source, amount in counted.splits[split].items()}
                for split in ("validation", "test")
            },
        },
        "ledgers": {source: ledger.to_dict() for source, ledger in counted.ledgers.items()},
        "sample": counted.sample,
    }
