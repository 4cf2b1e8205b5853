"""The transformer as it was published (Vaswani et al. 2017, "Attention is all you need"), its decoder alone.

The one idea: a place fetches from all places before it at once, by how well its query fits their keys, so that no
state has to carry the past along. Equations as in the paper, by its sections:

    3.4  x = sqrt(d) E[token] + PE(place)         the embedding E is the output matrix too
    3.5  PE(t, 2i) = sin(t / 10000^(2i/d)),  PE(t, 2i+1) = cos(t / 10000^(2i/d))
    3.1  x <- LayerNorm(x + dropout(sublayer(x)))  for attention, then the feed-forward net: "post-norm"
    3.2  softmax(Q K^T / sqrt(d / heads) + mask) V  in each head; no biases
    3.3  max(0, x W_1 + b_1) W_2 + b_2

What a language model needs not is left out: the encoder, attention to it, and label smoothing (5.4), which the paper
says hurts perplexity. Initial weights are Glorot's (as in the authors' tensor2tensor); embeddings have the standard
deviation d^-0.5, so that what enters the layers is of size 1. Normalizing after the sum makes gradients of the last
layers large at the start, so the rate must be warmed up (Xiong et al. 2020).

`pileline.models.transformer` says what is done differently today, and why.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .interface import ModelError
from .neural import Network, Neural, State, check_shape
from .operations import relu

BASE = 10_000.0  # of the wave lengths: from 2 pi to 10000 * 2 pi places


@dataclass(frozen=True)
class Shape:
    """What a `models` entry of kind transformer-2017 says of the network: by default the paper's base model."""

    layers: int = 6
    heads: int = 8
    width: int = 512
    context: int = 256  # tokens that attention can see
    mlp: int = 4  # the feed-forward net's inner width, in widths: 2048
    dropout: float = 0.1  # of embeddings, and of each sublayer's output

    def __post_init__(self) -> None:
        check_shape("transformer-2017", self, ("layers", "heads", "width", "context", "mlp"))
        if self.width % self.heads or self.width % 2:
            raise ModelError(
                f"transformer-2017: width is {self.width}, must be even and a multiple of heads {self.heads}"
            )


def sinusoids(places: int, width: int) -> Tensor:
    """The positional encoding [places, width] of section 3.5: sines in even columns, cosines in odd ones."""
    frequencies = torch.exp(torch.arange(0, width, 2, dtype=torch.float64) * (-math.log(BASE) / width))
    angles = torch.outer(torch.arange(places, dtype=torch.float64), frequencies)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1).float()


class Attention(nn.Module):
    """Causal self-attention with several heads."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.query = nn.Linear(shape.width, shape.width, bias=False)
        self.key = nn.Linear(shape.width, shape.width, bias=False)
        self.value = nn.Linear(shape.width, shape.width, bias=False)
        self.project = nn.Linear(shape.width, shape.width, bias=False)

    def forward(self, x: Tensor, past: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """New vectors of places [batch, length, width], and keys and values [batch, heads, all places, size].

        `past` are the keys and values of the places before these, None if there is none.
        """
        batch, length, width = x.shape
        parts = self.query, self.key, self.value
        if past is None:  # one product, not three small ones
            heads = F.linear(x, torch.cat([part.weight for part in parts]))
        else:  # for a few places, to copy the matrices costs more
            heads = torch.cat([part(x) for part in parts], dim=-1)
        heads = heads.view(batch, length, 3 * self.heads, -1).transpose(1, 2)
        query, key, value = torch.split(heads, self.heads, dim=1)
        seen = None
        if past is not None:
            key, value = torch.cat((past[0], key), dim=2), torch.cat((past[1], value), dim=2)
            seen = torch.ones(length, key.size(2), dtype=torch.bool, device=x.device).tril(key.size(2) - length)
        y = F.scaled_dot_product_attention(query, key, value, attn_mask=seen, is_causal=past is None)
        return self.project(y.transpose(1, 2).reshape(batch, length, width)), (key, value)


class Block(nn.Module):
    """One layer: attention, then the feed-forward net; after each the sum with its input is normalized."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.dropout = shape.dropout
        self.attention = Attention(shape)
        self.attention_norm = nn.LayerNorm(shape.width)
        self.expand = nn.Linear(shape.width, shape.mlp * shape.width)
        self.project = nn.Linear(shape.mlp * shape.width, shape.width)
        self.mlp_norm = nn.LayerNorm(shape.width)

    def forward(self, x: Tensor, past: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        y, seen = self.attention(x, past)
        x = self.attention_norm(x + F.dropout(y, self.dropout, self.training))
        y = self.project(relu(self.expand(x)))
        return self.mlp_norm(x + F.dropout(y, self.dropout, self.training)), seen


class Decoder(Network):
    """Token ids [batch, length] to the distribution of each next token."""

    positions: Tensor

    def __init__(self, shape: Shape, vocabulary_size: int) -> None:
        super().__init__()
        self.shape, self.vocabulary_size = shape, vocabulary_size
        self.embedding = nn.Embedding(vocabulary_size, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.register_buffer("positions", sinusoids(shape.context, shape.width), persistent=False)

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        for name, parameter in self.named_parameters():
            if name == "embedding.weight":
                parameter.normal_(0.0, self.shape.width**-0.5, generator=generator)
            elif parameter.ndim == 2:
                nn.init.xavier_uniform_(parameter, generator=generator)
            elif not name.endswith("norm.weight"):  # these stay at one
                parameter.zero_()

    def hidden(self, tokens: Tensor) -> Tensor:
        """Final hidden states, [batch, length] to [batch, length, width]; `length` is at most the context."""
        return self.extend(tokens, {})[0]

    def extend(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Hidden states [batch, length, width] of places that follow those in `state`, {} for none; the new state.

        A state has "key.0", "value.0", "key.1", ... , each [batch, heads, places, size].
        """
        start = state["key.0"].size(2) if state else 0
        x = math.sqrt(self.shape.width) * self.embedding(tokens) + self.positions[start : start + tokens.size(1)]
        x = F.dropout(x, self.shape.dropout, self.training)
        after: State = {}  # not State(), which torch.compile cannot trace
        for number, block in enumerate(self.blocks):
            names = f"key.{number}", f"value.{number}"
            x, seen = block(x, tuple(state[name] for name in names) if state else None)
            after |= dict(zip(names, seen, strict=True))
        return x, after

    def logits(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.embedding.weight).float()


class Transformer2017(Neural):
    """Settings: the fields of `Shape`; training's are in `pileline.training`."""

    kind: ClassVar[str] = "transformer-2017"
    shape_class: ClassVar[type] = Shape
    training_defaults: ClassVar[dict[str, Any]] = {
        "optimizer": "adam",
        "rate": 0.001,
        "beta2": 0.98,
        "schedule": "linear",
        "warmup": 400,
    }

    def make(self) -> Network:
        return Decoder(self.shape, self.vocabulary_size)
