"""From weights to epochs: how often training sees each document of a source.

epochs       The weight is the number of epochs, as in The Pile (Gao et al., 2020).
shares       Weights are relative shares of a training set of S bytes. A source of n bytes with the share p has
             p S / n epochs, at most `most_epochs` (about four cost little, Muennighoff et al., 2023). What that bound
             cuts off goes to the other sources in proportion to their weights, until nothing is cut off; what no
             source can give is said in a warning.
temperature  Shares proportional to weight * n^(1/T), as multilingual BERT, XLM-R and mT5 set them: T = 1 is the
             sources' own proportion, a larger T brings the small ones up. S is all of the text if not stated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pileline.mixing.plan import MB, MixingError, Plan
from pileline.mixing.supply import Supply

KINDS = ("epochs", "shares", "temperature")
MOST_EPOCHS = 10_000  # more is a slip, such as a number of bytes; it would fill the disk with copies


@dataclass
class Epochs:
    """By source: `epochs`, the `bytes` they are taken of, the intervals of hashes that a cap admits; and warnings."""

    epochs: dict[str, float]
    bytes: dict[str, int]
    intervals: dict[str, int]
    warnings: list[str] = field(default_factory=list)

    @property
    def effective(self) -> int:
        """Bytes that the train split will have, on the average of its hashes."""
        return round(sum(self.bytes[source] * epochs for source, epochs in self.epochs.items()))


def resolve(plan: Plan, supply: Mapping[str, Supply]) -> Epochs:
    """Turn the plan's weights into epochs of what the sources have.

    Raises `MixingError` for an unknown kind, and for a number of epochs beyond reason.
    """
    admitted = {source: supply[source].admit(plan.cap(source)) for source in plan.sources}
    intervals = {source: places for source, (places, _) in admitted.items()}
    sizes = {source: size for source, (_, size) in admitted.items()}
    weights = {source: plan.weight(source) for source in plan.sources}
    kind = plan.mixing.get("kind")
    if kind == "epochs":
        for source, weight in weights.items():
            if weight > MOST_EPOCHS:
                raise MixingError(
                    f"mix: the weight of '{source}' is {weight:g} epochs; use {MOST_EPOCHS:,} at most, or `mixing: "
                    "{kind: shares, size_mb: ...}` if weights are proportions"
                )
        empty = [
            f"{source} has no text to train on" for source in plan.sources if weights[source] and not sizes[source]
        ]
        return Epochs(weights, sizes, intervals, empty)
    if kind == "shares":
        size = float(plan.mixing["size_mb"]) * MB
    elif kind == "temperature":
        stated = plan.mixing.get("size_mb")
        size = float(sum(sizes.values())) if stated is None else stated * MB
        power = 1 / float(plan.mixing["temperature"])
        weights = {source: weight * sizes[source] ** power for source, weight in weights.items()}
    else:
        raise MixingError(f"mixing: kind is {kind!r}; use {', '.join(KINDS[:-1])} or {KINDS[-1]}")
    made = Epochs(_shared(weights, sizes, size, float(plan.mixing.get("most_epochs", 4))), sizes, intervals)
    made.warnings += _warnings(made, weights, size, plan.mixing)
    return made


def _shared(weights: Mapping[str, float], sizes: Mapping[str, int], size: float, most: float) -> dict[str, float]:
    """Epochs that fill `size` by the weights, none above `most`."""
    epochs = dict.fromkeys(weights, 0.0)
    free = {source for source, weight in weights.items() if weight > 0 and sizes[source]}
    left = size
    while free:
        whole = sum(weights[source] for source in sorted(free))
        wanted = {source: left * weights[source] / whole / sizes[source] for source in free}
        bounded = {source for source, number in wanted.items() if number > most}
        for source in bounded or free:
            epochs[source] = min(wanted[source], most)
        if not bounded:
            break
        free -= bounded
        left -= sum(most * sizes[source] for source in sorted(bounded))
    return epochs


def _warnings(made: Epochs, weights: Mapping[str, float], size: float, mixing: Mapping[str, Any]) -> list[str]:
    """What did not come out as the weights ask, in sentences."""
    most, whole = float(mixing.get("most_epochs", 4)), sum(weights.values())
    warnings = [
        f"{source} has no text for its share of {weight / whole:.1%}; the other sources have it"
        for source, weight in weights.items()
        if weight > 0 and not made.bytes[source]
    ]
    for source, weight in weights.items():
        wanted = size * weight / whole / made.bytes[source] if whole and made.bytes[source] else 0.0
        if wanted > most:
            share = made.epochs[source] * made.bytes[source] / size
            warnings.append(
                f"{source} would need {wanted:.1f} epochs for its share of {weight / whole:.1%}; at most_epochs "
                f"{most:g} it has {share:.1%} of {size / MB:.4g} MB"
            )
    if made.effective < size * (1 - 1e-6) - 1:
        warnings.append(
            f"the sources have {made.effective / MB:.1f} MB at {most:g} epochs, not {size / MB:.4g} MB; "
            "raise most_epochs, lower size_mb or add text"
        )
    return warnings
