"""The ledger: what came in, what was kept, what was removed and why, in documents and in bytes.

Every data stage keeps one a source. `check` holds it to the promise that nothing vanishes in silence:

    documents in = documents kept + sum of documents removed, over the reasons
    bytes in     = bytes kept + sum of bytes removed, over the reasons + bytes rewritten

`rewritten` is what in-place repair (Unicode normalization, PII replacement) took from kept documents;
it is negative where repair made the text longer. Bytes are of the text's UTF-8.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


class LedgerError(ValueError):
    """The books do not balance: documents or bytes vanished, or were counted twice."""


@dataclass
class Amount:
    """A number of documents and of bytes."""

    documents: int = 0
    bytes: int = 0

    def add(self, size: int, documents: int = 1) -> None:
        self.documents += documents
        self.bytes += size

    def to_dict(self) -> dict[str, int]:
        return {"documents": self.documents, "bytes": self.bytes}


@dataclass
class Ledger:
    """Counts of one source in one stage. Use `keep` and `remove` for each document, then `check`."""

    entered: Amount = field(default_factory=Amount)
    kept: Amount = field(default_factory=Amount)
    removed: dict[str, Amount] = field(default_factory=dict)
    rewritten: int = 0

    def keep(self, size_in: int, size_out: int | None = None) -> None:
        """Count a kept document of `size_in` bytes that left with `size_out` (the same if not given)."""
        size_out = size_in if size_out is None else size_out
        self.entered.add(size_in)
        self.kept.add(size_out)
        self.rewritten += size_in - size_out

    def remove(self, size_in: int, reason: str) -> None:
        """Count a document of `size_in` bytes, as it came in, removed for `reason`."""
        self.entered.add(size_in)
        self.removed.setdefault(reason, Amount()).add(size_in)

    def check(self, where: str) -> None:
        """Raise `LedgerError` unless documents and bytes balance."""
        documents = self.kept.documents + sum(amount.documents for amount in self.removed.values())
        size = self.kept.bytes + sum(amount.bytes for amount in self.removed.values()) + self.rewritten
        if (documents, size) != (self.entered.documents, self.entered.bytes):
            raise LedgerError(
                f"{where}: in {self.entered.documents} documents, {self.entered.bytes} bytes, but kept and removed "
                f"sum to {documents} documents, {size} bytes"
            )

    def to_dict(self) -> dict[str, Any]:
        return {
            "in": self.entered.to_dict(),
            "kept": self.kept.to_dict(),
            "removed": {reason: amount.to_dict() for reason, amount in sorted(self.removed.items())},
            "rewritten_bytes": self.rewritten,
        }

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Ledger:
        return cls(
            Amount(**value["in"]),
            Amount(**value["kept"]),
            {reason: Amount(**amount) for reason, amount in value["removed"].items()},
            value["rewritten_bytes"],
        )
