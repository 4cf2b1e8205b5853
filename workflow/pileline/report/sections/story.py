"""What the run tells in one sentence and one chart: bits per byte, from counting to the last network."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pileline.progress import readable
from pileline.report import charts
from pileline.report.read import Experiment, Results, kind_rank
from pileline.report.sweeps import SHOWN, find_sweeps, representatives
from pileline.report.tables import Chart, percent


def overall(results: Results, experiment: Experiment) -> dict[str, Any]:
    """An experiment's score on the whole holdout; empty without one."""
    evaluation = results.get(f"evaluations/{experiment.name}")
    return (evaluation.metrics.get("overall") or {}) if evaluation else {}


def grouped(experiments: Iterable[Experiment], *parts: str) -> dict[tuple[str, ...], list[Experiment]]:
    """Experiments that share the named parts."""
    groups: dict[tuple[str, ...], list[Experiment]] = {}
    for experiment in experiments:
        groups.setdefault(tuple(getattr(experiment, part) for part in parts), []).append(experiment)
    return groups


def _scored(results: Results) -> dict[tuple[str, ...], dict[Experiment, float]]:
    """Bits per byte of the experiments to tell of, by corpus and tokenizer."""
    groups = grouped(representatives(results), "corpus", "tokenizer")
    found = {
        pair: {each: bits for each in group if (bits := overall(results, each).get("bits_per_byte")) is not None}
        for pair, group in groups.items()
    }
    return {pair: scores for pair, scores in found.items() if scores}


def main_charts(results: Results) -> list[Chart]:
    """Bits per byte of each model with its interval, from theory to practice; none for a single model."""
    groups = _scored(results)
    rows: dict[str, dict[str, tuple[float, float, float]]] = {}
    others: dict[str, dict[str, list[float]]] = {}
    models = {experiment.model: results.kind(experiment) for scores in groups.values() for experiment in scores}
    for model in sorted(models, key=lambda model: kind_rank(models[model])):
        for pair, scores in groups.items():
            for experiment, bits in scores.items():
                if experiment.model == model:
                    low, high = overall(results, experiment).get("interval") or (bits, bits)
                    rows.setdefault(str(model), {})[" ".join(pair)] = (bits, min(low, bits), max(high, bits))
                    others.setdefault(str(model), {})[" ".join(pair)] = _swept(results, experiment)
    if len(rows) < 2:
        return []
    said = "; ".join(f"{name} {', '.join(f'{v[0]:.3f}' for v in values.values())}" for name, values in rows.items())
    said = f"Bits per byte by model: {said}"
    drawn = charts.intervals(rows, "bits per byte", said, lambda value: f"{value:.3f}", others)
    caption = "Bits per byte with 95 % intervals, from theory to practice; further left is better."
    more = f"{SHOWN} Hollow points are the others." if find_sweeps(results) else ""
    return [Chart(drawn, caption + more, wide=True)]


def _swept(results: Results, best: Experiment) -> list[float]:
    """Bits per byte of the other models of a model's sweep, on its corpus and with its tokenizer."""
    others = (
        other
        for sweep in find_sweeps(results)
        if best in sweep.members
        for other in sweep.members
        if other != best and (other.corpus, other.tokenizer) == (best.corpus, best.tokenizer)
    )
    return [bits for other in others if (bits := overall(results, other).get("bits_per_byte")) is not None]


def story(results: Results) -> str:
    """What counting reaches and what the best other model reaches, in a sentence; empty where one of them is missing.

    Told of the holdout's corpus and its first tokenizer; elsewhere of the first pair that has both.
    """
    wanted = (results.configuration.get("evaluation") or {}).get("holdout")
    groups = sorted(_scored(results).items(), key=lambda group: group[0][0] != wanted)
    for (corpus, tokenizer), scores in groups:
        counted = {each: bits for each, bits in scores.items() if results.kind(each) == "ngram"}
        others = {each: bits for each, bits in scores.items() if each not in counted}
        if not counted or not others:
            continue
        base, best = min(counted, key=counted.__getitem__), min(others, key=others.__getitem__)
        share = others[best] / counted[base] - 1
        which = f"the best of {len(others)} other models, {best.model}," if len(others) > 1 else f"{best.model}"
        return (
            f"On {corpus} with {tokenizer}, {_frequencies(results, base)}counting reaches {counted[base]:.3f} bits per "
            f"byte ({base.model}) and "
            f"{which} {others[best]:.3f}: {percent(abs(share))} {'fewer' if share < 0 else 'more'}"
            f"{_effort(results, base, best)}."
        )
    return ""


def _frequencies(results: Results, base: Experiment) -> str:
    """What a model of order 1 reaches beside `base`, as the start of a sentence; empty where there is none."""
    for each in results.experiments:
        settings, bits = results.settings(each), overall(results, each).get("bits_per_byte")
        alike = (each.corpus, each.tokenizer) == (base.corpus, base.tokenizer) and each != base
        if alike and settings.get("kind") == "ngram" and settings.get("order") == 1 and bits is not None:
            return f"the tokens' frequencies alone reach {bits:.3f} bits per byte ({each.model}), "
    return ""


def _effort(results: Results, base: Experiment, best: Experiment) -> str:
    """How many tokens both saw, as the end of a sentence; empty where a manifest does not say."""
    seen = [
        (stage.metrics.get("tokens_seen") if (stage := results.get(f"models/{each.name}")) else None)
        for each in (base, best)
    ]
    if not seen[0] or not seen[1]:
        return ""
    if results.kind(best) == "residual":  # it sees all of the text, and some of it in steps
        return f", as it counts too and has learned from {readable(seen[1], '')} tokens what counting misses"
    return f", after {readable(seen[1], '')} tokens instead of {readable(seen[0], '')}"
