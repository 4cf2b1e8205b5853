"""Scores of trained models: bits per byte by source, tasks, samples."""

from __future__ import annotations

from typing import Any

from pileline.report import charts
from pileline.report.read import Experiment, Results, Stage
from pileline.report.sweeps import representatives
from pileline.report.tables import (
    Cell,
    Chart,
    Section,
    Table,
    best_of,
    count,
    decimal,
    interval,
)


def _below(stage: Stage) -> str:
    """A stage's name without its first folder: demo/bpe4k of tokenizers/demo/bpe4k."""
    return stage.name.split("/", 1)[-1]


def _scores(results: Results) -> dict[Experiment, dict[str, Any]]:
    """The metrics of the evaluation of each experiment to tell of, where there is one."""
    found = {experiment: results.get(f"evaluations/{experiment.name}") for experiment in representatives(results)}
    return {experiment: stage.metrics for experiment, stage in found.items() if stage and stage.metrics.get("sources")}


def _bits_row(name: str, values: list[dict[str, Any]]) -> list[Cell]:
    """A row of bits per byte: the lowest in bold, each tinted by how far it is above the lowest of the row."""
    bits = [value.get("bits_per_byte") for value in values]
    best, worst = best_of(bits), best_of(bits, largest=True)
    documents = {value["documents"] for value in values if "documents" in value}
    made = [Cell(name, note=f"{documents.pop():,} documents" if len(documents) == 1 else "")]
    for value, number in zip(values, bits, strict=True):
        heat = None
        if number is not None and best is not None and worst is not None and worst > best:
            heat = (number - best) / (worst - best)
        mark = number is not None and number == best and len(bits) > 1
        made.append(Cell(decimal(number), best=mark, heat=heat, note=interval(value.get("interval"), 2)))
    return made


def bits(results: Results) -> Section | None:
    """Bits per byte by source and experiment; None of a single source, of which the main table tells."""
    scores = _scores(results)
    sources = results.in_order({source for metrics in scores.values() for source in metrics["sources"]})
    if len(sources) < 2:
        return None
    rows = [
        _bits_row(source, [metrics["sources"].get(source, {}) for metrics in scores.values()]) for source in sources
    ]
    rows.append(_bits_row("all text", [metrics.get("overall", {}) for metrics in scores.values()]))
    if all("macro_bits_per_byte" in metrics for metrics in scores.values()):
        macro = [{"bits_per_byte": metrics["macro_bits_per_byte"]} for metrics in scores.values()]
        rows.append(_bits_row("mean of sources", macro))
    caption = (
        "Bits per byte on the test split, 95 % interval below. In each row the lowest is bold; the deeper the tint, "
        "the further above it. Below about 30 documents an interval is too narrow."
    )
    names = [results.title(experiment) for experiment in scores]
    drawn = charts.intervals(
        {source: _bounded(results, scores, source) for source in sources},
        "bits per byte",
        f"Bits per byte of {len(names)} experiments on {len(sources)} sources, with 95 % intervals",
    )
    chart = Chart(drawn, "Bits per byte by source with 95 % intervals; further left is better.", wide=True)
    return Section(
        "bits", "Bits per byte, by source", {"table": Table(caption, ["Source", *names], rows), "charts": [chart]}
    )


def _bounded(
    results: Results, scores: dict[Experiment, dict[str, Any]], source: str
) -> dict[str, tuple[float, float, float]]:
    """Value, low and high of a source for each experiment that scored it."""
    made = {}
    for experiment, metrics in scores.items():
        score = metrics["sources"].get(source)
        if score and score.get("bits_per_byte") is not None:
            value = score["bits_per_byte"]
            low, high = score.get("interval") or (value, value)
            made[results.title(experiment)] = (value, min(low, value), max(high, value))
    return made


def _task_table(name: str, metrics: dict[str, Any]) -> Table:
    """A row a method: accuracy with its interval, and macro averages."""
    measures = {
        "accuracy": "Accuracy",
        "precision_macro": "Precision",
        "recall_macro": "Recall",
        "f1_macro": "F1",
        "roc_auc_macro": "ROC area",
    }
    found = metrics["results"]
    order = sorted(found, key=lambda method: (method.endswith("probe"), method != "majority"))
    best = {key: best_of([score.get(key) for score in found.values()], largest=True) for key in measures}
    rows = []
    for method in order:
        score = found[method]
        row = [Cell(method.replace("_", " "))]
        for key in measures:
            value = score.get(key)
            note = interval(score.get("interval")) if key == "accuracy" else ""
            row.append(Cell(decimal(value), best=value is not None and value == best[key], note=note))
        rows.append(row)
    caption = (
        f"{name}: {len(metrics.get('classes', []))} classes, {_amount(metrics.get('train'))} documents to fit,"
        f" {_amount(metrics.get('test'))} to test it. All but accuracy are means over classes."
    )
    return Table(caption, ["Method", *measures.values()], rows)


def _amount(value: Any) -> str:
    """A number of documents, given as a number or as a record with one."""
    return count(value.get("documents") if isinstance(value, dict) else value)


def _confusion(classes: list[str], matrix: list[list[int]]) -> Table:
    """The confusion matrix, rows true and columns predicted, tinted by the share of the row."""
    rows = []
    for number, (name, values) in enumerate(zip(classes, matrix, strict=True), start=1):
        total = sum(values) or 1
        tinted = [
            Cell(count(value), heat=value / total, best=place == number - 1) for place, value in enumerate(values)
        ]
        rows.append([Cell(f"{number}  {name}"), *tinted])
    caption = "The probe's confusions: a row is the true class, a column the predicted one, by number."
    return Table(caption, ["True class", *(str(number) for number in range(1, len(classes) + 1))], rows)


def roc_points(curves: dict[str, dict[str, list[float]]]) -> list[tuple[float, float]]:
    """Points of a method's curve, the mean over classes if it is there."""
    curve = curves.get("macro") or curves.get("micro") or {}
    return list(zip(curve.get("fpr", []), curve.get("tpr", []), strict=True))


def tasks(results: Results) -> Section | None:
    """Scores on labelled data, beside baselines."""
    blocks = []
    for stage in results.of("task"):
        metrics = stage.metrics
        if not metrics.get("results"):
            continue
        probe = next((name for name in metrics["results"] if name.endswith("probe")), "")
        matrix = (metrics["results"].get(probe) or {}).get("confusion")
        lines = {name.replace("_", " "): roc_points(curve) for name, curve in (metrics.get("roc") or {}).items()}
        lines = {name: points for name, points in lines.items() if points}
        drawn = []
        if lines:
            areas = ", ".join(
                f"{row}: {score.get('roc_auc_macro', 0):.3f}" for row, score in metrics["results"].items()
            )
            drawn = [Chart(charts.roc(lines, f"ROC curves; area {areas}"), "ROC, mean over classes; dotted: chance.")]
        blocks.append(
            {
                "name": _below(stage),
                "page": stage.page,
                "table": _task_table(_below(stage), metrics),
                "confusion": _confusion(metrics["classes"], matrix) if matrix else None,
                "charts": drawn,
                "examples": metrics.get("examples", [])[:8],
            }
        )
    return Section("tasks", "Tasks", {"blocks": blocks}) if blocks else None


def samples(results: Results) -> Section | None:
    """What each model writes after each prompt."""
    prompts: dict[str, list[tuple[str, str]]] = {}
    for experiment in representatives(results):
        stage = results.get(f"evaluations/{experiment.name}")
        for sample in stage.metrics.get("samples", []) if stage else []:
            text = sample["text"].removeprefix(sample["prompt"])
            prompts.setdefault(sample["prompt"], []).append((results.title(experiment), text))
    return Section("samples", "Samples", {"prompts": prompts}) if prompts else None
