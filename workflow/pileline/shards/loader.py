"""Batches for training: a function of the seed and the step, and nothing else.

The stream is laid out in rows of `context` inputs (`packing` says how: by plain concatenation, cutting documents where
rows end, or whole documents by best fit, with padding). A row's targets are the same tokens one place on. Every epoch
visits every row once, in an order of its own drawn from (seed, epoch); a batch is the next `batch` rows of that
endless sequence. The step number is all the state there is: a run resumed at step s goes on exactly as if it had
never stopped, and no epoch sees less of the stream than another.

What is lost: by concatenation, less than one row of tokens at the end of the stream is never drawn, and most documents
are cut; by best fit nothing is dropped and only documents longer than a row are cut, but some places are padding.
`Loader.account` counts all three. What it costs: memory for two stretches of batches, whatever the size of the data.
No random number is drawn from a global generator.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from functools import lru_cache
from typing import Protocol

import numpy as np

from pileline.shards.ahead import in_order
from pileline.shards.order import Permutation
from pileline.shards.packing import Account, Batch, Numbers, rows_of
from pileline.shards.read import ShardSet
from pileline.shards.write import ShardError

STRETCH = 1 << 16  # tokens: small batches are made so many at a time


class Batches(Protocol):
    """What `prefetch` and a training loop need of a loader."""

    epoch_steps: int

    def batch_at(self, step: int) -> Batch: ...


class Loader:
    """Batches of a split: `batch_at(step)`, for steps from 0 without end.

    `batch` rows of `context` tokens a step, over all `ranks` together; of these, this loader gives the part of `rank`,
    so the ranks' parts one below the other are the same batch for any number of ranks. `blocks` is how many rows an
    epoch has, `epoch_steps` the steps that visit them all, rounded up (the last batch of an epoch is filled from the
    next one's rows). `weights` maps sources to how many times an epoch draws their documents, 1.0 if not given.
    """

    def __init__(
        self,
        shards: ShardSet,
        batch: int,
        context: int,
        seed: int,
        *,
        packing: str = "concatenate",
        weights: Mapping[str, float] | None = None,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        if batch < 1 or context < 1:
            raise ValueError(f"batch is {batch} and context {context}; both must be at least 1")
        if not 0 <= rank < ranks <= batch:
            raise ValueError(
                f"rank {rank} of {ranks} with {batch} rows a batch; there must be 0 <= rank < ranks <= rows"
            )
        self._rows = rows_of(shards, context, packing, weights, seed)
        self.blocks = self._rows.count
        if self.blocks < 1:
            raise ShardError(
                f"split '{shards.split}' has {shards.n_tokens} tokens, too few for one sequence of {context} and its "
                "targets; lower the model's context or add text"
            )
        self.batch, self.context, self.seed = batch, context, seed
        self.epoch_steps = -(-self.blocks // batch)
        self._mine = np.arange(rank * batch // ranks, (rank + 1) * batch // ranks)  # rows of each batch
        # steps made at a time
        self._stretch = min(max(STRETCH // (len(self._mine) * context), 1), self.epoch_steps)
        self._order = lru_cache(maxsize=2)(self._draw_order)  # a batch may span two epochs
        self._made = lru_cache(maxsize=2)(self._make)

    def _draw_order(self, epoch: int) -> Permutation:
        return Permutation(self.blocks, [self.seed, epoch])

    def _numbers(self, first: int, steps: int) -> Numbers:
        """The rows of this rank in `steps` batches from step `first` on, one after the other."""
        sequence = (np.arange(first, first + steps)[:, None] * self.batch + self._mine).ravel()
        epochs, places = np.divmod(sequence, self.blocks)
        rows = np.empty_like(sequence)
        for epoch in np.unique(epochs).tolist():
            rows[epochs == epoch] = self._order(epoch)(places[epochs == epoch])
        return rows

    def _make(self, number: int) -> tuple[Numbers, Numbers]:
        """The batches of stretch `number`, one below the other."""
        return self._rows.read(self._numbers(number * self._stretch, self._stretch))

    def batch_at(self, step: int) -> Batch:
        """Inputs and targets of a step, int64 [rows of this rank, context].

        Targets are the inputs one token on, or `PADDING` where a row is padded, which a loss must leave out.
        """
        if step < 0:
            raise ValueError(f"step is {step}; steps count from 0")
        if self._stretch == 1:
            return self._rows.read(self._numbers(step, 1))
        number, place = divmod(step, self._stretch)
        inputs, targets = self._made(number)
        mine = slice(place * len(self._mine), (place + 1) * len(self._mine))
        return inputs[mine].copy(), targets[mine].copy()

    def account(self) -> Account:
        """Rows, tokens, padding, cut documents and dropped tokens of an epoch, over all ranks."""
        return self._rows.account()


def prefetch(batches: Batches, steps: Iterable[int], ahead: int = 2) -> Generator[Batch]:
    """`batches.batch_at(step)` for each step in turn, `ahead` of them made in the background by a thread.

    The same batches as without; an exception is raised where its batch would have stood. With 0 there is no thread.
    """
    return in_order(batches.batch_at, steps, ahead=ahead)
