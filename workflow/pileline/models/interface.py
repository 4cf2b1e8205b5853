"""The language model: what evaluation, tasks and samples may ask of any model, whatever is inside.

A language model over a vocabulary of V tokens gives every next token a probability, so a text's is a product:

    log p(x_1 .. x_n) = sum_i log p(x_i | end, x_1 .. x_(i-1))

The token `end` stands between documents: a document is predicted from `end` on, and `end` itself is not scored.
A model learns in one of two ways: from `counts` (one pass over the tokens, `fit`), or by `gradient` steps
(`pileline.training`). Everything else is the same for both.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from .sampling import Sampling

CONFIGURATION = "config.json"
Tokens = npt.NDArray[Any]  # one document's token ids: whole numbers, one axis
Floats = npt.NDArray[Any]


class Stream(Protocol):
    """A corpus's tokens, read where they are asked for; each document with its leading `end`."""

    def __len__(self) -> int: ...
    def read(self, start: int, stop: int) -> Tokens: ...


class ModelError(ValueError):
    """A model's settings, files or inputs do not fit it."""


class LanguageModel(ABC):
    """A distribution over the next token. See the module's text for what `end` is."""

    kind: ClassVar[str]
    learns_by: ClassVar[str]  # "counts" or "gradient"
    has_features: ClassVar[bool] = False
    training_defaults: ClassVar[dict[str, Any]] = {}  # of training's settings, where this kind's usual ones differ
    vocabulary_size: int
    end: int
    context: int  # tokens that a prediction can see, at most
    device: str = "cpu"
    threads: int = 1

    def to(self, device: str) -> LanguageModel:
        """Move to a device ("auto", "cpu", "cuda"); returns itself. A model that knows only the CPU stays there."""
        return self

    def use_threads(self, threads: int) -> None:
        """Compute with so many cores, where the model can use several."""
        self.threads = threads

    @classmethod
    @abstractmethod
    def setting_names(cls) -> set[str]:
        """The keys of a `models` entry that this kind of model understands, besides `kind`."""

    def prepare(self, stream: Stream) -> int:
        """What a model that learns by gradient does before its first step: by default nothing.

        Returns how many tokens, from the stream's start, the steps shall go over.
        """
        return len(stream)

    def complete(self, stream: Stream) -> None:
        """What a model that learns by gradient does after its last step: by default nothing."""
        return

    @abstractmethod
    def configuration(self) -> dict[str, Any]:
        """What `config.json` says: all it takes to build the model again, besides what it learned."""

    @property
    @abstractmethod
    def parameters_count(self) -> int:
        """How many numbers were learned."""

    @abstractmethod
    def score(self, documents: list[Tokens]) -> list[Floats]:
        """Natural-log probability of every token of each document, given `end` and the tokens before it.

        Arrays of float64, as long as the documents (without a leading `end`). The result for a document does
        not depend on the others.
        """

    @abstractmethod
    def next_probabilities(self, context: Tokens) -> Floats:
        """Distribution of the token after `end` and `context`: float64 [V], summing to one."""

    def predictions(self, prompt: Tokens) -> Generator[Floats, int, None]:
        """Distributions of the next token, each as of `next_probabilities`: after `prompt`, then after each token sent.

        Models that can go on from what they computed before override this.
        """
        tokens = [int(token) for token in prompt]
        while True:
            tokens.append((yield self.next_probabilities(np.array(tokens, dtype=np.int64))))

    def write(self, prompt: Tokens, n: int, sampling: Sampling, seed: int = 0) -> Iterator[int]:
        """Up to `n` tokens that follow `prompt`, one by one as they are drawn; stops before `end`."""
        generator = np.random.default_rng(seed)
        tokens = [int(token) for token in prompt]
        predictions = self.predictions(prompt)
        with closing(predictions):
            chances = next(predictions)
            for place in range(n):
                token = sampling.draw(chances, generator, tokens)
                if token == self.end:
                    return
                yield token
                tokens.append(token)
                if place + 1 < n:
                    chances = predictions.send(token)

    def generate(
        self, prompt: Tokens, n: int, temperature: float = 1.0, top_k: int = 0, seed: int = 0, **sampling: float
    ) -> Tokens:
        """Sample up to `n` tokens that follow `prompt`; returns the new ones (int64), and stops before `end`.

        `temperature`, `top_k` and the other settings of `Sampling` say how; `SamplingError` for those out of range.
        """
        settings = Sampling(temperature, top_k, **sampling)
        return np.array(list(self.write(prompt, n, settings, seed)), dtype=np.int64)

    def features(self, documents: list[Tokens]) -> Floats:
        """A vector for each document, float32 [documents, d], for models with `has_features`."""
        raise ModelError(f"a model of kind '{self.kind}' has no features; use one with has_features = True")

    @abstractmethod
    def describe(self) -> list[tuple[str, tuple[int, ...], int]]:
        """The learned tables: name, shape and number of values, for the table in the notebook."""

    @abstractmethod
    def save(self, folder: str | Path) -> None:
        """Write the model below `folder`: arrays without pickle, and `config.json`."""

    @classmethod
    @abstractmethod
    def load(cls, folder: str | Path, device: str = "cpu") -> LanguageModel:
        """Read a model that `save` wrote."""


def write_configuration(folder: Path, model: LanguageModel) -> None:
    """Write the model's `config.json`."""
    text = json.dumps(model.configuration(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    (folder / CONFIGURATION).write_text(text, encoding="utf-8")


def read_configuration(folder: Path) -> dict[str, Any]:
    """Read `config.json`; an error that says what is missing where there is none."""
    path = folder / CONFIGURATION
    try:
        configuration: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path}: not found; train the model first") from None
    return configuration
