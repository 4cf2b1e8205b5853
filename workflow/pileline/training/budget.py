"""A budget of minutes, turned into steps once and recorded, so that a repeat takes the same steps.

How many steps fit is measured: a copy of the model takes real steps for some seconds and is thrown away. The number
is kept beside `scratch` (which is deleted when a stage has ended), with the identity of what was measured. So a run
that is resumed, or repeated on this machine, has the same number and ends with the same bits; the manifest names it
for others.
"""

from __future__ import annotations

import copy
import json
import statistics
import time
from pathlib import Path
from typing import Any

from pileline.models.device import choose_precision
from pileline.shards import Batches

from . import advice, checkpoint
from .derived import Settled
from .group import Group
from .loop import Run, predicted

WARMING = 3  # steps that are not timed: memory is first touched, kernels chosen, code compiled
FEWEST = advice.MEASURED_STEPS - WARMING  # steps that are timed at least
MEASURED_SHARE, MEASURED_SECONDS = 0.03, 3.0  # of the budget goes into measuring, or so many seconds if that is less


def steps_in(
    minutes: float,
    model: Any,
    batches: Batches,
    plan: Settled,
    seed: int,
    threads: int,
    scratch: Path,
    data: str,
    group: Group,
) -> int:
    """How many steps of `plan` fit in `minutes` on this machine: as recorded, or measured now and recorded."""
    precision = choose_precision(plan.precision, model.device)
    identity = f"{minutes:g} minutes, {checkpoint.run_identity(model, plan, seed, threads, precision, data)}"
    place = scratch.with_name(scratch.name + ".budget.json")
    steps = group.agree(_recorded(place, identity))
    if steps is None:
        seconds, spent = _measure(copy.deepcopy(model), batches, plan, seed, threads, scratch, group, minutes * 60)
        steps = group.agree(max(int((minutes * 60 - spent) / seconds), 1))
        if group.is_first:
            record = {"identity": identity, "steps": steps, "seconds_a_step": round(seconds, 6)}
            part = place.with_name(place.name + ".part")
            part.write_text(json.dumps(record) + "\n", encoding="utf-8")
            part.replace(place)
    if group.is_first:
        print(
            f"{minutes:g} minutes are {steps:,} steps on this machine ({place}); `steps: {steps}` repeats it anywhere"
        )
    return int(steps)


def _recorded(place: Path, identity: str) -> int | None:
    try:
        record = json.loads(place.read_text(encoding="utf-8"))
        return int(record["steps"]) if record["identity"] == identity else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # none, or none of ours
        return None


def _measure(
    model: Any, batches: Batches, plan: Settled, seed: int, threads: int, scratch: Path, group: Group, budget: float
) -> tuple[float, float]:
    """The median seconds of a step, and the seconds spent to find it; `model` is spoilt by it."""
    begun = time.perf_counter()
    run = Run(model, plan, seed, threads, "", scratch, group)
    limit = min(MEASURED_SHARE * budget, MEASURED_SECONDS)
    found: list[float] = []
    warm = ended = begun
    while not group.agree(len(found) >= WARMING + FEWEST and ended - warm >= limit):
        last = time.perf_counter()
        batch = batches.batch_at(len(found))
        run.update(batch, group.total([predicted(batch)])[0])
        run.step = 0  # where rates are small, so that a copy that is trained beyond its schedule does no harm
        ended = time.perf_counter()
        found.append(ended - last)
        warm = ended if len(found) == WARMING else warm
    return statistics.median(found[WARMING:]), ended - begun
