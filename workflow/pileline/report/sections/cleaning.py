"""What cleaning removed, by source, by filter and by reason."""

from __future__ import annotations

from typing import Any

from pileline.report.read import Results, Stage
from pileline.report.sections.ledgers import by_filter, filter_of, ledger_charts, ledger_table, reason_table
from pileline.report.tables import Section, Table, cells, count, percent, ratio, size


def recipes(results: Results) -> dict[str, list[Stage]]:
    """The cleaned sources that have books, by recipe."""
    found: dict[str, list[Stage]] = {}
    for stage in results.of("clean"):
        if "ledger" in stage.metrics:
            found.setdefault(stage.name.split("/")[1], []).append(stage)
    return found


def cleaning(results: Results) -> Section | None:
    """What each recipe removed, by source and reason."""
    blocks = [_block(recipe, stages) for recipe, stages in recipes(results).items()]
    return Section("cleaning", "What cleaning removed, and why", {"blocks": blocks}) if blocks else None


def _block(recipe: str, stages: list[Stage]) -> dict[str, Any]:
    ledgers = {stage.last: stage.metrics["ledger"] for stage in stages}
    filters = {source: by_filter(ledger) for source, ledger in ledgers.items()}
    caption = f"Recipe {recipe}: documents and, below, bytes of UTF-8 text, by source and filter."
    detailed = any(filter_of(reason) != reason for ledger in ledgers.values() for reason in ledger["removed"])
    return {
        "recipe": recipe,
        "filters": [_filter_words(entry) for entry in stages[0].metrics.get("filters", [])],
        "table": ledger_table(caption, filters, {stage.last: stage.page for stage in stages}),
        "reasons": reason_table(f"Recipe {recipe}: the reasons of each filter.", ledgers) if detailed else None,
        "steps": _steps(recipe, stages),
        "lengths": _lengths(recipe, stages),
        "charts": ledger_charts(recipe, filters, "Kept and removed by cleaning"),
        "passed_over": _passed_over(stages),
        "examples": [
            (stage.last, reason, examples)
            for stage in stages
            for reason, examples in sorted(stage.metrics.get("examples_removed", {}).items())
            if examples
        ],
        "unreadable": [(stage.last, entry) for stage in stages for entry in stage.metrics.get("unreadable", [])],
    }


def _filter_words(entry: dict[str, Any]) -> str:
    """A filter with its settings, as "short (characters 200)"."""
    settings = ", ".join(f"{name} {value}" for name, value in entry.items() if name != "filter")
    return f"{entry.get('filter')} ({settings})" if settings else str(entry.get("filter"))


def _steps(recipe: str, stages: list[Stage]) -> Table | None:
    """The way through the filters: what reached each one, what it took, what it rewrote; over all sources."""
    rows = []
    for steps in zip(*(stage.metrics.get("steps") or [] for stage in stages), strict=False):
        total = {name: sum(step.get(name, 0) for step in steps) for name in steps[0] if name != "filter"}
        rows.append(
            cells(
                str(steps[0].get("filter")),
                count(total.get("documents_in")),
                count(total.get("documents_removed")),
                percent(ratio(total.get("documents_removed", 0), total.get("documents_in", 0))),
                size(total.get("bytes_removed")),
                size(total.get("bytes_rewritten")),
            )
        )
    columns = ["Filter", "Documents in", "Removed", "Of those in", "Bytes removed", "Bytes rewritten"]
    return Table(f"Recipe {recipe}: the filters in their order, over all sources.", columns, rows) if rows else None


def quantile(lengths: dict[str, Any], share: float) -> float | None:
    """The length that `share` of a histogram's documents do not reach; None without documents."""
    edges, counts = lengths.get("edges") or [], lengths.get("counts") or []
    left = share * sum(counts)
    for low, high, number in zip(edges, edges[1:], counts, strict=False):
        if number and left <= number:
            return float(low + (high - low) * left / number)
        left -= number
    return None


def _lengths(recipe: str, stages: list[Stage]) -> Table | None:
    """How long the kept documents are."""
    rows = []
    for stage in stages:
        found = [quantile(stage.metrics.get("lengths") or {}, share) for share in (0.05, 0.5, 0.95)]
        if found[1] is not None:
            rows.append(cells(stage.last, *map(count, found)))
    columns = ["Source", "5 % are below", "Median", "95 % are below"]
    return Table(f"Recipe {recipe}: characters of the kept documents.", columns, rows) if rows else None


def _passed_over(stages: list[Stage]) -> list[str]:
    """What the sources' settings did not select, in words."""
    found = [(stage.last, stage.metrics.get("passed_over") or {}) for stage in stages]
    return [
        f"{source}: {count(amount['documents'])} records of {size(amount['bytes'])}"
        for source, amount in found
        if amount.get("documents")
    ]
