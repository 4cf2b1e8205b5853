"""Loss spikes: a step whose loss or gradient is far out of line is skipped, and a run that does not recover is stopped.

A batch of odd text, or rates at the edge of what is stable, can throw weights far off in one step. So a step is judged
before it is taken, against the last 128: it is skipped where its loss, or its gradient's norm, lies more than 6
standard deviations above their mean (llm.c, and OLMo's skip-step optimizer; OLMo 2, 2025, section 3.3). A loss that
is no number is skipped too. Skipping leaves the weights as they were, so where the steps that follow are all as bad,
it is the weights that are spoilt, and no further step can mend that: then training stops and says what to change.

Falling losses are no spikes, nor is what a model does at a small scale that knows its text by heart: the deviation of
the loss counts as at least 0.02 nats, that of the norm as at least a tenth of its mean, and norms within `clip` are
harmless.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from operator import mul

WINDOW = 128  # steps that a step is judged against
FEWEST = 64  # steps before any is judged
DEVIATIONS = 6.0
LOSS_FLOOR = 0.02  # nats
NORM_FLOOR = 0.1  # of the mean norm
IN_A_ROW = 8  # skipped steps, until training stops


class Spikes:
    """Judges steps. Its state is `losses`, `norms`, `skipped` and `in_a_row`: `state()`, and back by `Spikes(...)`."""

    def __init__(
        self, losses: Iterable[float] = (), norms: Iterable[float] = (), skipped: int = 0, in_a_row: int = 0
    ) -> None:
        self.losses, self.norms = deque(losses, WINDOW), deque(norms, WINDOW)
        self.skipped, self.in_a_row = skipped, in_a_row

    def state(self) -> dict[str, list[float] | int]:
        """What `Spikes(**state)` takes."""
        return {
            "losses": list(self.losses),
            "norms": list(self.norms),
            "skipped": self.skipped,
            "in_a_row": self.in_a_row,
        }

    def skip(self, loss: float, norm: float, clip: float) -> bool:
        """Whether the step of this loss and norm must not be taken; remembers either."""
        bad = not (math.isfinite(loss) and math.isfinite(norm))
        if not bad and len(self.losses) >= FEWEST:
            bad = loss > limit(self.losses, LOSS_FLOOR) or (
                norm > clip and norm > limit(self.norms, NORM_FLOOR * sum(self.norms) / len(self.norms))
            )
        if bad:
            self.skipped += 1
            self.in_a_row += 1
        else:
            self.losses.append(loss)
            self.norms.append(norm)
            self.in_a_row = 0
        return bad

    @property
    def hopeless(self) -> bool:
        """Whether so many steps in a row were skipped that the weights must be spoilt."""
        return self.in_a_row >= IN_A_ROW


def limit(values: deque[float], floor: float) -> float:
    """Mean plus `DEVIATIONS` standard deviations of `values`, of at least `floor` each."""
    mean = sum(values) / len(values)
    variance = sum(map(mul, values, values)) / len(values) - mean * mean
    return mean + DEVIATIONS * max(math.sqrt(max(variance, 0.0)), floor)
