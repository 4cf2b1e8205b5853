"""A recurrent language model: an embedding, LSTM layers, a softmax (Mikolov et al. 2010, with LSTM as in Graves 2013).

The one idea: the past is a state of fixed size, rewritten at every token (Hochreiter & Schmidhuber 1997, with the
forget gate of Gers et al. 2000). For an input x and a state (h, c):

    i, f, o = sigmoid(W x + U h + b), each with its own W, U, b        input, forget and output gate
    c <- f * c + i * tanh(W_g x + U_g h + b_g)                         the cell
    h <- o * tanh(c)                                                   what the next layer and the softmax see

So the cost of a token does not grow with what was read, and nothing bounds how far back the state may remember. A
step of training reads blocks of `context` tokens, each from an empty state (truncated back-propagation through time);
a document is scored with the state carried from its first token to its last.

Initial weights are those of Keras, the classic recipe's home: uniform embeddings, Glorot inputs (Glorot & Bengio 2010),
orthogonal recurrence (Saxe et al. 2014), and a forget gate that starts open (bias 1, Jozefowicz et al. 2015).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .interface import Tokens
from .neural import SCORED_AT_ONCE, Network, Neural, State, Window, check_shape

EMBEDDING_RANGE = 0.05  # Keras' initial embeddings are uniform in it


@dataclass(frozen=True)
class Shape:
    """What a `models` entry of kind lstm says of the network."""

    embedding: int = 64
    width: int = 128  # of each layer's state
    layers: int = 1
    context: int = 64  # tokens of a block in training; a prediction sees the whole document
    dropout: float = 0.0  # between layers, not from one token to the next (Zaremba et al. 2014)

    def __post_init__(self) -> None:
        check_shape("lstm", self, ("embedding", "width", "layers", "context"))


def orthogonal(parameter: Tensor, generator: torch.Generator) -> None:
    """Make a matrix orthogonal, drawn from `generator`.

    On one thread: several round the decomposition by how many they are, and a model is made before training says it.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        nn.init.orthogonal_(parameter, generator=generator)
    finally:
        torch.set_num_threads(threads)


class Recurrent(Network):
    """Token ids [batch, length] to the distribution of each next token."""

    def __init__(self, shape: Shape, vocabulary_size: int) -> None:
        super().__init__()
        self.shape, self.vocabulary_size = shape, vocabulary_size
        self.embedding = nn.Embedding(vocabulary_size, shape.embedding)
        # One module a layer, not one of many layers: cuDNN's own dropout keeps a state that no checkpoint holds.
        inputs = [shape.embedding] + [shape.width] * (shape.layers - 1)
        self.layers = nn.ModuleList(nn.LSTM(size, shape.width, batch_first=True) for size in inputs)
        self.head = nn.Linear(shape.width, vocabulary_size)

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        for name, parameter in self.named_parameters():
            if name == "embedding.weight":
                parameter.uniform_(-EMBEDDING_RANGE, EMBEDDING_RANGE, generator=generator)
            elif "weight_hh" in name:
                orthogonal(parameter, generator)
            elif parameter.ndim == 2:
                nn.init.xavier_uniform_(parameter, generator=generator)
            else:
                parameter.zero_()
                if "bias_ih" in name:  # torch's order of the gates: input, forget, cell, output
                    parameter[self.shape.width : 2 * self.shape.width] = 1.0

    def hidden(self, tokens: Tensor) -> Tensor:
        """Final states h, [batch, length] to [batch, length, width], from an empty state."""
        return self.extend(tokens, {})[0]

    def extend(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Read [batch, length] on from `state`, {} for the empty one: states h [batch, length, width], and the last.

        A state has "h.0", "c.0", "h.1", ... , each [batch, width].
        """
        x, after = self._drop(self.embedding(tokens)), State()
        for number, layer in enumerate(self.layers):
            names = f"h.{number}", f"c.{number}"
            before = tuple(state[name][None] for name in names) if state else None
            x, last = layer(x, before)
            after |= {name: value[0] for name, value in zip(names, last, strict=True)}
            x = self._drop(x)
        return x, after

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.shape.dropout, self.training) if self.shape.dropout else x

    def logits(self, hidden: Tensor) -> Tensor:
        return self.head(hidden).float()  # type: ignore[no-any-return]


class LSTM(Neural):
    """Settings: the fields of `Shape`; training's are in `pileline.training`."""

    kind: ClassVar[str] = "lstm"
    shape_class: ClassVar[type] = Shape
    training_defaults: ClassVar[dict[str, Any]] = {
        "optimizer": "adam",
        "rate": 0.001,
        "schedule": "constant",
        "warmup": 0,
    }

    def make(self) -> Network:
        return Recurrent(self.shape, self.vocabulary_size)

    @torch.inference_mode()
    def _run(self, sequences: list[Tokens]) -> Iterator[tuple[list[Window], list[Tensor]]]:
        """As `Neural._run`, but windows do not overlap: each goes on from the state at the end of the one before.

        Sequences of like length go together, longest first, so that those that are read to their end are the last
        rows, and leave.
        """
        self.network.eval()
        order = sorted((n for n in range(len(sequences)) if len(sequences[n])), key=lambda n: -len(sequences[n]))
        count = max(SCORED_AT_ONCE // self.context, 1)
        for rows in (order[first : first + count] for first in range(0, len(order), count)):
            start, state = 0, State()
            while rows:
                stop = min(start + max(SCORED_AT_ONCE // len(rows), 1), len(sequences[rows[0]]))
                windows = [Window(n, start, start, min(stop, len(sequences[n]))) for n in rows]
                tokens = np.full((len(rows), stop - start), self.end, dtype=np.int64)
                for line, window in zip(tokens, windows, strict=True):
                    line[: window.stop - start] = sequences[window.document][start : window.stop]
                hidden, state = self.network.extend(torch.from_numpy(tokens).to(self.device), state)
                yield windows, [h[: w.stop - start] for h, w in zip(hidden, windows, strict=True)]
                rows, start = [n for n in rows if len(sequences[n]) > stop], stop
                state = {name: value[: len(rows)] for name, value in state.items()}

    def window_start(self, length: int) -> int:
        """See `Neural.window_start`: the state reaches back to the document's start."""
        return 0
