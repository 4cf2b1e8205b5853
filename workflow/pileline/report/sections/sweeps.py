"""What the value of a setting does: the models of each sweep, by the values swept, and the luck of the seed."""

from __future__ import annotations

from typing import Any

from pileline.report import charts
from pileline.report.read import Experiment, Results, Stage
from pileline.report.sections.story import overall
from pileline.report.sections.training import loss_chart
from pileline.report.seeds import Alike, Spread, alike
from pileline.report.sweeps import SEED, Sweep, find_sweeps, representatives, score, written
from pileline.report.tables import (
    MISSING,
    Cell,
    Chart,
    Section,
    Table,
    best_of,
    cells,
    count,
    decimal,
    interval,
    signed,
)

Bounded = tuple[float, float, float]  # a value, and the bounds of its interval
MOST_CURVES = 12  # more lines than this are no longer told apart


def _trained(results: Results, experiment: Experiment) -> dict[str, Any]:
    stage = results.get(f"models/{experiment.name}")
    return stage.metrics if stage else {}


def _scores(results: Results, sweep: Sweep) -> tuple[str, dict[Experiment, Bounded]]:
    """What the models are compared by, and its value for each that has it.

    Bits per byte where every model that was trained has them, else the validation loss.
    """
    trained = [member for member in sweep.members if score(results, member) is not None]
    bits = {}
    for member in trained:
        found = overall(results, member)
        if found.get("bits_per_byte") is not None:
            value = found["bits_per_byte"]
            low, high = found.get("interval") or (value, value)
            bits[member] = (value, min(low, value), max(high, value))
    if bits and len(bits) == len(trained):
        return "bits per byte", bits
    losses = {member: _trained(results, member).get("validation_loss") for member in trained}
    return "validation loss, nats per token", {each: (v, v, v) for each, v in losses.items() if v is not None}


def _pair(member: Experiment) -> str:
    return f"{member.corpus} {member.tokenizer}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _axis(sweep: Sweep) -> int | None:
    """The setting that the chart goes along: of those with numbers only, the one with most values; None without one.

    Numbers of seeds are names.
    """
    values = list(zip(*sweep.members.values(), strict=True))
    numbers = [
        place for place, found in enumerate(values) if sweep.settings[place] != SEED and all(map(_is_number, found))
    ]
    return max(numbers, key=lambda place: len(set(values[place]))) if numbers else None


def _table(results: Results, sweep: Sweep) -> Table:
    """A row a model: the values, its score, and what it is; then a row for the seeds of each recipe."""
    several = len({_pair(member) for member in sweep.members}) > 1
    bits = {member: overall(results, member) for member in sweep.members}
    scores = {member: found.get("bits_per_byte") for member, found in bits.items()}
    losses = {member: _trained(results, member).get("validation_loss") for member in sweep.members}
    rows, groups = [], alike(sweep)
    for member, values in sweep.members.items():
        peers = [] if groups else [each for each in sweep.members if _pair(each) == _pair(member)]
        value, loss = scores[member], losses[member]
        best = best_of([scores[each] for each in peers])
        model, trained = results.get(f"models/{member.name}"), _trained(results, member)
        rows.append(
            cells(
                Cell(member.model or "", href=model.page if model else ""),
                *([_pair(member)] if several else []),
                *map(written, values),
                Cell(
                    decimal(value),
                    best=value is not None and value == best,
                    note=interval(bits[member].get("interval")),
                ),
                Cell(decimal(loss), best=loss is not None and loss == best_of([losses[each] for each in peers])),
                count(trained.get("parameters")),
                count(trained.get("tokens_seen")),
            )
        )
    for group in groups:
        rows.append(
            cells(
                group.name,
                *([_pair(group.members[0])] if several else []),
                *group.values,
                *(_spread_cell([found.get(each) for each in group.members]) for found in (scores, losses)),
                *cells("", ""),
            )
        )
    columns = ["Model", *(["Corpus, tokenizer"] if several else []), *sweep.settings]
    where = "" if several else f" on {next(iter(sweep.members)).corpus} with {next(iter(sweep.members)).tokenizer}"
    caption = f"{sweep.name}: {len(sweep.members)} models{where}, alike but for {' and '.join(sweep.settings)}."
    if groups:
        caption += " Below, means over the seeds, ± the standard deviation among them: the luck of a draw."
    numbers = ["Bits per byte", "Validation loss", "Parameters", "Tokens seen"]
    return Table(caption, [*columns, *numbers], rows, labels=2 if several else 1)


def _spread_cell(numbers: list[float | None]) -> Cell:
    """Their mean, and below it their spread."""
    spread = Spread.of(numbers)
    if spread is None:
        return Cell(MISSING)
    return Cell(decimal(spread.mean), note="" if spread.deviation is None else f"± {decimal(spread.deviation, 4)}")


def _leads(results: Results, sweep: Sweep) -> Table | None:
    """How far the seeds of each recipe lead the other models of their corpus and tokenizer, beside their spread."""
    others = [each for each in representatives(results) if each not in sweep.members]
    rows = [
        row
        for group in alike(sweep)
        for other in others
        if _pair(other) == _pair(group.members[0]) and (row := _lead(results, group, other))
    ]
    if not rows:
        return None
    columns = ["Seeds of", "Beside", "Lead, bits per byte", "Spread among seeds", "Lead in spreads", "Seeds that lead"]
    caption = (
        "Is it luck? The lead of the mean over seeds, against another model. One of several spreads, and with every "
        "seed, is more than the seed's luck; how far the choice of documents matters, the intervals say."
    )
    return Table(caption, columns, rows, labels=2)


def _lead(results: Results, group: Alike, other: Experiment) -> list[Cell] | None:
    """A row of `_leads`; None where a score is missing."""
    found = [overall(results, each).get("bits_per_byte") for each in group.members]
    beside, spread = overall(results, other).get("bits_per_byte"), Spread.of(found)
    if beside is None or spread is None or spread.deviation is None:
        return None
    lead, ahead = beside - spread.mean, [value for value in found if value is not None and value < beside]
    spreads = MISSING if spread.deviation == 0 else signed(lead / spread.deviation, 1)
    there = sum(value is not None for value in found)
    said = signed(lead, 3), decimal(spread.deviation, 4), spreads, f"{len(ahead)} of {there}"
    return cells(group.name, other.model or "", *said)


def _others(sweep: Sweep, member: Experiment, axis: int, several: bool) -> str:
    """What tells a line of the chart from the others: every value but that of the axis."""
    values = [
        f"{key} {written(value)}"
        for place, (key, value) in enumerate(zip(sweep.settings, sweep.members[member], strict=True))
        if place != axis
    ]
    return ", ".join([*([_pair(member)] if several else []), *values]) or sweep.name


def _chart(results: Results, sweep: Sweep) -> Chart | None:
    """The score by the value swept; None where fewer than two models have one."""
    label, scores = _scores(results, sweep)
    if len(scores) < 2:
        return None
    several, axis = len({_pair(member) for member in scores}) > 1, _axis(sweep)
    said = ", ".join(f"{member.model} {bounds[0]:.3f}" for member, bounds in scores.items())
    said = f"{label} by {' and '.join(sweep.settings)}: {said}"
    along = " and ".join(sweep.settings) if axis is None else sweep.settings[axis]
    caption = f"{label[0].upper()}{label[1:]} by {along}; lower is better."
    if axis is None:
        rows: dict[str, dict[str, Bounded]] = {}
        for member, bounds in scores.items():
            name = ", ".join(map(written, sweep.members[member]))
            rows.setdefault(name, {})[_pair(member)] = bounds
        return Chart(charts.intervals(rows, label, said, lambda value: f"{value:.3f}"), caption)
    lines: dict[str, list[tuple[float, float, float, float]]] = {}
    for member, bounds in scores.items():
        point = (float(sweep.members[member][axis]), *bounds)
        lines.setdefault(_others(sweep, member, axis, several), []).append(point)
    return Chart(charts.by_value(lines, (sweep.settings[axis], label), said), caption)


def _curves(results: Results, sweep: Sweep) -> Chart | None:
    """The models' losses by tokens seen."""
    several = len({_pair(member) for member in sweep.members}) > 1
    stages: dict[str, Stage] = {}
    for member in sweep.members:
        stage = results.get(f"models/{member.name}")
        if stage and stage.metrics:
            stages[_others(sweep, member, -1, several)] = stage
    return loss_chart(stages) if len(stages) <= MOST_CURVES else None


def sweeps(results: Results) -> Section | None:
    """Each sweep as a table, a chart of what it reached, and its losses."""
    blocks = []
    for sweep in find_sweeps(results):
        if any(score(results, member) is not None for member in sweep.members):
            drawn = [chart for chart in (_chart(results, sweep), _curves(results, sweep)) if chart]
            tables = {"table": _table(results, sweep), "leads": _leads(results, sweep)}
            blocks.append({"name": sweep.name, "charts": drawn} | tables)
    return Section("sweeps", "Sweeps", {"blocks": blocks}) if blocks else None
