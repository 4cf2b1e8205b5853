"""Boilerplate: lines or paragraphs that stand in many documents, as menus, licences and signatures do.

A unit (a line, or a paragraph between blank lines) is told by its normalized text. One that stands in at least so many
different documents of training text is boilerplate, and mixing strips it from every training document, the first not
excepted. Holdout text is never changed, and duplicates are told by the text with its boilerplate.

    boilerplate = read_boilerplate("results/duplicates/demo")
    text = strip(text, boilerplate)  # the same object if nothing was stripped; "" if nothing is left
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pileline import documents, manifest

NAME = "boilerplate.parquet"
SCHEMA = pa.schema(
    [
        pa.field("text", pa.string(), nullable=False),  # of the unit, normalized
        pa.field("documents", pa.int64(), nullable=False),  # training documents that it stands in
    ]
)
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
    """The text without the units that are boilerplate, each with the break that stood before it."""
    if not boilerplate.texts:
        return text
    pieces = cut(text, boilerplate.unit)
    stays = [documents.normalize_for_key(unit) not in boilerplate.texts for unit in pieces[::2]]
    if all(stays):
        return text
    breaks = ["", *pieces[1::2]]
    left = "".join(before + unit for before, unit, stay in zip(breaks, pieces[::2], stays, strict=True) if stay)
    return left if stays[0] else left.lstrip("\n")


def read_boilerplate(folder: str | Path) -> Boilerplate:
    """The boilerplate that the deduplication stage at `folder` found; none where the method looks for none."""
    stage = manifest.read(folder, "deduplicate")
    texts = pq.read_table(stage.path(NAME), columns=["text"])["text"].to_pylist()
    found = stage.metrics["boilerplate"]
    return Boilerplate(found["unit"] if found else "line", frozenset(texts))
