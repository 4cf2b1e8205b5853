"""Models that differ in their seed alone: what they say together, and whether a lead is more than the seed's luck.

A seed draws a model's first weights and the order of its batches. Two of one recipe end apart by nobody's merit, so a
lead over another model counts when it is several times as large as what seeds differ by. The spread is the standard
deviation of a sample (n - 1 below the line).
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean, stdev

from pileline.report.read import Experiment
from pileline.report.sweeps import SEED, Sweep, written


@dataclass(frozen=True)
class Alike:
    """Members of a sweep that are alike but for the seed, on one corpus with one tokenizer; two at least."""

    name: str
    values: tuple[str, ...]  # of the sweep's settings, as the table shows them
    members: tuple[Experiment, ...]


@dataclass(frozen=True)
class Spread:
    """The mean of some numbers, and their standard deviation; None for a single one."""

    mean: float
    deviation: float | None

    @classmethod
    def of(cls, numbers: list[float | None]) -> Spread | None:
        """Of those that are there; None without any."""
        there = [number for number in numbers if number is not None]
        return cls(fmean(there), stdev(there) if len(there) > 1 else None) if there else None


def alike(sweep: Sweep) -> list[Alike]:
    """The members of each recipe that was trained with several seeds; none where the sweep is not over seeds."""
    if SEED not in sweep.settings:
        return []
    place = sweep.settings.index(SEED)
    groups: dict[tuple[str, str, tuple[str, ...]], list[Experiment]] = {}
    for member, values in sweep.members.items():
        said = (*map(written, values[:place]), "", *map(written, values[place + 1 :]))
        groups.setdefault((member.corpus, member.tokenizer, said), []).append(member)
    found = []
    for (_, _, said), members in groups.items():
        if len(members) > 1:
            told = [f"{key} {value}" for key, value in zip(sweep.settings, said, strict=True) if key != SEED]
            shown = (*said[:place], f"{len(members)} of them", *said[place + 1 :])
            found.append(Alike(", ".join([sweep.name, *told]), shown, tuple(members)))
    return found
