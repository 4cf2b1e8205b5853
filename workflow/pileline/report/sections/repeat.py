"""How to repeat the run, and what it cost."""

from __future__ import annotations

from collections import defaultdict

import yaml

from pileline.report import charts
from pileline.report.read import Results, Run
from pileline.report.runs import busy_seconds, span_seconds, throughput
from pileline.report.tables import Cell, Chart, Section, Table, cells, count, duration, size


def _each(values: list[str]) -> str:
    """The distinct values, joined; more than one is worth seeing."""
    return ", ".join(dict.fromkeys(value for value in values if value))


def _packages(runs: list[Run]) -> Table:
    """Versions of the packages that the stages recorded."""
    versions = defaultdict(set)
    for run in runs:
        for name, version in run.packages.items():
            versions[name].add(version)
    rows = [cells(name, ", ".join(sorted(found))) for name, found in sorted(versions.items())]
    return Table("Packages that the stages ran with.", ["Package", "Version"], rows, labels=2)


def _inputs(results: Results) -> Table:
    """Every downloaded or read file with its full hash."""
    rows = [
        cells(stage.last, file["path"], file["sha256"], count(file["bytes"]))
        for stage in results.of("download")
        for file in stage.metrics.get("files", [])
    ]
    return Table("The files that the run started from.", ["Source", "File", "SHA-256", "Bytes"], rows, labels=3)


def repeat(results: Results) -> Section:
    """Commands, versions, hashes, and the whole configuration."""
    runs = [stage.run for stage in results.ran if stage.run]
    commits = list(dict.fromkeys(run.commit for run in runs if run.commit))
    facts = {
        "Seed": str(results.configuration.get("seed", "")),
        "Git commit": ", ".join(commits),
        "Python": _each([run.python for run in runs]),
        "Platform": _each([run.platform for run in runs]),
        "Processor": _each([run.processor for run in runs]),
    }
    values = {
        "commit": commits[-1] if commits else "",
        "dirty": any(run.dirty for run in runs),
        "facts": {name: value for name, value in facts.items() if value},
        "packages": _packages(runs) if any(run.packages for run in runs) else None,
        "inputs": _inputs(results) if results.of("download") else None,
        "configuration": yaml.safe_dump(results.configuration, sort_keys=False, allow_unicode=True, width=100)
        if results.configuration
        else "",
    }
    return Section("repeat", "How to repeat it", values)


def benchmark(results: Results) -> Section | None:
    """Wall time, processor time, throughput and memory of every stage."""
    ran = [stage for stage in results.ran if stage.run and stage.stage != "report"]
    rows, seconds = [], {}
    for stage in ran:
        run = stage.run
        assert run is not None
        seconds[stage.name] = run.seconds
        rows.append(
            cells(
                Cell(stage.name, href=stage.page),
                duration(run.seconds),
                duration(run.cpu_seconds),
                count(run.threads),
                throughput(stage) or "",
                size(run.peak_memory_bytes),
            )
        )
    if not rows:
        return None
    slowest = dict(sorted(seconds.items(), key=lambda item: -item[1])[:10])
    alternative = "Slowest stages: " + ", ".join(f"{name} {duration(value)}" for name, value in slowest.items())
    drawn = charts.bars(slowest, "seconds", alternative, lambda value: f"{value:.0f}")
    busy, span = busy_seconds(results), span_seconds(results)
    values = {
        "table": Table(
            "Every stage. Wall time and throughput include the start of the kernel.",
            ["Stage", "Wall time", "CPU time", "Threads", "Throughput", "Peak memory"],
            rows,
        ),
        "charts": [Chart(drawn, f"The {len(slowest)} slowest stages, in seconds.")],
        "busy": duration(busy),
        "span": duration(span),
        "sum": duration(sum(seconds.values())),
        "cpu": duration(sum(stage.run.cpu_seconds for stage in ran if stage.run)),
        "paused": busy is not None and span is not None and span > 1.2 * busy + 60,
    }
    return Section("benchmark", "What it cost", values)
