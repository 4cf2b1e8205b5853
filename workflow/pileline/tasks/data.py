"""Labelled documents of a cleaned source, in train and test.

The test part is decided by a hash of the document's text, as the corpora's holdout is: the mixing stage leaves
the same documents out of every training set (`protected`), so no model has been trained on a text that it is tested on.
Copies are told by the document's key; of a text with two labels neither is right, and it is left out.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pileline import documents
from pileline.documents import Document

DEFAULTS: dict[str, Any] = {"drop": [], "test": 0.1, "tokens": 128}
MINIMUM_TRAIN = 5  # documents that a class needs to be learned, and checked, at all


class TaskError(ValueError):
    """A task whose documents carry no usable labels, or a model that cannot take part."""


@dataclass(frozen=True)
class Part:
    """The documents of one side of a task; `labels` are indices into the task's classes, int64 [documents]."""

    ids: list[str]
    texts: list[str]
    labels: npt.NDArray[np.int64]
    validation: npt.NDArray[np.bool_]  # the part of a training set on which settings are chosen

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Labelled:
    """A task: its classes by name, train and test, and how many documents were left out for which reason."""

    classes: list[str]
    train: Part
    test: Part
    left_out: dict[str, int]


def read(paths: Iterable[str | Path], labelled: dict[str, Any]) -> Labelled:
    """Read a task from the document tables at `paths`, by an entry of `tasks` in config.yaml.

    `label` is the key of the documents' metadata that holds the label, `drop` lists labels to leave out,
    `test` is the share of documents to test on (`tokens` is the probe's business). Raises `TaskError` unless
    two classes remain that have documents to learn from and to test on.
    """
    rows = chain.from_iterable(map(documents.read, paths))
    return split(rows, labelled["label"], {**DEFAULTS, **labelled})


def split(rows: Iterable[Document], label: str, settings: dict[str, Any]) -> Labelled:
    """As `read`, of documents."""
    left_out: Counter[str] = Counter()
    found: dict[bytes, tuple[Document, set[str]]] = {}
    for row in rows:
        value = json.loads(row.metadata).get(label)
        if value is None or str(value) in settings["drop"]:
            left_out["no label" if value is None else "dropped label"] += 1
        elif row.key in found:
            first, values = found[row.key]
            found[row.key] = (min(first, row, key=lambda copy: copy.id), values | {str(value)})  # in any order of rows
            left_out["copy"] += 1
        else:
            found[row.key] = (row, {str(value)})
    groups: dict[str, list[Document]] = defaultdict(list)
    for row, values in found.values():
        if len(values) > 1:
            left_out["copies with different labels"] += 1
        else:
            groups[min(values)].append(row)
    for name in [name for name, members in groups.items() if not _enough(members, settings["test"])]:
        left_out["class too small"] += len(groups.pop(name))
    if len(groups) < 2:
        raise TaskError(
            f"{len(groups)} classes with at least {MINIMUM_TRAIN} documents to train on and one to test on, by "
            f"metadata '{label}'; 2 are needed. Left out: {dict(left_out)}; check the task's `label`, `drop` and `test`"
        )
    return _labelled(groups, settings["test"], left_out)


def _enough(members: list[Document], test: float) -> bool:
    tested = sum(documents.fraction(row.key) < test for row in members)
    return tested >= 1 and len(members) - tested >= MINIMUM_TRAIN


def _labelled(groups: dict[str, list[Document]], test: float, left_out: Counter[str]) -> Labelled:
    classes = sorted(groups)
    rows = sorted((row.id, row, classes.index(name)) for name, members in groups.items() for row in members)
    sides: dict[bool, list[tuple[Document, int]]] = {True: [], False: []}
    for _, row, number in rows:
        sides[documents.fraction(row.key) < test].append((row, number))
    return Labelled(classes, _part(sides[False]), _part(sides[True]), dict(sorted(left_out.items())))


def _part(rows: list[tuple[Document, int]]) -> Part:
    return Part(
        [row.id for row, _ in rows],
        [row.text for row, _ in rows],
        np.array([number for _, number in rows], dtype=np.int64),
        _validation([row.key for row, _ in rows]),
    )


def _validation(keys: list[bytes], share: float = 0.2) -> npt.NDArray[np.bool_]:
    """A fifth of the documents, by the half of the key that does not decide train and test."""
    return np.array([documents.fraction(key[8:]) < share for key in keys], dtype=bool)
