"""From sources to the corpus: where the text comes from, what was removed and why, what is held out."""

from __future__ import annotations

from typing import Any

from pileline.report import charts
from pileline.report.read import Results, Stage
from pileline.report.tables import (
    MISSING,
    Cell,
    Chart,
    Section,
    Table,
    cells,
    count,
    decimal,
    percent,
    ratio,
    size,
)

WORTH_DRAWING = 0.001  # a removal of less than this share of all bytes cannot be seen in a chart


def _source_rows(results: Results) -> Table:
    """What each source is, and the files it came as."""
    rows = []
    for stage in results.of("download"):
        about = results.part("sources", stage.last)
        files = stage.metrics.get("files", [])
        hashes = ", ".join(file["sha256"][:12] for file in files[:2]) + (", …" if len(files) > 2 else "")
        rows.append(
            cells(
                Cell(stage.last, href=stage.page, note=str(about.get("title", ""))),
                str(about.get("domain", MISSING)),
                str(about.get("language", MISSING)),
                str(about.get("license", MISSING)),
                str(about.get("pypi") or about.get("path") or MISSING),
                hashes or MISSING,
                size(sum(file["bytes"] for file in files)),
            )
        )
    columns = ["Source", "Domain", "Language", "Licence", "Origin", "SHA-256", "Download"]
    return Table("Where the text comes from. Full hashes stand under “How to repeat”.", columns, rows, labels=6)


def _mixture(results: Results, stage: Stage) -> list[dict[str, Any]]:
    """The rows of a corpus' training mixture, sources in the order of the configuration."""
    rows = {row["source"]: row for row in stage.metrics.get("table", [])}
    return [rows[source] for source in results.in_order(rows)]


def _mix_table(results: Results, stage: Stage) -> Table:
    """The training mixture of a corpus."""
    rows = [
        cells(
            row["source"],
            count(row["documents"]),
            size(row["bytes"]),
            f"{row['epochs']:g}",
            size(row["effective_bytes"]),
            percent(row["share"]),
        )
        for row in _mixture(results, stage)
    ]
    columns = ["Source", "Documents", "Size", "Epochs", "Effective size", "Share"]
    return Table(f"Training mixture of {stage.last}: the size is repeated as often as the epochs say.", columns, rows)


def _mix_chart(results: Results, stages: list[Stage]) -> Chart:
    """Effective megabytes by source, one bar a corpus and source."""
    rows: dict[str, dict[str, float]] = {}
    for stage in stages:
        for row in _mixture(results, stage):
            parts = rows.setdefault(row["source"], {})
            parts[stage.last] = row["effective_bytes"] / 1e6
    largest = max(((value, source) for source, parts in rows.items() for value in parts.values()), default=(0.0, ""))
    alternative = f"Effective size of {len(rows)} sources in the training mixture; the largest is {largest[1]}"
    drawn = charts.grouped_bars(rows, "effective size, MB", alternative)
    return Chart(drawn, "What the training mixture takes of each source: its size times its epochs.")


def sources(results: Results) -> Section | None:
    """Sources and mixtures."""
    mixes = [stage for stage in results.of("mix") if stage.metrics.get("table")]
    if not results.of("download") and not mixes:
        return None
    tables = [_source_rows(results)] if results.of("download") else []
    drawn = [_mix_chart(results, mixes)] if mixes else []
    samples = [(stage, stage.metrics.get("sample", [])[:3]) for stage in mixes]
    values = {
        "tables": tables,
        "mixes": [_mix_table(results, stage) for stage in mixes],
        "charts": drawn,
        "samples": samples,
    }
    return Section("sources", "Sources and mixture", values)


def ledger_table(caption: str, ledgers: dict[str, dict[str, Any]], links: dict[str, str]) -> Table:
    """Documents in, kept and removed, a column a reason; a last row sums up."""
    reasons = sorted({reason for ledger in ledgers.values() for reason in ledger["removed"]})
    rows = []
    for name, ledger in [*ledgers.items(), ("all", _sum_ledgers(ledgers))]:
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


def _sum_ledgers(ledgers: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The sum of several ledgers, in the form of one."""
    total: dict[str, Any] = {"in": {"documents": 0, "bytes": 0}, "kept": {"documents": 0, "bytes": 0}, "removed": {}}
    total["rewritten_bytes"] = sum(ledger["rewritten_bytes"] for ledger in ledgers.values())
    for ledger in ledgers.values():
        for unit in ("documents", "bytes"):
            for part in ("in", "kept"):
                total[part][unit] += ledger[part][unit]
            for reason, amount in ledger["removed"].items():
                into = total["removed"].setdefault(reason, {"documents": 0, "bytes": 0})
                into[unit] += amount[unit]
    return total


def _ledger_charts(name: str, ledgers: dict[str, dict[str, Any]], what: str) -> list[Chart]:
    """The share of each source's bytes that was kept, and that each reason took; no chart if next to nothing was."""
    total = _sum_ledgers(ledgers)
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


def cleaning(results: Results) -> Section | None:
    """What each recipe removed, by source and reason."""
    recipes: dict[str, list[Stage]] = {}
    for stage in results.of("clean"):
        if "ledger" in stage.metrics:
            recipes.setdefault(stage.name.split("/")[1], []).append(stage)
    if not recipes:
        return None
    blocks = []
    for recipe, stages in recipes.items():
        ledgers = {stage.last: stage.metrics["ledger"] for stage in stages}
        caption = f"Recipe {recipe}: documents and, below, bytes of UTF-8 text."
        block = {
            "recipe": recipe,
            "filters": [_filter_words(entry) for entry in stages[0].metrics.get("filters", [])],
            "table": ledger_table(caption, ledgers, {stage.last: stage.page for stage in stages}),
            "charts": _ledger_charts(recipe, ledgers, "Kept and removed by cleaning"),
            "examples": [
                (stage.last, reason, examples)
                for stage in stages
                for reason, examples in sorted(stage.metrics.get("examples_removed", {}).items())
                if examples
            ],
            "unreadable": [(stage.last, entry) for stage in stages for entry in stage.metrics.get("unreadable", [])],
        }
        blocks.append(block)
    return Section("cleaning", "What cleaning removed, and why", {"blocks": blocks})


def _filter_words(entry: dict[str, Any]) -> str:
    """A filter with its settings, as "short (characters 200)"."""
    settings = ", ".join(f"{name} {value}" for name, value in entry.items() if name != "filter")
    return f"{entry.get('filter')} ({settings})" if settings else str(entry.get("filter"))


def _similarity_charts(stage: Stage) -> list[Chart]:
    """The histogram of candidate pairs and the theory's S-curve, where the method has them."""
    metrics, made = stage.metrics, []
    threshold = (metrics.get("method") or {}).get("threshold")
    found = metrics.get("similarity_histogram") or {}
    if sum(found.get("counts") or []) > 0:
        total = count(sum(found["counts"]))
        alternative = f"{total} candidate pairs of {stage.last} by their Jaccard similarity"
        drawn = charts.histogram(found["edges"], found["counts"], threshold, alternative)
        made.append(Chart(drawn, f"{stage.last}: {total} pairs that shared a band, by their similarity."))
    curve = metrics.get("s_curve") or {}
    if curve.get("similarity"):
        points = list(zip(curve["similarity"], curve["probability"], strict=True))
        at = min(points, key=lambda point: abs(point[0] - (threshold or 0.8)))
        alternative = f"A pair of similarity {at[0]:.2f} is proposed with probability {at[1]:.3f}"
        drawn = charts.s_curve(points, _planted(metrics.get("recall") or {}), threshold, alternative)
        made.append(Chart(drawn, f"{stage.last}: the banding's S-curve. {alternative}."))
    return made


def _planted(recall: dict[str, Any]) -> list[tuple[float, float]]:
    """(similarity, share found) of planted copies, at the middle of each interval of similarity that has some."""
    edges = recall.get("edges") or []
    rows = zip(edges, edges[1:], recall.get("pairs") or [], recall.get("found") or [], strict=False)
    return [((low + high) / 2, found / pairs) for low, high, pairs, found in rows if pairs]


def _method(method: dict[str, Any]) -> str:
    """A method in words: its kind, then its settings."""
    settings = ", ".join(f"{name} {value}" for name, value in sorted(method.items()) if name != "kind")
    kind = str(method.get("kind", ""))
    if kind in ("none", "exact"):
        return f"{kind} (near copies of the holdout leave all the same: {settings})" if settings else kind
    return f"{kind} ({settings})" if settings else kind


def _pair(pair: dict[str, Any]) -> dict[str, str]:
    """An example pair as texts."""
    return {
        "kept": str(pair.get("kept", "")),
        "removed": str(pair.get("removed", "")),
        "reason": str(pair.get("reason", "near")),
        "similarity": decimal(pair.get("similarity"), 3),
        "excerpt_kept": str(pair.get("excerpt_kept", "")),
        "excerpt_removed": str(pair.get("excerpt_removed", "")),
    }


def duplicates(results: Results) -> Section | None:
    """What deduplication removed, by source and reason, with examples."""
    blocks = []
    for stage in results.of("deduplicate"):
        found = stage.metrics.get("ledgers")
        if not found:
            continue
        ledgers = {source: found[source] for source in results.in_order(found)}
        method = stage.metrics.get("method") or {}
        caption = f"Corpus {stage.last}: documents and, below, bytes."
        block = {
            "corpus": stage.last,
            "page": stage.page,
            "method": _method(method),
            "table": ledger_table(caption, ledgers, {}),
            "charts": _ledger_charts(stage.last, ledgers, "Kept and removed by deduplication"),
            "alarms": stage.metrics.get("alarms", []),
            "candidates": count(stage.metrics.get("candidates")),
            "verified": count(stage.metrics.get("verified")),
            "pairs": [_pair(pair) for pair in stage.metrics.get("pairs", [])[:6]],
        }
        block["charts"] = [*block["charts"], *_similarity_charts(stage)]
        blocks.append(block)
    return Section("duplicates", "What deduplication removed", {"blocks": blocks}) if blocks else None


def holdout(results: Results) -> Section | None:
    """Sizes of the training set, the validation split and the test split by source."""
    blocks = []
    for stage in results.of("mix"):
        splits = stage.metrics.get("splits")
        if not splits:
            continue
        validation, test = splits.get("validation", {}), splits.get("test", {})
        rows = []
        for source in results.in_order({*validation, *test}):
            parts = [split.get(source) or {"documents": 0, "bytes": 0} for split in (validation, test)]
            rows.append(cells(source, *(Cell(count(part["documents"]), note=size(part["bytes"])) for part in parts)))
        sums = [
            {unit: sum(part[unit] for part in split.values()) for unit in ("documents", "bytes")}
            for split in (validation, test)
        ]
        rows.append(cells("all", *(Cell(count(part["documents"]), note=size(part["bytes"])) for part in sums)))
        train = splits.get("train", {})
        caption = (
            f"Corpus {stage.last}: documents held out; {count(train.get('documents'))} "
            f"({size(train.get('bytes'))}) are left to train on."
        )
        blocks.append(Table(caption, ["Source", "Validation", "Test"], rows))
    if not blocks:
        return None
    return Section("holdout", "The holdout", {"tables": blocks, "shares": results.configuration.get("holdout") or {}})
