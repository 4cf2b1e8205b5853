"""The parts of a source as one: their metrics added up.

Ledgers and counts sum, histograms add, and of samples the entries of the smallest places stay. Since the stages choose
their samples by those places, the outcome is the same for any number of parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pileline.ledger import Amount, Ledger

EXAMPLES, SAMPLE, UNREADABLE = 3, 8, 100  # entries that cleaning keeps: of each reason, of kept text, of bad input


def merged(stage: str, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The metrics of the parts of one source as one part would have them; those of a single part as they are."""
    if len(parts) == 1:
        return dict(parts[0])
    return _downloads(parts) if stage == "download" else _cleaned(parts)


def _downloads(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    files = [file for part in parts for file in part.get("files", [])]
    return {**parts[0], "files": sorted(files, key=lambda file: (file.get("number", 0), file.get("path", "")))}


def _cleaned(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    made = dict(parts[0])
    if any("ledger" in part for part in parts):
        made["ledger"] = ledgers([part["ledger"] for part in parts if "ledger" in part])
    made["members"] = sum(part.get("members") or 0 for part in parts)
    made["passed_over"] = {
        unit: sum((part.get("passed_over") or {}).get(unit, 0) for part in parts) for unit in ("documents", "bytes")
    }
    made["steps"] = _steps([part.get("steps") or [] for part in parts])
    made["lengths"] = _histogram([part.get("lengths") or {} for part in parts])
    made["unreadable"] = _smallest([part.get("unreadable") or [] for part in parts], UNREADABLE)
    made["sample"] = _smallest([part.get("sample") or [] for part in parts], SAMPLE)
    examples = [part.get("examples_removed") or {} for part in parts]
    made["examples_removed"] = {
        reason: _smallest([found.get(reason) or [] for found in examples], EXAMPLES)
        for reason in sorted({reason for found in examples for reason in found})
    }
    return made


def ledgers(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The sum of several ledgers, in the form of one."""
    total = Ledger()
    for part in map(Ledger.from_dict, parts):
        total.entered.add(part.entered.bytes, part.entered.documents)
        total.kept.add(part.kept.bytes, part.kept.documents)
        total.rewritten += part.rewritten
        for reason, amount in part.removed.items():
            total.removed.setdefault(reason, Amount()).add(amount.bytes, amount.documents)
    return total.to_dict()


def _steps(parts: Sequence[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """What each filter of a recipe did, over the parts; a recipe's filters have one order everywhere."""
    return [
        {name: value if name == "filter" else sum(step[name] for step in steps) for name, value in steps[0].items()}
        for steps in zip(*parts, strict=False)
    ]


def _histogram(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The sum of histograms, all of which have the edges of the first."""
    found = [part for part in parts if part.get("edges")]
    if not found:
        return {}
    same = [part["counts"] for part in found if part["edges"] == found[0]["edges"]]
    return {"edges": found[0]["edges"], "counts": [sum(counts) for counts in zip(*same, strict=True)]}


def _smallest(parts: Sequence[list[dict[str, Any]]], most: int) -> list[dict[str, Any]]:
    """The `most` entries of the smallest places."""
    entries = [entry for part in parts for entry in part]
    return sorted(entries, key=lambda entry: (entry.get("place", ""), entry.get("id", "")))[:most]
