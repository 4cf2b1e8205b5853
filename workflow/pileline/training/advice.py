"""When a training was for nothing, and what to change then: what its errors and its account say.

A network can be spoilt without a loss that is no number. Weights of absurd size overflow inside its norms, which then
give zeros: the loss stays at ln V, that of a model that knows nothing, and the gradient at 0. Or the loss was thrown up
by the first steps and never came back.
"""

from __future__ import annotations

import math

from .derived import Settled
from .optimizers import MUON_RATES
from .outcome import Outcome

FAR = 1.25  # times ln V: a loss that ends above it was driven there
NEAR = 0.01  # nats below ln V: as good as nothing
LARGE = 1000.0  # a weight: beyond the largest of sound networks by far, and saturating what it enters
MEASURED_STEPS = 8  # that a budget of minutes is found out by, at least
SHRINKING = ("weight_decay", "l1", "l2")


def what_to_change(plan: Settled) -> str:
    """The settings that can have spoilt the weights, with their values."""
    names = [*(MUON_RATES if plan.optimizer == "muon" else ("rate",))]
    names += [name for name in SHRINKING if getattr(plan, name)]
    lower = ", ".join(f"{name} ({getattr(plan, name):g})" for name in names)
    clip = f"lower clip ({plan.clip:g})" if plan.clip else "set clip: 1.0"
    precision = "" if plan.precision == "float32" else ", or set precision: float32"
    return f"The weights are spoilt: lower {lower} by half or more, lengthen warmup ({plan.warmup}), {clip}{precision}"


def thrown_up(loss: float | None, vocabulary: int, first: float | None) -> str:
    """Why a training whose last losses have this mean, nats a token, has failed; empty where it has not.

    A network of the user's own may have a loss in other units, which only that of the `first` step tells about.
    """
    nothing = math.log(vocabulary)
    if loss is None or loss <= FAR * max(nothing, first or 0.0):
        return ""
    return f"training ended at a loss of {loss:.4g}, far above ln V = {nothing:.4g}, which knowing nothing costs"


def doubts(outcome: Outcome, vocabulary: int, largest_weight: float, in_nats: bool = True) -> list[str]:
    """What is wrong with a training that has ended as if all were well, a sentence each, for its account.

    A validation loss is always in nats a token; the training loss is compared with ln V where it is `in_nats`, too.
    """
    found = []
    minutes = outcome.budget.get("minutes")
    if minutes is not None and outcome.steps < MEASURED_STEPS and not outcome.stopped_early:
        found.append(
            f"its budget of {minutes:g} minutes is hardly more than it takes to time a step ({MEASURED_STEPS} are "
            f"taken for that), which left {outcome.steps} for training; give it more minutes, or a budget in steps."
        )
    held_out = outcome.validation_loss is not None
    loss = outcome.validation_loss if held_out else outcome.final_training_loss if in_nats else None
    if loss is not None and loss > math.log(vocabulary) - NEAR:
        found.append(
            f"its {'validation' if held_out else 'training'} loss, {loss:.3f}, is no better than that of a model that "
            "gives every token the same probability; more steps or text, or other rates or penalties, may help."
        )
    if not largest_weight < LARGE:
        found.append(f"its largest weight is {largest_weight:.2g}, as rates leave it that are far too high.")
    return found
