"""A decoder-only transformer (Vaswani et al. 2017, Radford et al. 2019), as small ones are built today.

What differs from the original, and why it is here:

- RMSNorm before each sublayer, without a gain (Zhang & Sennrich 2019): stable, nothing to tune.
- Rotary positions (Su et al. 2021): attention sees distances, so a document may start anywhere in a block.
- QK-norm (Dehghani et al. 2023): bounds attention logits, which allows high learning rates.
- ReLU squared in the MLP (So et al. 2021): one matrix less than gated units, as good when small.
- Output projections start at zero (nanochat, modded-nanogpt): every sublayer starts as the identity, and the
  first loss is exactly ln V. With tied embeddings the head is `E P norm(x)` with a square P that starts at zero.
- Tied embeddings (Press & Wolf 2017) while the model is small: a token seen once teaches input and output.
- Hashed bigram embeddings (`bigrams` buckets): the embedding of the last two tokens is added to that of the last,
  so that the first layer need not learn to look one back (hashing: Weinberger et al. 2009; used so in
  modded-nanogpt and parameter-golf). A look-up costs next to nothing, also on a CPU.
- The embeddings are added again before every layer, scaled by a learned number that starts at 0 (modded-nanogpt's x0).

Reading order: `Shape` (what is configured), `Decoder` (the network), `Transformer` (the model of that name).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .interface import ModelError
from .neural import Network, Neural

ROPE_BASE = 10_000.0
TIED_BELOW = 30_000_000  # parameters; smaller models tie their embeddings unless told otherwise
DOCUMENTS = ("joined", "separate")


@dataclass(frozen=True)
class Shape:
    """What a `models` entry of kind transformer says of the network."""

    layers: int = 4
    heads: int = 4
    width: int = 192
    context: int = 256  # tokens that attention can see
    mlp: int = 4  # the MLP's inner width, in widths
    bigrams: int = 0  # buckets of the hashed bigram embedding; 0: none
    tied: bool | None = None  # input and output embeddings are one; None: if small
    documents: str = "joined"  # of a block: attention sees those before, too; or each is "separate", as when scored

    def __post_init__(self) -> None:
        for name in ("layers", "heads", "width", "context", "mlp"):
            if getattr(self, name) < 1:
                raise ModelError(f"transformer: {name} is {getattr(self, name)}, must be at least 1")
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise ModelError(f"transformer: width {self.width} must be an even multiple of heads {self.heads}")
        if self.bigrams < 0:
            raise ModelError(f"transformer: bigrams is {self.bigrams}, must be 0 (none) or a number of buckets")
        if self.documents not in DOCUMENTS:
            raise ModelError(f"transformer: documents is '{self.documents}', must be one of {', '.join(DOCUMENTS)}")


def norm(x: Tensor) -> Tensor:
    """RMSNorm over the last axis, without a gain."""
    return F.rms_norm(x, (x.size(-1),))


def rotation(positions: int, width: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine [positions, width / 2] of the rotary angles t * base^(-2i / width)."""
    frequencies = ROPE_BASE ** (-torch.arange(0, width, 2, dtype=torch.float32) / width)
    angles = torch.outer(torch.arange(positions, dtype=torch.float32), frequencies)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn the pairs (x_i, x_(i + width/2)) of queries or keys [..., positions, width] by their position's angles."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cosine - b * sine, b * cosine + a * sine), dim=-1)


def borders(tokens: Tensor, end: int) -> tuple[Tensor, Tensor]:
    """Positions [batch, length] in each document, and which places [batch, 1, length, length] each place may see.

    A document begins with `end`; what stands before the first is one too. A place sees itself and what is before it in
    its document, so a document is computed as if it stood alone.
    """
    starts = tokens == end
    place = torch.arange(tokens.size(1), device=tokens.device)
    positions = place - torch.where(starts, place, 0).cummax(dim=1).values
    document = starts.cumsum(dim=1)
    seen = (document[:, :, None] == document[:, None, :]) & (place[:, None] >= place)
    return positions, seen[:, None]


class Attention(nn.Module):
    """Causal self-attention with rotary positions and normalized queries and keys."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.query = nn.Linear(shape.width, shape.width, bias=False)
        self.key = nn.Linear(shape.width, shape.width, bias=False)
        self.value = nn.Linear(shape.width, shape.width, bias=False)
        self.project = nn.Linear(shape.width, shape.width, bias=False)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor, seen: Tensor | None) -> Tensor:
        batch, length, width = x.shape
        query, key, value = (
            layer(x).view(batch, length, self.heads, width // self.heads).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        query, key = (rotate(norm(y), cosine, sine).to(value.dtype) for y in (query, key))
        y = F.scaled_dot_product_attention(query, key, value, attn_mask=seen, is_causal=seen is None)
        return self.project(y.transpose(1, 2).reshape(batch, length, width))  # type: ignore[no-any-return]


class Block(nn.Module):
    """One layer: attention, then the MLP, each added to the residual stream."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.attention = Attention(shape)
        self.expand = nn.Linear(shape.width, shape.mlp * shape.width, bias=False)
        self.project = nn.Linear(shape.mlp * shape.width, shape.width, bias=False)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor, seen: Tensor | None) -> Tensor:
        x = x + self.attention(norm(x), cosine, sine, seen)
        return x + self.project(F.relu(self.expand(norm(x))).square())  # type: ignore[no-any-return]


class Decoder(Network):
    """Token ids [batch, length] to the distribution of each next token."""

    cosine: Tensor
    sine: Tensor

    def __init__(self, shape: Shape, vocabulary_size: int, end: int) -> None:
        super().__init__()
        self.shape, self.vocabulary_size, self.end = shape, vocabulary_size, end
        self.embedding = nn.Embedding(vocabulary_size, shape.width)
        self.bigram = nn.Embedding(shape.bigrams, shape.width) if shape.bigrams else None
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.again = nn.Parameter(torch.zeros(shape.layers))  # how much of the embeddings each layer gets again
        body = sum(p.numel() for p in self.blocks.parameters()) + vocabulary_size * shape.width
        self.tied = body < TIED_BELOW if shape.tied is None else shape.tied
        self.head = nn.Linear(shape.width, shape.width if self.tied else vocabulary_size, bias=False)
        cosine, sine = rotation(shape.context, shape.width // shape.heads)
        self.register_buffer("cosine", cosine, persistent=False)
        self.register_buffer("sine", sine, persistent=False)

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        for name, parameter in self.named_parameters():
            if name == "again" or "project" in name or name.startswith(("head", "bigram")):
                parameter.zero_()
            elif "embedding" in name:
                parameter.normal_(0.0, 1.0, generator=generator)
            else:  # uniform of standard deviation 1 / sqrt(inputs)
                bound = math.sqrt(3.0 / parameter.size(1))
                parameter.uniform_(-bound, bound, generator=generator)

    def hidden(self, tokens: Tensor) -> Tensor:
        """Final normalized hidden states, [batch, length] to [batch, length, width]."""
        length = tokens.size(1)
        x = self.embedding(tokens)
        if self.bigram is not None:
            x = x + self.bigram(self._buckets(tokens))
        first = x = norm(x)
        cosine, sine, seen = self.cosine[:length], self.sine[:length], None
        if self.shape.documents == "separate":
            positions, seen = borders(tokens, self.end)
            cosine, sine = (table[positions][:, None] for table in (self.cosine, self.sine))
        for index, block in enumerate(self.blocks):
            x = block(x + self.again[index] * first, cosine, sine, seen)
        return norm(x)

    def _buckets(self, tokens: Tensor) -> Tensor:
        """The bucket of each token with the one before it; the first of a block, or separate document, has none."""
        before = F.pad(tokens[:, :-1] + 1, (1, 0))
        if self.shape.documents == "separate":
            before = before.masked_fill(tokens == self.end, 0)
        key = before * self.vocabulary_size + tokens
        return key * 48_271 % 2_147_483_647 % self.shape.bigrams  # Park & Miller's generator as the hash

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [..., vocabulary] in float32 from hidden states [..., width]."""
        outputs = self.head(hidden)
        return (F.linear(outputs, self.embedding.weight) if self.tied else outputs).float()

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """What the optimizer treats alike: hidden `matrices`, `embeddings` (and an untied head), `vectors`."""
        groups: dict[str, list[nn.Parameter]] = {"matrices": [], "embeddings": [], "vectors": []}
        for name, parameter in self.named_parameters():
            outer = name.startswith(("embedding", "bigram")) or (name.startswith("head") and not self.tied)
            groups["vectors" if parameter.ndim < 2 else "embeddings" if outer else "matrices"].append(parameter)
        return groups


class Transformer(Neural):
    """Settings: the fields of `Shape`; training's are in `pileline.training`."""

    kind: ClassVar[str] = "transformer"
    shape_class: ClassVar[type] = Shape

    def make(self) -> Any:
        network = Decoder(self.shape, self.vocabulary_size, self.end)
        self.shape = replace(self.shape, tied=network.tied)
        return network
