"""Ledgers as tables and charts: by source, by filter, by reason."""

from __future__ import annotations

from typing import Any

from pileline.report import charts, merge
from pileline.report.tables import Cell, Chart, Table, cells, count, percent, ratio, size

WORTH_DRAWING = 0.001  # a removal of less than this share of all bytes cannot be seen in a chart


def filter_of(reason: str) -> str:
    """The filter that states a reason: "gopher_quality: too few words" is gopher_quality's."""
    return reason.partition(": ")[0]


def by_filter(ledger: dict[str, Any]) -> dict[str, Any]:
    """A ledger with the reasons of each filter summed up under its name."""
    removed: dict[str, dict[str, int]] = {}
    for reason, amount in ledger["removed"].items():
        into = removed.setdefault(filter_of(reason), {"documents": 0, "bytes": 0})
        for unit in into:
            into[unit] += amount[unit]
    return {**ledger, "removed": removed}


def ledger_table(caption: str, ledgers: dict[str, dict[str, Any]], links: dict[str, str]) -> Table:
    """Documents in, kept and removed, a column a reason; a last row sums up."""
    reasons = sorted({reason for ledger in ledgers.values() for reason in ledger["removed"]})
    rows = []
    for name, ledger in [*ledgers.items(), ("all", merge.ledgers(list(ledgers.values())))]:
        kept = ratio(ledger["kept"]["bytes"], ledger["in"]["bytes"])
        removed = [ledger["removed"].get(reason) for reason in reasons]
        rows.append(
            cells(
                Cell(name, href=links.get(name, "")),
                Cell(count(ledger["in"]["documents"]), note=size(ledger["in"]["bytes"])),
                Cell(count(ledger["kept"]["documents"]), note=size(ledger["kept"]["bytes"])),
                percent(kept),
                *(Cell(count(part["documents"]), note=size(part["bytes"])) if part else Cell("·") for part in removed),
                size(ledger["rewritten_bytes"]) if ledger["rewritten_bytes"] else "·",
            )
        )
    columns = ["Source", "In", "Kept", "Bytes kept", *(f"− {reason}" for reason in reasons), "Rewritten"]
    return Table(caption, columns, rows)


def reason_table(caption: str, ledgers: dict[str, dict[str, Any]]) -> Table | None:
    """What each reason took of all sources, and the source that it took most of; None where nothing was removed."""
    total = merge.ledgers(list(ledgers.values()))
    rows = []
    for reason, amount in sorted(total["removed"].items(), key=lambda item: (filter_of(item[0]), -item[1]["bytes"])):
        shares = {
            source: ratio(ledger["removed"].get(reason, {"bytes": 0})["bytes"], ledger["in"]["bytes"]) or 0.0
            for source, ledger in ledgers.items()
        }
        most = max(shares, key=lambda source: shares[source])
        rows.append(
            cells(
                reason,
                Cell(most, note=f"{percent(shares[most])} of its bytes") if shares[most] else "",
                count(amount["documents"]),
                size(amount["bytes"]),
                percent(ratio(amount["bytes"], total["in"]["bytes"]), 2),
            )
        )
    columns = ["Reason", "Most of", "Documents", "Bytes", "Of all bytes"]
    return Table(caption, columns, rows, labels=2) if rows else None


def ledger_charts(name: str, ledgers: dict[str, dict[str, Any]], what: str) -> list[Chart]:
    """The share of each source's bytes that was kept, and that each reason took; no chart if next to nothing was."""
    total = merge.ledgers(list(ledgers.values()))
    if sum(amount["bytes"] for amount in total["removed"].values()) < WORTH_DRAWING * total["in"]["bytes"]:
        return []
    rows: dict[str, dict[str, float]] = {}
    for source, ledger in ledgers.items():
        whole = ledger["in"]["bytes"] or 1
        rows[source] = {"kept": 100 * ledger["kept"]["bytes"] / whole}
        rows[source] |= {reason: 100 * amount["bytes"] / whole for reason, amount in ledger["removed"].items()}
    share = percent(ratio(total["kept"]["bytes"], total["in"]["bytes"]))
    alternative = f"{what} with {name}: {share} of all bytes kept, by source and reason of removal"
    return [Chart(charts.stacked_bars(rows, "% of bytes", alternative, first="kept"), f"{what}: {name}.")]
