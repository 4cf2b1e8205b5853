"""Learning-rate schedules: the factor on every rate at a step.

A factor is a pure function of the step, so a resumed run needs nothing but its step to go on. All schedules rise
first, over `warmup` steps: Adam's and Muon's memories begin empty, and their first directions are noise.
"""

from __future__ import annotations

import math

from .derived import Settled


def factor(plan: Settled, step: int) -> float:
    """Factor in (0, 1] on the rates at `step` of 0 .. steps - 1."""
    if step < plan.warmup:
        return (step + 1) / (plan.warmup + 1)
    if plan.schedule == "wsd":
        return stable_decay(step, plan.steps, round(plan.decay * plan.steps))
    if plan.schedule == "constant":
        return 1.0
    falling = {"cosine": cosine, "linear": linear, "exponential": exponential}[plan.schedule]
    return falling(step - plan.warmup, plan.steps - plan.warmup, plan.final_rate)


def stable_decay(step: int, steps: int, decay: int) -> float:
    """One, then straight down over the last `decay` steps, to 0 just after the last (Hu et al. 2024, MiniCPM).

    With the decay down to zero the last weights are as good as an average over the last steps (Hägele et al. 2024).
    """
    return min(1.0, (steps - step) / decay) if decay else 1.0


def cosine(step: int, steps: int, final: float = 0.1) -> float:
    """Half a cosine from 1 down to `final`, just after the last step (Loshchilov & Hutter 2017).

    A tenth is what Hoffmann et al. (2022) end at.
    """
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * step / max(steps, 1)))


def linear(step: int, steps: int, final: float) -> float:
    """Straight down from 1 to `final`, just after the last step."""
    return 1 - (1 - final) * step / max(steps, 1)


def exponential(step: int, steps: int, final: float) -> float:
    """Down by the same share every step, from 1 to `final`, just after the last step."""
    return float(final ** (step / max(steps, 1)))
