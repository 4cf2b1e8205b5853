"""Passes over the text of many documents, by several processes: the same result for any number of them.

The unit of work is a piece, some documents of one row group of a table (at most 4096 of them, and some 32 MB). What a
function makes of a piece depends on its texts alone, and comes back in the order of the pieces, so neither the number
of processes nor their speed shows in what is found. Memory: two pieces a process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import joblib
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pileline.progress import Progress

Result = TypeVar("Result")
_ROWS = 256  # read at a time


@dataclass(frozen=True)
class Piece:
    """Documents of one row group of a table; `numbers` belong to `rows`, which ascend."""

    path: Path
    group: int
    numbers: NDArray[np.int64]
    rows: NDArray[np.int64]

    def batches(self, column: str) -> Iterator[tuple[NDArray[np.int64], pa.Array]]:
        """Numbers and the column's values of some documents at a time, in the order of the rows."""
        first = 0
        with pq.ParquetFile(self.path) as file:
            for batch in file.iter_batches(batch_size=_ROWS, row_groups=[self.group], columns=[column]):
                low, high = np.searchsorted(self.rows, [first, first + batch.num_rows])
                if low < high:
                    yield self.numbers[low:high], batch.column(0).take(pa.array(self.rows[low:high] - first))
                first += batch.num_rows

    def texts(self) -> Iterator[str]:
        """The texts, streamed."""
        for _, values in self.batches("text"):
            yield from values.to_pylist()


def pieces(
    paths: list[Path], table: NDArray[np.int32], row: NDArray[np.int64], wanted: NDArray[np.bool_]
) -> list[Piece]:
    """The documents that `wanted` [n] marks, cut along the row groups of the tables that hold them."""
    numbers = np.flatnonzero(wanted)
    numbers = numbers[np.lexsort((row[numbers], table[numbers]))]
    bounds = np.searchsorted(table[numbers], np.arange(len(paths) + 1))
    found = []
    for place in np.flatnonzero(np.diff(bounds)).tolist():
        mine = numbers[bounds[place] : bounds[place + 1]]
        metadata = pq.read_metadata(paths[place])
        starts = np.cumsum([0, *(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))])
        cuts = np.searchsorted(row[mine], starts)
        for group in np.flatnonzero(np.diff(cuts)).tolist():
            some = mine[cuts[group] : cuts[group + 1]]
            found.append(Piece(paths[place], group, some, row[some] - starts[group]))
    return found


def over(
    found: list[Piece], work: Callable[[Piece], Result], size: NDArray[np.int64], what: str, threads: int
) -> Iterator[tuple[Piece, Result]]:
    """Each piece and what `work` makes of it, in order; by `threads` processes, by this one alone if it is one.

    `size` [n] are the documents' bytes, for the line of progress named `what`.
    """
    parallel = joblib.Parallel(n_jobs=threads, return_as="generator", pre_dispatch="2*n_jobs", batch_size=1)
    results = parallel(joblib.delayed(work)(piece) for piece in found)
    with Progress(what, total=float(sum(size[piece.numbers].sum() for piece in found)), unit="B") as progress:
        for piece, result in zip(found, results, strict=True):
            yield piece, result
            progress.add(int(size[piece.numbers].sum()))
