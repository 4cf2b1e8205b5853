"""Where the text comes from, in what mixture training sees it, and what is held out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pileline.report import charts
from pileline.report.read import Results, Stage
from pileline.report.sections.ledgers import ledger_table
from pileline.report.tables import MISSING, Cell, Chart, Section, Table, cells, count, percent, size

LISTING = "files.jsonl"  # beside the manifest of a download of very many files


def _source_rows(results: Results) -> Table:
    """What each source is, and the files it came as."""
    rows = []
    for stage in results.of("download"):
        about = results.part("sources", stage.last)
        files = stage.metrics.get("files", [])
        planned = int(about.get("parts") or 1)
        parts = f"{len(stage.parts)} of {planned} parts" if len(stage.parts) != planned else f"{planned} parts"
        title = str(about.get("title", ""))
        hashes = ", ".join(file["sha256"][:12] for file in files[:2]) + (", …" if len(files) > 2 else "")
        rows.append(
            cells(
                Cell(stage.last, href=stage.page, note="; ".join(filter(None, [title, parts if planned > 1 else ""]))),
                str(about.get("domain", MISSING)),
                str(about.get("language", MISSING)),
                str(about.get("license", MISSING)),
                _origin(stage),
                hashes or MISSING,
                Cell(size(_downloaded(stage)), note=f"{count(_listed(stage))} files" if _listed(stage) > 1 else ""),
            )
        )
    columns = ["Source", "Domain", "Language", "Licence", "Origin", "SHA-256", "Download"]
    return Table("Where the text comes from. Full hashes stand under “How to repeat”.", columns, rows, labels=6)


def _origin(stage: Stage) -> str:
    """Where a source was fetched, in one line: the setting of its kind."""
    origin = stage.metrics.get("origin") or {}
    found = origin.get(stage.metrics.get("kind", ""), MISSING)
    names = found if isinstance(found, list) else [found]
    return ", ".join(map(str, names[:2])) + (f" and {len(names) - 2} more" if len(names) > 2 else "")


def _listed(stage: Stage) -> int:
    return int(stage.metrics.get("listed") or len(stage.metrics.get("files", [])))


def _downloaded(stage: Stage) -> float:
    """Bytes of the files of all parts."""
    return float(sum(file["bytes"] for part in stage.each for file in part.metrics.get("files") or _listing(part)))


def _listing(part: Stage) -> Iterator[dict[str, Any]]:
    """The files of a part that has too many for its manifest, from the list beside it."""
    path = part.folder / LISTING
    if path.exists():
        with path.open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)


def _mixture(results: Results, stage: Stage) -> list[dict[str, Any]]:
    """The rows of a corpus' training mixture, sources in the order of the configuration."""
    rows = {row["source"]: row for row in stage.metrics.get("table", [])}
    return [rows[source] for source in results.in_order(rows)]


def _mix_table(results: Results, stage: Stage) -> Table:
    """The training mixture of a corpus."""
    found = _mixture(results, stage)
    capped = any(row.get("cap_bytes") for row in found)
    weighed = _kind(stage) != "epochs"
    rows = [
        cells(
            row["source"],
            count(row["documents"]),
            size(row.get("unique_bytes", row["bytes"])),
            *([size(row["cap_bytes"]) if row.get("cap_bytes") else "·"] if capped else []),
            *([f"{row.get('weight', 0):g}"] if weighed else []),
            f"{row['epochs']:.3g}",
            size(row["effective_bytes"]),
            percent(row["share"]),
        )
        for row in found
    ]
    columns = ["Source", "Documents", "Size", *(["Cap"] if capped else []), *(["Weight"] if weighed else [])]
    caption = f"Training mixture of {stage.last}, by {_kind_words(stage)}. Size is that of different text."
    return Table(caption, [*columns, "Epochs", "Effective size", "Share"], rows)


def _kind(stage: Stage) -> str:
    return str((stage.metrics.get("mixing") or {}).get("kind", "epochs"))


def _kind_words(stage: Stage) -> str:
    """How the weights of a mixture became epochs."""
    how = stage.metrics.get("mixing") or {}
    total = "all of its text" if how.get("size_mb") is None else f"{how['size_mb']:g} MB"
    most = f"at most {how.get('most_epochs', 4):g} epochs"
    if _kind(stage) == "shares":
        return f"shares of {total}, {most}"
    if _kind(stage) == "temperature":
        return f"weight × size^(1/{how.get('temperature')}) of {total}, {most}"
    return "epochs: the size is repeated as often as they say"


def _mix_losses(results: Results, stage: Stage) -> Table | None:
    """What left at mixing, by source and reason, duplicates apart."""
    found = stage.metrics.get("ledgers") or {}
    reasons = {"task", "boilerplate", "cap", "weight"}
    own = {reason for ledger in found.values() for reason in ledger["removed"]} & reasons
    rewritten = any(ledger["rewritten_bytes"] for ledger in found.values())
    if not own and not rewritten:
        return None
    ledgers = {
        source: {**found[source], "removed": _joined(found[source]["removed"], own)}
        for source in results.in_order(found)
    }
    caption = (
        f"Corpus {stage.last}: what mixing left out. “task” is in a task's test part; “cap” and “weight” were passed "
        "over by a cap or by less than one epoch; “boilerplate” was nothing else; “Rewritten” is boilerplate in what "
        "stays."
    )
    return ledger_table(caption, ledgers, {})


def _joined(removed: dict[str, Any], own: set[str]) -> dict[str, Any]:
    """Removals with those of deduplication as one."""
    made = {reason: amount for reason, amount in removed.items() if reason in own}
    others = [amount for reason, amount in removed.items() if reason not in own]
    if others:
        made["duplicates"] = {unit: sum(amount[unit] for amount in others) for unit in ("documents", "bytes")}
    return made


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
        "losses": [table for stage in mixes if (table := _mix_losses(results, stage))],
        "warnings": [f"{stage.last}: {words}" for stage in mixes for words in stage.metrics.get("warnings", [])],
        "charts": drawn,
        "samples": samples,
    }
    return Section("sources", "Sources and mixture", values)


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
