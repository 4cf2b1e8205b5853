"""Boilerplate, as deduplication finds it and mixing strips it: lines or paragraphs that stand in many documents.

A unit (a line, or a paragraph between blank lines) is told by its normalized text. Which ones are boilerplate stands in
a table that deduplication writes; mixing strips them from training text alone.

    boilerplate = read("results/duplicates/demo")
    text = strip(text, boilerplate)  # the same object if nothing was stripped; "" if nothing is left
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from pileline import documents, manifest

NAME = "boilerplate.parquet"
_BREAKS = {"line": re.compile(r"(\n)"), "paragraph": re.compile(r"(\n[^\S\n]*\n\s*)")}
UNITS = tuple(_BREAKS)


@dataclass(frozen=True)
class Boilerplate:
    """The boilerplate of a corpus: `texts` are normalized units, held in memory (some 200 bytes each)."""

    unit: str
    texts: frozenset[str]


def cut(text: str, unit: str) -> list[str]:
    """The text's units and the breaks between them, in turn; joined they are the text."""
    return _BREAKS[unit].split(text)


def strip(text: str, boilerplate: Boilerplate) -> str:
    """The text without the units that are boilerplate, each with the break before it; what is then first has none."""
    if not boilerplate.texts:
        return text
    pieces = cut(text, boilerplate.unit)
    stays = [documents.normalize_for_key(unit) not in boilerplate.texts for unit in pieces[::2]]
    if all(stays):
        return text
    kept = [before + unit for before, unit, stay in zip(["", *pieces[1::2]], pieces[::2], stays, strict=True) if stay]
    first = stays.index(True) if kept else 0
    return "".join([pieces[2 * first], *kept[1:]]) if kept else ""


def read(folder: str | Path) -> Boilerplate:
    """The boilerplate that the deduplication stage at `folder` found; none where the method looks for none."""
    stage = manifest.read(folder, "deduplicate")
    texts = pq.read_table(stage.path(NAME), columns=["text"])["text"].to_pylist()
    found = stage.metrics["boilerplate"]
    return Boilerplate(found["unit"] if found else "line", frozenset(texts))
