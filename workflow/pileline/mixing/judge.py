"""One table of cleaned documents, read batch by batch: which documents may enter the corpus, and as what text.

The order of the reasons: a duplicate leaves in any split; then, in the train split alone, what a task tests on, what
is nothing but boilerplate, what a cap does not admit, and what a weight below one passes over. The last two need the
sizes of all sources, so they are for `passes` to judge.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pileline import documents
from pileline.boilerplate import Boilerplate, strip
from pileline.mixing.plan import BOILERPLATE, TASK, Plan


@dataclass
class Judged:
    """A batch of n documents of one source.

    rows      the batch, boilerplate cut from its training texts
    ids, keys [n]
    entered   [n] bytes as they were cleaned
    size      [n] bytes as they are in `rows`
    split     [n] names of splits
    reason    [n] why the document leaves, "" where it stays
    found     places in the plan's removals of those that leave as duplicates
    """

    rows: pa.RecordBatch
    ids: list[str]
    keys: list[bytes]
    entered: NDArray[np.int64]
    size: NDArray[np.int64]
    split: list[str]
    reason: list[str]
    found: NDArray[np.int64]


def judge(path: Path, source: str, plan: Plan) -> Iterator[Judged]:
    """The documents of the table at `path`, in order."""
    for batch in documents.batches(path, list(documents.SCHEMA.names)):
        ids, keys = batch.column("id").to_pylist(), batch.column("key").to_pylist()
        places = plan.removals.find(ids)
        split = [plan.split(key) for key in keys]
        reason = [plan.removals.names[plan.removals.reasons[place]] if place >= 0 else "" for place in places.tolist()]
        for number, key in enumerate(keys):
            if not reason[number] and split[number] == "train" and plan.is_task(source, key):
                reason[number] = TASK
        entered = documents.text_bytes(batch)
        rows = batch if plan.boilerplate is None else _strip(batch, split, reason, plan.boilerplate)
        size = entered if rows is batch else documents.text_bytes(rows)
        yield Judged(rows, ids, keys, entered, size, split, reason, places[places >= 0])


def _strip(batch: pa.RecordBatch, split: list[str], reason: list[str], boilerplate: Boilerplate) -> pa.RecordBatch:
    """The batch with its training texts stripped of boilerplate; marks in `reason` those of which nothing is left."""
    texts = batch.column("text").to_pylist()
    changed = False
    for number, text in enumerate(texts):
        if not reason[number] and split[number] == "train":
            left = strip(text, boilerplate)
            if left != text:
                texts[number], changed = left, True
                if not left.strip():
                    reason[number] = BOILERPLATE
    if not changed:
        return batch
    place = batch.schema.get_field_index("text")
    return batch.set_column(place, batch.schema.field(place), pa.array(texts, pa.string()))
