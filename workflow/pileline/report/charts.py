"""The report's charts. Each takes plain numbers and gives an SVG that follows the page and says in words what it shows.

Charts are narrow (about 420 pixels at most), so that on a phone their letters stay legible and on a wide
page two stand side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

from matplotlib.ticker import NullLocator

from pileline import plots

WIDTH = 4.4  # inches; 422 CSS pixels
DASHES = ("-", "--", "-.", ":")
MARKERS = "osD^vPX"
LONGEST = 36  # characters of a name beside a bar, which would leave no room for the bar
MOST_TICKS = 8  # that are written below an axis without touching each other
Points = Sequence[tuple[float, float]]


def _style(index: int) -> dict[str, Any]:
    """Colour, and dashes once colours repeat: lines are never told apart by colour alone beyond the palette."""
    return {
        "color": plots.COLORS[index % len(plots.COLORS)],
        "linestyle": DASHES[(index // len(plots.COLORS)) % len(DASHES)],
    }


def _marker(index: int) -> str:
    """A marker that goes on where colours repeat, so that colour and marker together are of one series."""
    return MARKERS[(index + index // len(plots.COLORS)) % len(MARKERS)]


def _legend(axes: Any, entries: int, **options: Any) -> None:
    """A legend below the axes, in two columns, where there is more than one thing to tell apart."""
    if entries > 1:
        axes.figure.legend(loc="outside lower center", ncols=2, fontsize=9, frameon=False, **options)


def _rows_height(rows: int, legend: int = 0) -> float:
    """The height in inches of a chart with so many horizontal bars and legend entries."""
    return 0.75 + 0.27 * rows + 0.22 * ((legend + 1) // 2)


def shortened(name: str) -> str:
    """A name of at most `LONGEST` characters, cut before its last part: models/tiny-shakespeare/…/lstm-large."""
    last = name.rpartition("/")[2][2 - LONGEST :]
    return name if len(name) <= LONGEST else f"{name[: LONGEST - len(last) - 2]}…/{last}"


def bars(values: Mapping[str, float], label: str, alternative: str, text: Callable[[float], str]) -> str:
    """Horizontal bars, one a name, from the top, each with its value behind it."""
    figure, axes = plots.figure(WIDTH, _rows_height(len(values)))
    names = list(values)
    axes.barh(range(len(names)), list(values.values()), color=plots.COLORS[0], height=0.66)
    for row, value in enumerate(values.values()):
        axes.annotate(text(value), (value, row), xytext=(4, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_yticks(range(len(names)), [shortened(name) for name in names])
    axes.invert_yaxis()
    axes.margins(x=0.22)
    axes.set_xlim(left=0)
    axes.grid(False, axis="y")
    axes.set_xlabel(label)
    return plots.svg(figure, alternative)


def grouped_bars(rows: Mapping[str, Mapping[str, float]], label: str, alternative: str) -> str:
    """Horizontal bars side by side. `rows` maps a name (source) to series (corpus) to a value."""
    series = list(dict.fromkeys(name for values in rows.values() for name in values))
    figure, axes = plots.figure(WIDTH, _rows_height(len(rows), len(series)) + 0.05 * len(rows) * len(series))
    height = 0.76 / max(1, len(series))
    for index, name in enumerate(series):
        places = [row + (index - (len(series) - 1) / 2) * height for row in range(len(rows))]
        widths = [values.get(name, 0.0) for values in rows.values()]
        axes.barh(places, widths, height=height, color=plots.COLORS[index % len(plots.COLORS)], label=name)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.set_xlabel(label)
    _legend(axes, len(series), handlelength=1)
    return plots.svg(figure, alternative)


def stacked_bars(rows: Mapping[str, Mapping[str, float]], label: str, alternative: str, first: str = "") -> str:
    """Horizontal bars cut in parts. `rows` maps a name to its parts; `first` names a part drawn pale, as background."""
    parts = list(dict.fromkeys(part for values in rows.values() for part in values))
    parts.sort(key=lambda part: part != first)
    colors = dict(zip([part for part in parts if part != first], plots.COLORS * 9, strict=False))
    figure, axes = plots.figure(WIDTH, _rows_height(len(rows), len(parts)))
    left = [0.0] * len(rows)
    for part in parts:
        widths = [values.get(part, 0.0) for values in rows.values()]
        style = {"color": "#8c8c8c", "alpha": 0.4} if part == first else {"color": colors[part]}
        axes.barh(range(len(rows)), widths, left=left, label=part, height=0.66, **style)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.set_yticks(range(len(rows)), list(rows))
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.set_xlabel(label)
    _legend(axes, len(parts) + 1, handlelength=1)
    return plots.svg(figure, alternative)


def curves(lines: Mapping[str, Points], marks: Mapping[str, Points], labels: tuple[str, str], alternative: str) -> str:
    """A line a name, and measured points in the same colour: training and validation loss by tokens seen.

    The x axis is logarithmic, since experiments see very different numbers of tokens; x must be above 0.
    """
    figure, axes = plots.figure(WIDTH, 3.0 + 0.22 * ((len(lines) + 1) // 2))
    for index, name in enumerate(dict.fromkeys([*marks, *lines])):
        style = _style(index)
        drawn, points = lines.get(name, ()), marks.get(name, ())
        axes.plot([x for x, _ in drawn], [y for _, y in drawn], alpha=0.55, linewidth=1.1, **style)
        marker = _marker(index)
        axes.plot([x for x, _ in points], [y for _, y in points], marker=marker, markersize=4, label=name, **style)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(lambda *_: "")
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    _legend(axes, len({*lines, *marks}))
    return plots.svg(figure, alternative)


def _shift(name: str, values: Container[str], series: list[str]) -> float:
    """How far below the middle of its row a series stands, among those that the row has."""
    present = [each for each in series if each in values]
    return (present.index(name) - (len(present) - 1) / 2) * 0.62 / max(1, len(series))


def intervals(
    rows: Mapping[str, Mapping[str, tuple[float, float, float]]],
    label: str,
    alternative: str,
    text: Callable[[float], str] | None = None,
    beside: Mapping[str, Mapping[str, Sequence[float]]] | None = None,
) -> str:
    """Points with bounds. `rows` maps a name (source) to series (experiment) to value, low, high.

    `text` writes a value, behind its upper bound; without it points are bare. `beside` maps rows and series likewise
    to other values, drawn as hollow points.
    """
    series = list(dict.fromkeys(name for values in rows.values() for name in values))
    height = 0.1 + (0.12 * (len(series) - 1) if text else 0.0)
    figure, axes = plots.figure(WIDTH, _rows_height(len(rows), len(series)) + height * len(rows))
    for index, name in enumerate(series):
        found = [
            (row + _shift(name, values, series), values[name])
            for row, values in enumerate(rows.values())
            if name in values
        ]
        xs = [value for _, (value, _, _) in found]
        errors = [[value - low for _, (value, low, _) in found], [high - value for _, (value, _, high) in found]]
        marker, color = _marker(index), plots.COLORS[index % len(plots.COLORS)]
        ys = [y for y, _ in found]
        axes.errorbar(xs, ys, xerr=errors, fmt=marker, color=color, markersize=4, elinewidth=1.2, label=name)
        hollow = [
            (other, row + _shift(name, values, series))
            for row, (title, values) in enumerate(rows.items())
            for other in (beside or {}).get(title, {}).get(name, ())
        ]
        axes.plot([x for x, _ in hollow], [y for _, y in hollow], marker, color=color, markersize=4, fillstyle="none")
        for y, (value, _, high) in found:
            if text is None:
                break
            place: dict[str, Any] = {"xytext": (5, 0), "textcoords": "offset points", "va": "center", "fontsize": 9}
            axes.annotate(text(value), (high, y), **place)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_ylim(len(rows) - 0.5, -0.5)  # from the top, and no point on the frame
    axes.set_xlabel(label)
    if text:
        axes.margins(x=0.16)
    _legend(axes, len(series))
    return plots.svg(figure, alternative)


def by_value(
    lines: Mapping[str, Sequence[tuple[float, float, float, float]]], labels: tuple[str, str], alternative: str
) -> str:
    """A score by the value of a setting: a line a name through points (x, value, low, high) with their bounds.

    The x axis is logarithmic where values are positive and span a factor of eight or more, as rates and sizes do.
    """
    figure, axes = plots.figure(WIDTH, 2.9 + (0.22 * ((len(lines) + 1) // 2) if len(lines) > 1 else 0))
    for index, (name, points) in enumerate(lines.items()):
        ordered = sorted(points)
        errors = [[value - low for _, value, low, _ in ordered], [high - value for _, value, _, high in ordered]]
        xs, ys = [x for x, *_ in ordered], [value for _, value, *_ in ordered]
        marker = _marker(index)
        axes.errorbar(xs, ys, yerr=errors, marker=marker, markersize=4.5, elinewidth=1.2, label=name, **_style(index))
    ticks = sorted({x for points in lines.values() for x, *_ in points})
    if ticks[0] > 0 and ticks[-1] / ticks[0] >= 8:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
    if len(ticks) <= MOST_TICKS:
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    _legend(axes, len(lines))
    return plots.svg(figure, alternative)


def histogram(edges: Sequence[float], counts: Sequence[float], threshold: float | None, alternative: str) -> str:
    """Candidate pairs by similarity, with the threshold as a line."""
    figure, axes = plots.figure(WIDTH, 2.7)
    axes.stairs(counts, edges, fill=True, color=plots.COLORS[0], alpha=0.8)
    if threshold is not None:
        axes.axvline(threshold, color=plots.COLORS[3], linestyle="--")
        place = {"xycoords": ("data", "axes fraction"), "xytext": (4, 0), "textcoords": "offset points"}
        axes.annotate("removed →", (threshold, 0.93), fontsize=9, **place)
        axes.margins(y=0.18)
    axes.set_xlabel("Jaccard similarity of a candidate pair")
    axes.set_ylabel("pairs")
    return plots.svg(figure, alternative)


def s_curve(theory: Points, measured: Points, threshold: float | None, alternative: str) -> str:
    """The chance that banding proposes a pair, by the pair's true similarity: in theory, and of planted pairs."""
    figure, axes = plots.figure(WIDTH, 2.9 if measured else 2.7)
    axes.plot([x for x, _ in theory], [y for _, y in theory], color=plots.COLORS[0], label="theory")
    if measured:
        axes.plot([x for x, _ in measured], [y for _, y in measured], "o", color=plots.COLORS[3], label="planted pairs")
    if threshold is not None:
        axes.axvline(threshold, color=plots.COLORS[3], linestyle="--")
    axes.set_xlabel("true Jaccard similarity")
    axes.set_ylabel("chance to be a candidate")
    _legend(axes, 2 if measured else 1)
    return plots.svg(figure, alternative)


def roc(lines: Mapping[str, Points], alternative: str) -> str:
    """Receiver operating characteristic: true against false positive rate, with the diagonal of chance."""
    figure, axes = plots.figure(3.6, 3.6 + 0.22 * ((len(lines) + 1) // 2))
    axes.plot([0, 1], [0, 1], color="#8c8c8c", linewidth=1, linestyle=":")
    for index, (name, points) in enumerate(lines.items()):
        axes.plot([x for x, _ in points], [y for _, y in points], label=name, **_style(index))
    axes.set_xlabel("false positive rate")
    axes.set_ylabel("true positive rate")
    axes.set_aspect("equal")
    _legend(axes, len(lines))
    return plots.svg(figure, alternative)
