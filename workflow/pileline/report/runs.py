"""What the runs cost: seconds, memory, throughput, from the runner's records and the manifests' counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pileline.report.read import Results, Stage


def busy_seconds(results: Results) -> float | None:
    """Seconds in which at least one stage was running; stages that were made on another day add no pause."""
    spans = sorted((stage.run.started, stage.run.ended) for stage in results.ran if stage.run)
    if not spans:
        return None
    total, (start, end) = 0.0, spans[0]
    for begins, ends in spans[1:]:
        if begins > end:
            total += (end - start).total_seconds()
            start, end = begins, ends
        else:
            end = max(end, ends)
    return total + (end - start).total_seconds()


def span_seconds(results: Results) -> float | None:
    """Seconds from the first start to the last end."""
    runs = [stage.run for stage in results.ran if stage.run]
    if not runs:
        return None
    return (max(run.ended for run in runs) - min(run.started for run in runs)).total_seconds()


def _ledger_bytes(metrics: dict[str, Any]) -> float:
    """Bytes that entered, over the ledgers of a stage."""
    ledgers = [metrics["ledger"]] if "ledger" in metrics else list(metrics["ledgers"].values())
    return float(sum(ledger["in"]["bytes"] for ledger in ledgers))


_WORK: dict[str, tuple[str, Callable[[dict[str, Any]], float]]] = {
    "download": ("MB/s", lambda metrics: sum(file["bytes"] for file in metrics["files"])),
    "clean": ("MB/s", _ledger_bytes),
    "deduplicate": ("MB/s", _ledger_bytes),
    "mix": ("MB/s", lambda metrics: sum(row["effective_bytes"] for row in metrics["table"])),
    "tokenizer": ("MB/s", lambda metrics: metrics["training"]["sample_bytes"]),
    "shards": ("tokens/s", lambda metrics: sum(metrics["tokens"].values())),
    "train": ("tokens/s", lambda metrics: metrics["tokens_seen"]),
    "evaluate": ("tokens/s", lambda metrics: metrics["overall"]["tokens"]),
}


def throughput(stage: Stage) -> str:
    """Work done a second of the stage's wall time, kernel start included; empty where it cannot be told."""
    if stage.stage not in _WORK or not stage.run or stage.run.seconds <= 0:
        return ""
    unit, work = _WORK[stage.stage]
    try:
        rate = work(stage.metrics) / stage.run.seconds
    except (KeyError, TypeError, AttributeError):
        return ""
    return f"{rate / 1e6:.2f} {unit}" if unit == "MB/s" else f"{rate:,.0f} {unit}"
