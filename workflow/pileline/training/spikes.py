"""Loss spikes: a step whose loss or gradient is far out of line is skipped, and a run that does not recover is stopped.

A batch of odd text, or rates at the edge of what is stable, can throw weights far off in one step. So a step is judged
before it is taken, against the last 128: it is skipped where its loss, or its gradient's norm, lies more than 6
standard deviations above their mean (llm.c, and OLMo's skip-step optimizer; OLMo 2, 2025, section 3.3). A skipped step
counts among the 128 like any other: after a few that are alike the new level is what is usual, and steps are taken
again, for skipping alone would not bring weights back that have already moved. A loss that is no number is skipped and
not among them.

Training stops where there is no way back: after 8 skipped steps in a row, each further out than the last or no number;
when the mean loss of 128 steps is a quarter above that at the start; and after 8 steps without any gradient, though
there is a loss: numbers have overflowed in the network and its outputs no longer depend on its weights.

Falling losses are no spikes, nor is what a model does at a small scale that knows its text by heart: the deviation of
the loss counts as at least 0.02 nats, that of the norm as at least a tenth of its mean, and norms within `clip` are
harmless.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from operator import mul
from statistics import fmean
from typing import Any

WINDOW = 128  # steps that a step is judged against
FEWEST = 64  # steps before any is judged
DEVIATIONS = 6.0
LOSS_FLOOR = 0.02  # nats
NORM_FLOOR = 0.1  # of the mean norm
IN_A_ROW = 8  # skipped steps, or steps without a gradient, until training stops
DIVERGED = 1.25  # of the mean loss at the start, likewise


class Spikes:
    """Judges steps. `state()` is all there is to it, and `Spikes(**state)` goes on from there."""

    def __init__(
        self,
        losses: Iterable[float] = (),
        norms: Iterable[float] = (),
        skipped: int = 0,
        in_a_row: int = 0,
        start: float | None = None,
        still: int = 0,
        first: float | None = None,
    ) -> None:
        self.losses, self.norms = deque(losses, WINDOW), deque(norms, WINDOW)
        self.skipped, self.in_a_row = skipped, in_a_row
        self.still = still  # steps in a row without a gradient
        self.first, self.start = first, start  # loss of the first step; mean of the first ones, once there are enough

    def state(self) -> dict[str, Any]:
        """Lists and numbers."""
        return vars(self) | {"losses": list(self.losses), "norms": list(self.norms)}

    def skip(self, loss: float, norm: float, clip: float) -> bool:
        """Whether the step of this loss and norm must not be taken; remembers either."""
        finite = math.isfinite(loss) and math.isfinite(norm)
        bad = not finite
        if finite and len(self.losses) >= FEWEST:
            bad = loss > limit(self.losses, LOSS_FLOOR) or (
                norm > clip and norm > limit(self.norms, NORM_FLOOR * sum(self.norms) / len(self.norms))
            )
        if finite:
            self.first = loss if self.first is None else self.first
            self.losses.append(loss)
            self.norms.append(norm)
            if self.start is None and len(self.losses) == FEWEST:
                self.start = sum(self.losses) / FEWEST
        self.skipped += bad
        self.in_a_row = self.in_a_row + 1 if bad else 0
        self.still = self.still + 1 if norm == 0 and loss > LOSS_FLOOR else 0  # a loss of 0 has none either
        return bad

    @property
    def level(self) -> float | None:
        """Mean of the last losses; None while too few are known to tell a bad end from a short training."""
        return fmean(list(self.losses)[-FEWEST:]) if len(self.losses) == WINDOW else None

    @property
    def hopeless(self) -> str:
        """Why there is no way back for the weights; empty while there is."""
        if self.in_a_row >= IN_A_ROW:
            return f"{self.in_a_row} steps in a row were skipped as spikes, {self.skipped} in all"
        if self.still >= IN_A_ROW:
            return f"the gradient has been 0 for {self.still} steps, as when numbers overflow"
        mean = sum(self.losses) / max(len(self.losses), 1)
        if self.start is not None and len(self.losses) == WINDOW and mean > DIVERGED * self.start:
            return f"the last {WINDOW} losses have a mean of {mean:.4g}, the first {FEWEST} had {self.start:.4g}"
        return ""


def limit(values: deque[float], floor: float) -> float:
    """Mean plus `DEVIATIONS` standard deviations of `values`, of at least `floor` each."""
    mean = sum(values) / len(values)
    variance = sum(map(mul, values, values)) / len(values) - mean * mean
    return mean + DEVIATIONS * max(math.sqrt(max(variance, 0.0)), floor)
