"""What deduplication removed, and how well it finds what it looks for."""

from __future__ import annotations

from typing import Any

from pileline.report import charts
from pileline.report.read import Results, Stage
from pileline.report.sections.ledgers import ledger_charts, ledger_table
from pileline.report.tables import Cell, Chart, Section, Table, cells, count, decimal, percent, ratio, size


def duplicates(results: Results) -> Section | None:
    """What deduplication removed, by source and reason, with examples."""
    blocks = [_block(results, stage) for stage in results.of("deduplicate") if stage.metrics.get("ledgers")]
    return Section("duplicates", "What deduplication removed", {"blocks": blocks}) if blocks else None


def _block(results: Results, stage: Stage) -> dict[str, Any]:
    metrics, found = stage.metrics, stage.metrics["ledgers"]
    ledgers = {source: found[source] for source in results.in_order(found)}
    method = metrics.get("method") or {}
    injected = metrics.get("injected") or {}
    return {
        "corpus": stage.last,
        "page": stage.page,
        "method": _method(method),
        "table": ledger_table(f"Corpus {stage.last}: documents and, below, bytes.", ledgers, {}),
        "charts": [
            *ledger_charts(stage.last, ledgers, "Kept and removed by deduplication"),
            *_similarity_charts(stage),
        ],
        "alarms": metrics.get("alarms", []),
        "alarm": percent(metrics["alarm"], 0) if "alarm" in metrics else "",
        "candidates": count(metrics.get("candidates")),
        "verified": count(metrics.get("verified")),
        "injected": _injected(stage.last, injected.get("kinds") or [], str(method.get("kind", "minhash"))),
        "precision": _precision(injected.get("precision") or {}),
        "boilerplate": _boilerplate(metrics.get("boilerplate") or {}),
        "decontamination": _decontamination(stage.last, metrics.get("decontamination") or {}),
        "shared": (metrics.get("decontamination") or {}).get("examples", [])[:5],
        "state": decimal(metrics.get("state_bytes_per_document"), 0),
        "pairs": [_pair(pair) for pair in metrics.get("pairs", [])[:6]],
    }


def _injected(corpus: str, kinds: list[dict[str, Any]], method: str) -> Table | None:
    """Planted copies, by what was done to them: how many there are to find, how many are found."""
    rows = [
        cells(
            str(kind["kind"]),
            count(kind["planted"]),
            count(kind["expected"]),
            count(kind["found"]),
            percent(ratio(kind["found"], kind["expected"])),
        )
        for kind in kinds
    ]
    columns = ["Change", "Planted", "At the threshold", "Found", "Found of those"]
    caption = (
        f"Corpus {corpus}: changed copies of its documents, planted beside them. “At the threshold” are those whose "
        "true similarity reaches it: others are no duplicates by the method's own measure."
    )
    if method != "minhash":
        caption += f" The search tried is that for near copies of the holdout; in training, {method} leaves them."
    return Table(caption, columns, rows) if rows else None


def _precision(found: dict[str, Any]) -> str:
    """How much of what was removed among planted copies is a duplicate, in words."""
    if not found.get("removed"):
        return ""
    alone = found.get("collision_precision")
    words = (
        f"Of {count(found['removed'])} documents that were removed in this trial, {count(found['planted'])} are "
        f"planted copies at the threshold ({percent(found.get('precision'))})."
    )
    if alone is None:
        return words
    return (
        f"{words} Without the verification, {count(found['collisions'])} would have gone for sharing a band, "
        f"and {percent(alone)} of these are such copies."
    )


def _boilerplate(found: dict[str, Any]) -> dict[str, Any] | None:
    """Lines or paragraphs that many documents share."""
    if not found:
        return None
    rows = [
        cells(str(example.get("text", ""))[:200], count(example.get("documents")))
        for example in found.get("examples") or []
    ]
    unit = str(found.get("unit", "line"))
    return {
        "words": f"Different {unit}s that stand in {count(found.get('documents'))} or more training documents each: "
        f"{count(found.get('lines'))}. Mixing strips their {count(found.get('occurrences'))} occurrences "
        f"({size(found.get('bytes'))}).",
        "table": Table(f"The {unit}s that most documents share, normalized.", [unit.title(), "Documents"], rows)
        if rows
        else None,
    }


def _decontamination(corpus: str, found: dict[str, Any]) -> Table | None:
    """What shares n-grams of words with the test part of a task."""
    rows = [
        cells(task, count(amount["ngrams"]), Cell(count(amount["documents"]), note=size(amount["bytes"])))
        for task, amount in (found.get("tasks") or {}).items()
    ]
    caption = (
        f"Corpus {corpus}: training documents that share {found.get('words')} words in a row with a task's test part."
    )
    return Table(caption, ["Task", "Word runs tested on", "Removed"], rows) if rows else None


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
        recall = (metrics.get("injected") or {}).get("recall") or {}
        drawn = charts.s_curve(points, _planted(recall), threshold, alternative)
        made.append(Chart(drawn, f"{stage.last}: the banding's S-curve. {alternative}."))
    return made


def _planted(recall: dict[str, Any]) -> list[tuple[float, float]]:
    """(similarity, share found) of planted copies, at the middle of each interval of similarity that has some."""
    edges = recall.get("edges") or []
    rows = zip(edges, edges[1:], recall.get("pairs") or [], recall.get("found") or [], strict=False)
    return [((low + high) / 2, found / pairs) for low, high, pairs, found in rows if pairs]


def _method(method: dict[str, Any]) -> str:
    """A method in words: its kind, then its settings."""
    settings = ", ".join(f"{name} {_setting(value)}" for name, value in sorted(method.items()) if name != "kind")
    kind = str(method.get("kind", ""))
    if kind in ("none", "exact"):
        return f"{kind} (near copies of the holdout leave all the same: {settings})" if settings else kind
    return f"{kind} ({settings})" if settings else kind


def _setting(value: Any) -> str:
    """A setting's value as people write it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} {_setting(part)}" for name, part in value.items()) + "}"
    if isinstance(value, list):
        return ", ".join(map(_setting, value)) or "not set"
    return "not set" if value is None else str(value)


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
