"""Tables and sections as plain values, and numbers as people read them. Templates do the rest."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pileline.progress import clock, readable

MISSING = "–"


@dataclass(frozen=True)
class Cell:
    """A table's cell. `heat` in [0, 1] tints it; `best` sets it in bold with a mark; `note` is a small second line."""

    text: str
    href: str = ""
    best: bool = False
    heat: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Table:
    """A table whose first `labels` columns are text and whose other columns are numbers, set flush right."""

    caption: str
    columns: list[str]
    rows: list[list[Cell]]
    labels: int = 1


@dataclass(frozen=True)
class Chart:
    """An inline SVG and the sentence below it; `wide` spans the page."""

    svg: str
    caption: str
    wide: bool = False


@dataclass(frozen=True)
class Section:
    """A part of the report: its anchor, its title, the template that sets it, and the values it is set from."""

    anchor: str
    title: str
    values: dict[str, Any] = field(default_factory=dict)

    @property
    def template(self) -> str:
        return f"sections/{self.anchor}.html"


def cells(*texts: str | Cell) -> list[Cell]:
    """A row of cells from texts and cells."""
    return [text if isinstance(text, Cell) else Cell(text) for text in texts]


def count(number: float | None) -> str:
    """1234567 as "1,234,567"."""
    return MISSING if number is None else f"{number:,.0f}"


def size(number: float | None) -> str:
    """Bytes as "1.2 MB"."""
    return MISSING if number is None else readable(number, "B")


def decimal(number: float | None, places: int = 3) -> str:
    """A number with so many places."""
    return MISSING if number is None else f"{number:,.{places}f}".replace("-", "−")


def signed(number: float, places: int = 4) -> str:
    """A number with its sign, as differences are given."""
    return f"{number:+,.{places}f}".replace("-", "−")


def percent(share: float | None, places: int = 1) -> str:
    """A share of one as "12.3 %"."""
    return MISSING if share is None else f"{100 * share:.{places}f} %"


def interval(bounds: Any, places: int = 3) -> str:
    """A pair of bounds as "1.234 to 1.260"; empty without one."""
    return f"{decimal(bounds[0], places)} to {decimal(bounds[1], places)}" if bounds else ""


def duration(seconds: float | None) -> str:
    """Seconds as "4.2 s" below a minute, m:ss or h:mm:ss above."""
    if seconds is None:
        return MISSING
    return f"{seconds:.1f} s" if seconds < 60 else clock(seconds)


def ratio(part: float, whole: float) -> float | None:
    """part / whole, or None for an empty whole."""
    return part / whole if whole else None


def best_of(values: list[float | None], largest: bool = False) -> float | None:
    """The best of the values that are there: the smallest, or the largest."""
    present = [value for value in values if value is not None]
    if not present:
        return None
    return max(present) if largest else min(present)
