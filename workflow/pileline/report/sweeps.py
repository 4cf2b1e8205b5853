"""Which of the run's models are one sweep: entries that a list in config.yaml stands for.

A list in any setting of a model makes a model of each value, `{name}-{setting}-{value}`. The names and the settings
say so by themselves: where a name ends in a setting and its value, that is taken off, from the end, and models that
then have one name and the same settings belong together. One alone is no sweep; its name is its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from pileline.report.read import Experiment, Results

SEED = "seed"  # the setting whose values are no better or worse than one another
SHOWN = " Of a sweep the model of the lowest validation loss, and of several seeds the middle one."


@dataclass(frozen=True)
class Sweep:
    """Models that differ in the values of `settings` and in nothing else: the values of each, in the report's order."""

    name: str
    settings: tuple[str, ...]
    members: dict[Experiment, tuple[Any, ...]]


def split_name(name: str, settings: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    """What is left of a model's name without the settings at its end, and those, in the order of the name."""
    found: list[str] = []
    while (setting := next((key for key in settings if name.endswith(_ending(key, settings[key]))), None)) is not None:
        if setting in found:
            break
        found.insert(0, setting)
        name = name.removesuffix(_ending(setting, settings[setting]))
    return name, tuple(found)


def _ending(setting: str, value: Any) -> str:
    """What a swept setting adds to a name: the value as YAML writes it, in characters that names may have."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", f"-{setting}-{written(value)}")


def written(value: Any) -> str:
    """A setting's value as it stands in config.yaml."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def find_sweeps(results: Results) -> list[Sweep]:
    """The sweeps of the run, of all corpora and tokenizers together."""
    groups: dict[tuple[str, tuple[str, ...]], dict[Experiment, tuple[Any, ...]]] = {}
    for experiment in results.experiments:
        settings = results.settings(experiment)
        name, keys = split_name(experiment.model or "", settings)
        if name and keys:
            groups.setdefault((name, keys), {})[experiment] = tuple(settings[key] for key in keys)
    return [Sweep(*key, members) for key, members in groups.items() if len({*map(repr, members.values())}) > 1]


def score(results: Results, experiment: Experiment) -> tuple[float, float] | None:
    """What models of one corpus and tokenizer are chosen by: validation loss, then bits per byte; None without both.

    Bits per byte are of the test split: the least of many would be less for having been chosen by them.
    """
    evaluation, model = results.get(f"evaluations/{experiment.name}"), results.get(f"models/{experiment.name}")
    bits = (evaluation.metrics.get("overall") or {}).get("bits_per_byte") if evaluation else None
    loss = model.metrics.get("validation_loss") if model else None
    if bits is None and loss is None:
        return None
    return (float("inf") if loss is None else loss, float("inf") if bits is None else bits)


def representatives(results: Results) -> tuple[Experiment, ...]:
    """The experiments with a model, and of a sweep only the best of each corpus and tokenizer, once there are scores.

    For what would not be read with a line or a column for each of a dozen models that differ in one number. Of seeds
    none is the best but by luck: there it is the middle one of the settings whose mean is best.
    """
    left_out = set()
    for sweep in find_sweeps(results):
        pairs: dict[tuple[str, str], dict[Experiment, tuple[float, float]]] = {}
        for member in sweep.members:
            found = score(results, member)
            if found is not None:
                pairs.setdefault((member.corpus, member.tokenizer), {})[member] = found
        for scored in pairs.values():
            best = _typical(sweep, scored)
            left_out |= {
                member
                for member in sweep.members
                if (member.corpus, member.tokenizer) == (best.corpus, best.tokenizer) and member != best
            }
    return tuple(each for each in results.experiments if each.model is not None and each not in left_out)


def _typical(sweep: Sweep, scored: dict[Experiment, tuple[float, float]]) -> Experiment:
    """Of members with their scores the best; of those that differ in the seed alone their middle stands for all."""
    recipes: dict[str, list[Experiment]] = {}
    for member in scored:
        values = zip(sweep.settings, sweep.members[member], strict=True)
        recipes.setdefault(repr([value for key, value in values if key != SEED]), []).append(member)
    means = {
        name: [fmean(scored[member][place] for member in found) for place in range(2)]
        for name, found in recipes.items()
    }
    best = sorted(recipes[min(means, key=means.__getitem__)], key=scored.__getitem__)
    return best[(len(best) - 1) // 2]
