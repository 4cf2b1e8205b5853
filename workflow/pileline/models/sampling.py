"""Sampling: which token to write next, given each token's probability.

What a model says of the next token is one thing, what is drawn another: p is bent and cut first, in this order:

    repetition_penalty r  p^r for tokens that stand in the text already (after Keskar et al. 2019)
    temperature t         p^(1/t): below 1 sharpens, above 1 flattens, 0 takes the likeliest token
    top_k k               the k likeliest tokens stay (Fan et al. 2018)
    top_p s               the fewest likeliest tokens stay whose p sums to s or more (Holtzman et al. 2020)
    min_p m               tokens stay that are at least m times as likely as the likeliest (Nguyen et al. 2024)

All of it works on probabilities, so it means the same for every kind of model. (Keskar et al. divide or multiply a
network's logits by r, which depends on a constant that softmax does not see; ln p has no such freedom.)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[Any]


class SamplingError(ValueError):
    """A setting of sampling is outside its range."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn; the defaults draw from the model's own distribution. See the module's text."""

    temperature: float = 1.0
    top_k: int = 0  # 0 keeps all tokens
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        ranges = {
            "temperature": (self.temperature >= 0, "must not be negative"),
            "top_k": (self.top_k >= 0, "must not be negative"),
            "top_p": (0 < self.top_p <= 1, "must be above 0 and at most 1"),
            "min_p": (0 <= self.min_p <= 1, "must be between 0 and 1"),
            "repetition_penalty": (self.repetition_penalty > 0, "must be above 0; 1 is no penalty"),
        }
        for name, (fits, rule) in ranges.items():
            if not fits:
                raise SamplingError(f"{name} is {getattr(self, name)}, {rule}")

    def draw(self, chances: Floats, generator: np.random.Generator, seen: Iterable[int] = ()) -> int:
        """One token, drawn with one number of `generator`; `seen` are the tokens of the text."""
        kept, weights = self.weigh(chances, seen)
        cumulated = weights.cumsum()
        place = int(cumulated.searchsorted(generator.random() * cumulated[-1], side="right"))
        return int(kept[min(place, len(kept) - 1)])

    def weigh(self, chances: Floats, seen: Iterable[int] = ()) -> tuple[Floats, Floats]:
        """The tokens that may be drawn, in ascending order, and the weight of each, of the model's own chances [V]."""
        if self.repetition_penalty != 1:
            chances, places = chances.copy(), np.unique(np.fromiter(seen, dtype=np.int64))
            chances[places] **= self.repetition_penalty
        if self.temperature == 0:
            return np.argmax(chances, keepdims=True), np.ones(1)
        kept = self._likeliest(chances)
        weights = chances[kept]
        weights = (weights / weights.max()) ** (1 / self.temperature)
        if self.top_p < 1:
            order = np.argsort(-weights, kind="stable")
            before = np.cumsum(weights[order]) - weights[order]  # the mass of those that are likelier
            enough = np.sort(order[before < self.top_p * weights.sum()])
            kept, weights = kept[enough], weights[enough]
        if self.min_p:
            enough = weights >= self.min_p  # the likeliest has weight 1
            kept, weights = kept[enough], weights[enough]
        return kept, weights

    def _likeliest(self, chances: Floats) -> Floats:
        """The tokens that `top_k` leaves, in ascending order; of equally likely ones the first."""
        k = self.top_k
        if not 0 < k < len(chances):
            return np.arange(len(chances))
        groups = min(2 * k, len(chances))  # where k groups have a token as likely as this, it may be among the k
        largest = chances[: len(chances) // groups * groups].reshape(-1, groups).max(axis=0)
        kept = np.flatnonzero(chances >= np.partition(largest, -k)[-k])  # few, and faster to sort out than all
        among = chances[kept]
        least = np.partition(among, -k)[-k]
        kept = kept[among >= least]
        if len(kept) > k:  # too many are as likely as the last
            kept = np.delete(kept, np.flatnonzero(chances[kept] == least)[k - len(kept) :])
        return kept
