"""Learning-rate schedules: the factor on every rate at a step."""

from __future__ import annotations

import math

from .derived import Settled

COSINE_FLOOR = 0.1  # cosine ends at a tenth of the rate (Hoffmann et al. 2022)


def factor(plan: Settled, step: int) -> float:
    """Factor in (0, 1] on the rates at `step` of 0 .. steps - 1. Pure: resuming needs nothing but the step."""
    if step < plan.warmup:
        return (step + 1) / (plan.warmup + 1)
    if plan.schedule == "cosine":
        return cosine(step - plan.warmup, plan.steps - plan.warmup)
    return stable_decay(step, plan.steps, round(plan.decay * plan.steps))


def stable_decay(step: int, steps: int, decay: int) -> float:
    """One, then straight down over the last `decay` steps, to 0 just after the last (Hu et al. 2024, MiniCPM).

    With the decay down to zero the last weights are as good as an average over the last steps (Hägele et al. 2024).
    """
    return min(1.0, (steps - step) / decay) if decay else 1.0


def cosine(step: int, steps: int) -> float:
    """Half a cosine from 1 down to `COSINE_FLOOR` (Loshchilov & Hutter 2017)."""
    return COSINE_FLOOR + (1 - COSINE_FLOOR) * 0.5 * (1 + math.cos(math.pi * step / max(steps, 1)))
