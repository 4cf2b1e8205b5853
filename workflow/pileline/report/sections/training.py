"""How models were trained and what each is: tables, what happened on the way, curves; and exported models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pileline.report import charts
from pileline.report.read import Experiment, Results, Stage
from pileline.report.sweeps import SHOWN, representatives
from pileline.report.tables import MISSING, Cell, Chart, Section, Table, cells, count, decimal, duration, percent

Metrics = dict[str, Any]
NATS = "cross-entropy"  # the loss whose mean is in nats a token
SHAPE = ("order", "window", "layers", "heads", "width", "hidden", "context")  # settings that tell a model's size
RATES = {"rate": "rate", "matrix_rate": "matrices", "embedding_rate": "embeddings", "vector_rate": "vectors"}


@dataclass(frozen=True)
class Column:
    """A column of the training table: its cell for a model's metrics, and texts that alone are not worth a column."""

    title: str
    cell: Callable[[Metrics], Cell]
    dull: tuple[str, ...] = ()


def _counts(metrics: Metrics) -> bool:
    """Whether a model learns by counting, not by steps."""
    return metrics.get("kind") == "ngram" or str((metrics.get("optimizer") or {}).get("name", "")).startswith("none")


def _other_loss(metrics: Metrics) -> str:
    """What a model was trained to lower, if that is not in nats a token; empty otherwise."""
    loss = (metrics.get("settings") or {}).get("loss")
    return str(loss) if loss is not None and loss != NATS and not _counts(metrics) else ""


def _kind(metrics: Metrics) -> Cell:
    """A model's kind, and its shape below."""
    settings = metrics.get("settings") or {}
    shape = [f"{name} {settings[name]}" for name in SHAPE if settings.get(name) is not None]
    return Cell(str(metrics.get("kind", MISSING)), note=", ".join(shape))


def _optimizer(metrics: Metrics) -> Cell:
    """Its name, and its rates below."""
    optimizer = metrics.get("optimizer") or {}
    if _counts(metrics):
        return Cell("counts")
    rates = [f"{word} {optimizer[key]:g}" for key, word in RATES.items() if optimizer.get(key) is not None]
    rates += [f"weight decay {optimizer['weight_decay']:g}"] if optimizer.get("weight_decay") else []
    return Cell(str(optimizer.get("name") or MISSING).split(" on ")[0], note=", ".join(rates))


def _budget(metrics: Metrics) -> str:
    """What was given: "10 minutes", "1 epoch", "2,000,000 tokens"; of steps only that, since they have a column."""
    given = [
        unit if unit == "steps" else f"{_plain(amount)} {unit if amount != 1 else unit[:-1]}"
        for unit, amount in _given(metrics)
    ]
    return ", ".join(given) or MISSING


def _plain(amount: float) -> str:
    """12000000 as "12,000,000", 0.5 as "0.5"."""
    return count(amount) if amount == int(amount) else f"{amount:g}"


def _given(metrics: Metrics) -> list[tuple[str, float]]:
    return [(unit, amount) for unit, amount in (metrics.get("budget") or {}).items() if amount is not None]


def _packing(metrics: Metrics) -> Cell:
    """How documents were laid in blocks, and what that cost: documents cut, places without a token."""
    packing = metrics.get("packing") or {}
    notes = [f"{percent(packing['cut_share'], 0)} of documents cut"] if packing.get("cut_share") else []
    padded = 1 - (packing.get("efficiency") or 1)
    notes += [f"{percent(padded)} padding"] if padded > 0 else []
    return Cell(str(packing.get("packing") or MISSING).replace("_", " "), note=", ".join(notes))


def _device(metrics: Metrics) -> Cell:
    """Where it was computed; below, how: precision, threads, processes, compilation."""
    threads, processes = metrics.get("threads"), metrics.get("processes")
    notes = [str(metrics["precision"])] if metrics.get("precision") else []
    if threads and metrics.get("device") == "cpu":
        notes.append(f"{threads} thread{'s' if threads != 1 else ''}")
    notes += [f"{processes} processes"] if processes and processes > 1 else []
    notes += ["compiled"] if metrics.get("compiled") else []
    return Cell(str(metrics.get("device") or MISSING), note=", ".join(notes))


def _steps(metrics: Metrics) -> Cell:
    """How many, and of how many tokens."""
    batch = metrics.get("batch_tokens")
    return Cell(
        MISSING if _counts(metrics) else count(metrics.get("steps")), note=f"of {count(batch)} tokens" if batch else ""
    )


def _skipped(metrics: Metrics) -> Cell:
    """Steps that were not taken, because they were spikes."""
    return Cell(MISSING if _counts(metrics) else count(metrics.get("skipped_steps")))


def _best(metrics: Metrics) -> Cell:
    """The step with the lowest validation loss, where that is not the last one."""
    best = metrics.get("best_step")
    return Cell(count(best) if best and best != metrics.get("steps") else "")


TEXTS = (
    Column("Optimizer", _optimizer, ("counts",)),
    Column("Schedule", lambda metrics: Cell(str((metrics.get("optimizer") or {}).get("schedule") or MISSING))),
    Column("Packing", _packing),
    Column("Device", _device),
    Column("Budget", lambda metrics: Cell(_budget(metrics)), ("steps",)),
)
NUMBERS = (
    Column("Steps", _steps),
    Column("Skipped steps", _skipped, ("0",)),
    Column("Best step", _best),
)


def _ways_table(stages: dict[str, Stage]) -> Table | None:
    """How each model was trained, in the columns that say something; None without one."""
    dull = {"", MISSING}
    texts, numbers = (
        [
            column
            for column in columns
            if any(column.cell(stage.metrics).text not in dull.union(column.dull) for stage in stages.values())
        ]
        for columns in (TEXTS, NUMBERS)
    )
    if not texts and not numbers:
        return None
    rows = [
        [Cell(name, href=stage.page), *(column.cell(stage.metrics) for column in (*texts, *numbers))]
        for name, stage in stages.items()
    ]
    titles = ["Model", *(column.title for column in (*texts, *numbers))]
    return Table("How each was trained, by its manifest.", titles, rows, labels=1 + len(texts))


def _models_table(stages: dict[str, Stage]) -> Table:
    """What each model is, how much it saw and took, where its losses ended."""
    timed = any(stage.run for stage in stages.values())
    rows = []
    for name, stage in stages.items():
        metrics, other = stage.metrics, _other_loss(stage.metrics)
        rows.append(
            cells(
                Cell(name, href=stage.page),
                _kind(metrics),
                count(metrics.get("parameters")),
                count(metrics.get("tokens_seen")),
                decimal(metrics.get("epochs"), 2),
                *([duration(stage.run.cpu_seconds if stage.run else None)] if timed else []),
                Cell(decimal(metrics.get("final_training_loss")), note=f"{other}, not nats" if other else ""),
                decimal(metrics.get("validation_loss")),
            )
        )
    columns = ["Model", "Kind", "Parameters", "Tokens seen", "Epochs", *(["CPU time"] if timed else [])]
    columns += ["Training loss", "Validation loss"]
    caption = (
        "Models from theory to practice. Losses in nats per token, which compare models of the same tokenizer; bits "
        "per byte compare all. The validation loss is that of the trained model on whole documents, the same for all "
        "models of a corpus and tokenizer."
    )
    caption += " CPU time is that of all cores together." if timed else ""
    return Table(caption, columns, rows, labels=2)


def happened(metrics: Metrics) -> list[str]:
    """What training met on its way, a sentence each.

    Minutes turned into steps, spikes, doubts that the model is any good, an early stop, another loss.
    """
    steps, best, skipped = metrics.get("steps"), metrics.get("best_step"), metrics.get("skipped_steps")
    told = []
    for unit, amount in _given(metrics):
        if unit == "minutes" and steps is not None and not metrics.get("stopped_early"):
            word = "minute" if amount == 1 else "minutes"
            told.append(f"its budget of {amount:g} {word} came to {count(steps)} steps on the machine that trained it.")
    if skipped:
        step = "step" if skipped == 1 else "steps"
        told.append(f"{count(skipped)} {step} skipped, because the loss or the gradient was a spike.")
    told += [str(doubt) for doubt in metrics.get("doubts") or []]
    if metrics.get("stopped_early"):
        kept = f"; its weights are those of step {count(best)}" if best else ""
        told.append(
            f"stopped early, after step {count(steps)}, because the validation loss was no longer falling{kept}."
        )
    elif best and steps and best < steps:
        told.append(f"the validation loss was lowest at step {count(best)} of {count(steps)} and rose again.")
    other = _other_loss(metrics)
    if other == "mse":
        told.append(
            "trained by the squared error of its probabilities (mse), so its training loss is not in nats and is not "
            "in the chart; its validation loss is, and compares."
        )
    elif other:
        told.append(f"trained by another loss, {other}, so its training loss is not in nats and is not in the chart.")
    return told


def _curve(metrics: Metrics, key: str) -> list[tuple[float, float]]:
    """(tokens in millions, value) of the points of a training curve that have the value, after the first token."""
    points = metrics.get("curve") or []
    return [(point["tokens"] / 1e6, point[key]) for point in points if point.get(key) is not None and point["tokens"]]


def loss_chart(stages: dict[str, Stage], more: str = "") -> Chart | None:
    """Training and validation loss by tokens seen, a colour a model; None without any. `more` ends the caption."""
    lines = {
        name: points
        for name, stage in stages.items()
        if not _other_loss(stage.metrics) and (points := _curve(stage.metrics, "loss"))
    }
    marks = {name: points for name, stage in stages.items() if (points := _curve(stage.metrics, "validation_loss"))}
    if not lines and not marks:
        return None
    ends = ", ".join(f"{name} ends at {points[-1][1]:.3f}" for name, points in {**lines, **marks}.items())
    made = charts.curves(lines, marks, ("million tokens seen", "loss, nats per token"), f"Loss falls: {ends}")
    caption = (
        "Training loss (thin) and validation loss (with marks) by tokens seen. On the way networks are validated on "
        "some blocks of text, whose first tokens have little to go by: a line tells how one model fares, the table "
        f"which is better.{more}"
    )
    return Chart(made, caption, wide=True)


def _stages(results: Results, experiments: tuple[Experiment, ...], room: str) -> dict[str, Stage]:
    """What the experiments left in one of the stages' folders, with metrics, by what they are called."""
    found = {each: results.get(f"{room}/{each.name}") for each in experiments if each.model is not None}
    return {results.title(each): stage for each, stage in found.items() if stage and stage.metrics}


def training(results: Results) -> Section | None:
    """What each model is, how it was trained, what happened on the way, and loss against tokens seen."""
    stages = _stages(results, results.experiments, "models")
    if not stages:
        return None
    shown = _stages(results, representatives(results), "models")
    more = SHOWN if len(shown) < len(stages) else ""
    drawn = loss_chart(shown, more)
    values = {
        "table": _models_table(stages),
        "ways": _ways_table(stages),
        "events": [(name, told) for name, stage in stages.items() for told in happened(stage.metrics)],
        "charts": [drawn] if drawn else [],
    }
    return Section("training", "Training", values)


def exports(results: Results) -> Section | None:
    """In which architecture `transformers` reads each exported model, and how far its logits are from ours."""
    rows, stages = [], _stages(results, results.experiments, "exports")
    for name, stage in stages.items():
        metrics, parity = stage.metrics, stage.metrics.get("parity") or {}
        difference = parity.get("largest_difference")
        rows.append(
            cells(
                Cell(name, href=stage.page),
                str(metrics.get("architecture") or MISSING),
                "travels with it" if metrics.get("own_code") else "transformers' own",
                MISSING if difference is None else f"{difference:.1e}".replace("-", "−"),
                decimal(parity.get("largest_logit"), 1),
                percent(parity.get("same_choice"), 2),
                count(parity.get("tokens")),
            )
        )
    if not rows:
        return None
    columns = ["Model", "Architecture", "Its code", "Largest difference", "Largest logit", "Same choice", "Places"]
    caption = (
        "The architecture in which transformers reads each model, and its logits beside ours: the largest difference, "
        "and the share of places at which both find the same token likeliest."
    )
    folder = next(iter(stages.values())).name
    return Section("exports", "Exports", {"table": Table(caption, columns, rows, labels=3), "folder": folder})
