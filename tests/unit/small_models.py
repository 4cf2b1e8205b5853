"""Small models of every kind, for tests: each says something, since no number of its network is left at zero."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pileline import models

V, END = 53, 3
SETTINGS: dict[str, dict[str, Any]] = {
    "lstm": {"embedding": 6, "width": 10, "layers": 2, "context": 8},
    "mlp": {"window": 3, "embedding": 4, "hidden": 6, "context": 8},
    "ngram": {"order": 3},
    "residual": {"layers": 1, "heads": 2, "width": 16, "context": 24, "bigrams": 17, "order": 3},
    "transformer": {"layers": 2, "heads": 2, "width": 16, "context": 24, "bigrams": 31},
    "transformer-2017": {"layers": 2, "heads": 2, "width": 16, "context": 24, "mlp": 2},
}


def entry(kind: str, **changes: Any) -> dict[str, Any]:
    """An entry of `models`: a small one of that kind, or the same with changes."""
    return {"kind": kind, **SETTINGS[kind], **changes}


def built(kind: str, seed: int = 1, noise: float = 0.3, **changes: Any) -> Any:
    """A small model that has counted a text, if it counts, and has `noise` in all that it learns by steps."""
    model: Any = models.build(entry(kind, **changes), V, END, seed)
    text = Stream(documents(60))
    if model.learns_by == "counts":
        model.fit(text.tokens)
        return model
    model.prepare(text)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.add_(noise * torch.randn(parameter.shape, generator=generator))
    model.network.eval()
    return model


def tokens(n: int, seed: int = 0) -> Any:
    """So many tokens drawn at random, `END` among them."""
    return np.random.default_rng(seed).integers(0, V, n)


def documents(number: int, seed: int = 1) -> list[list[int]]:
    """Texts of 21 tokens, of a Markov chain with three followers a token: something to count."""
    generator = np.random.default_rng(seed)
    follow = np.random.default_rng(0).integers(END + 1, V, (V, 3))
    found = []
    for _ in range(number):
        text = [int(generator.integers(END + 1, V))]
        for choice in generator.integers(0, 3, 20):
            text.append(int(follow[text[-1], choice]))
        found.append(text)
    return found


class Stream:
    """Documents as a stream of tokens, each with its leading `END`: a corpus, as the models read it."""

    def __init__(self, texts: Any) -> None:
        self.tokens = np.array([token for text in texts for token in [END, *text]], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.tokens)

    def read(self, start: int, stop: int) -> Any:
        return self.tokens[start:stop]


class Rows:
    """The same few batches every epoch, with the interface of the shards' loader."""

    def __init__(self, rows: Any) -> None:
        """Tokens [batches, rows, context + 1]."""
        self.rows, self.epoch_steps = rows, len(rows)

    def batch_at(self, step: int) -> tuple[Any, Any]:
        batch = self.rows[step % self.epoch_steps]
        return batch[:, :-1], batch[:, 1:]
