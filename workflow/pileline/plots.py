"""Plots as SVG that follow the page: light or dark, any width, with a text alternative.

    figure, axes = plots.figure()
    axes.plot(steps, loss, color=plots.COLORS[0])
    plots.show(figure, "Loss falls from 8.3 to 4.1 nats over 2,000 steps")

Matplotlib draws with placeholder colours for ink, muted ink and grid; `svg` replaces them by the CSS
variables `--plot-ink`, `--plot-muted` and `--plot-grid`, each with a fallback that is legible on white and
on black, so a figure needs no style sheet and a page may still set its own. Text stays text, in the page's
font. The same figure gives the same bytes.
"""

from __future__ import annotations

import hashlib
import html
import io
import re
from typing import Any

import matplotlib
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart with any colour vision; the two that vanish on black or white are left out.
COLORS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#8c8c8c")
_INK, _MUTED, _GRID = "#010203", "#040506", "#070809"
_VARIABLES = {
    _INK: "var(--plot-ink, #808080)",
    _MUTED: "var(--plot-muted, #808080)",
    _GRID: "var(--plot-grid, #80808040)",
}
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "pileline",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.edgecolor": _MUTED,
    "axes.labelcolor": _INK,
    "axes.titlecolor": _INK,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=COLORS),
    "grid.color": _GRID,
    "grid.linewidth": 0.8,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "text.color": _INK,
    "legend.frameon": False,
    "legend.labelcolor": _INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "lines.linewidth": 1.8,
    "figure.constrained_layout.use": True,
}

matplotlib.rcParams.update(_STYLE)  # for good: what is added to a figure later (a legend, a text) takes its style then


def figure(width: float = 6.4, height: float = 3.2, **subplots: Any) -> tuple[Figure, Any]:
    """A figure and its axes (as `Figure.subplots` returns them), in inches, in the house style."""
    made = Figure(figsize=(width, height))
    return made, made.subplots(**subplots)


def svg(made: Figure, alternative: str) -> str:
    """The figure as an inline `<svg>` element that scales with the page; `alternative` says what it shows."""
    buffer = io.StringIO()
    made.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    width = float(re.search(r'width="([\d.]+)pt"', text).group(1))  # type: ignore[union-attr]
    text = re.sub(r' (?:width|height)="[\d.]+pt"', "", text, count=2)
    label = html.escape(alternative, quote=True)
    style = f"max-width:{width * 4 / 3:.0f}px;width:100%;height:auto"
    text = text.replace("<svg", f'<svg role="img" aria-label="{label}" style="{style}"', 1)
    for placeholder, variable in _VARIABLES.items():
        text = text.replace(placeholder, variable)
    # Ids are hashes of content, so two figures of one page could share one; a prefix keeps them apart.
    prefix = f"f{_short_hash(text)}-"
    text = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}\1"', text)
    return re.sub(r'(url\(#|href="#)', rf"\g<1>{prefix}", text)


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def show(made: Figure, alternative: str) -> None:
    """Display the figure in a notebook, as SVG with its text alternative."""
    from IPython.display import HTML, display

    display(HTML(svg(made, alternative)))  # type: ignore[no-untyped-call]


__all__ = ["COLORS", "Axes", "Figure", "figure", "show", "svg"]
