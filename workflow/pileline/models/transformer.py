"""A decoder-only transformer (Vaswani et al. 2017, Radford et al. 2019), as small ones are built today.

What differs from the original, and why it is here:

- RMSNorm before each sublayer, without a gain (Zhang & Sennrich 2019): stable, nothing to tune.
- Rotary positions (Su et al. 2021): attention sees distances, so a document may start anywhere in a block.
- QK-norm (Dehghani et al. 2023): bounds attention logits, which allows high learning rates.
- ReLU squared in the MLP (So et al. 2021): one matrix less than gated units (`mlp_kind: gated`, SwiGLU, Shazeer
  2020), as good when small.
- Grouped heads, if asked for (`key_value_heads`, Ainslie et al. 2023): several queries share a key and a value, and the
  cache of a long text shrinks by as much.
- Output projections start at zero (nanochat, modded-nanogpt): every sublayer starts as the identity, and the
  first loss is exactly ln V. With tied embeddings the head is `E P norm(x)` with a square P that starts at zero.
- Tied embeddings (Press & Wolf 2017) while the model is small: a token seen once teaches input and output.
- Hashed bigram embeddings (`bigrams` buckets): the embedding of the last two tokens is added to that of the last,
  so that the first layer need not learn to look one back (hashing: Weinberger et al. 2009; used so in
  modded-nanogpt and parameter-golf). A look-up costs next to nothing, also on a CPU. With `ngrams` above 2 the last
  three tokens have a table too, and so on: what an n-gram model counts, and a small network takes long to find.
- Shifted keys (`key_shift`): a key is a sum of its own token's and those of the tokens just before, each number with a
  learned weight. The first layer starts with the key of one token before, and with keys made as queries are: each
  token looks at what followed it earlier in the text. Two layers without it learn that together, suddenly and after
  long training (induction heads, Olsson et al. 2022).
- The embeddings are added again before every layer, scaled by a learned number that starts at 0 (modded-nanogpt's x0).
- Dropout, if asked for, of the embeddings and of each sublayer's output, as in the original; not of attention weights,
  for which the fast kernels have no dropout on a CPU.

Bigrams, shifted keys and the second look at the embeddings (`again`) are what other libraries' architectures lack:
without them a model is exported as one that they know by name (`pileline.export`).

Reading order: `Shape` (what is configured), `Decoder` (the network), `Transformer` (the model of that name).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .interface import ModelError
from .neural import Network, Neural, State, Table, check_shape
from .operations import causal_attention, computes_plainly, rms_norm, squared_mlp, turned

ROPE_BASE = 10_000.0
TIED_BELOW = 30_000_000  # parameters; smaller models tie their embeddings unless told otherwise
DOCUMENTS = ("joined", "separate")
MLP_KINDS = ("relu2", "gated")


@dataclass(frozen=True)
class Shape:
    """What a `models` entry of kind transformer says of the network."""

    layers: int = 4
    heads: int = 4
    width: int = 192
    context: int = 256  # tokens that attention can see
    mlp: int = 4  # the MLP's inner width, in widths
    mlp_kind: str = "relu2"  # ReLU squared, or SwiGLU ("gated") with 2/3 of the inner width: as many parameters
    key_value_heads: int | None = None  # each shared by as many queries' heads; None: one for each of `heads`
    bigrams: int = 0  # buckets of the hashed bigram embedding; 0: none
    ngrams: int = 2  # tokens of the longest n-gram with such an embedding; of 4: bigrams, trigrams and 4-grams
    key_shift: int = 0  # keys have a part of so many keys before; 0: none, and no copying to begin with
    again: bool = True  # every layer sees the embeddings again
    tied: bool | None = None  # input and output embeddings are one; None: if small
    documents: str = "joined"  # of a block: attention sees those before, too; or each is "separate", as when scored
    dropout: float = 0.0  # share of the embeddings' and the sublayers' outputs that training sets to 0

    def __post_init__(self) -> None:
        sizes = ("layers", "heads", "width", "context", "mlp")
        check_shape("transformer", self, sizes, documents=DOCUMENTS, mlp_kind=MLP_KINDS)
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise ModelError(f"transformer: width {self.width} must be an even multiple of heads {self.heads}")
        if self.bigrams < 0:
            raise ModelError(f"transformer: bigrams is {self.bigrams}, must be 0 (none) or a number of buckets")
        if self.key_shift < 0:
            raise ModelError(f"transformer: key_shift is {self.key_shift}, must be 0 (none) or a number of tokens")
        if self.ngrams < 2:
            raise ModelError(f"transformer: ngrams is {self.ngrams}, must be 2 (only bigrams) or more")
        if self.groups < 1 or self.heads % self.groups:
            raise ModelError(f"transformer: key_value_heads is {self.groups}, must divide heads ({self.heads})")

    @property
    def groups(self) -> int:
        """How many heads have keys and values of their own."""
        return self.heads if self.key_value_heads is None else self.key_value_heads

    @property
    def inner(self) -> int:
        """The MLP's inner width."""
        inner = self.mlp * self.width
        return inner if self.mlp_kind == "relu2" else -(-2 * inner // 24) * 8  # 2/3, in multiples of 8


def rotation(positions: int, width: int) -> tuple[Tensor, Tensor]:
    """Tables [positions, width] for `rotate`, of the angles a_i = t * base^(-2i / width), i < width / 2.

    The first is cos a twice side by side, the second sin a, negative in its first half.
    """
    frequencies = ROPE_BASE ** (-torch.arange(0, width, 2, dtype=torch.float32) / width)
    angles = torch.outer(torch.arange(positions, dtype=torch.float32), frequencies)
    cosine, sine = angles.cos(), angles.sin()
    return torch.cat((cosine, cosine), dim=-1), torch.cat((-sine, sine), dim=-1)


class Places(NamedTuple):
    """Where tokens stand: their rotary angles, and which places each may see."""

    cosine: Tensor  # [..., length, size], as of `rotation`
    sine: Tensor
    seen: Tensor | None  # [batch or 1, 1, length, places]; None: all
    causal: bool  # all but later ones, of as many places as there are tokens
    places: Tensor | None  # [batch, length, 1], counted from the start of each document; None: all are of one


def borders(tokens: Tensor, end: int, new: int) -> tuple[Tensor, Tensor]:
    """Positions [batch, new] in their documents of the last tokens, and what [batch, 1, new, length] each may see.

    A document begins with `end`; what stands before the first is one too. A place sees itself and what is before it in
    its document, so a document is computed as if it stood alone.
    """
    starts = tokens == end
    place = torch.arange(tokens.size(1), device=tokens.device)
    positions = place - torch.where(starts, place, 0).cummax(dim=1).values
    document = starts.cumsum(dim=1)
    seen = (document[:, -new:, None] == document[:, None, :]) & (place[-new:, None] >= place)
    return positions[:, -new:], seen[:, None]


def enlarged(table: Tensor, places: int) -> Tensor:
    """A table [..., places, size] with room for so many places: itself, or one of twice the size to be filled in."""
    filled = table.size(-2)
    if places <= filled:
        return table
    larger = table.new_empty(*table.shape[:-2], max(places, 2 * filled), table.size(-1))
    larger.narrow(-2, 0, filled).copy_(table)
    return larger


class Past(NamedTuple):
    """What a layer keeps of the places so far."""

    keys: Tensor  # [batch, key_value_heads, places, size], turned
    values: Tensor  # the same
    before: Tensor  # [batch, key_shift, key_value_heads * size]: the last keys, as they were before shift and turn
    weights: Tensor  # [all, width]: of queries, keys and values, joined once, since that costs more than their product


class Attention(nn.Module):
    """Causal self-attention with rotary positions and normalized queries and keys."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads, self.groups, self.size = shape.heads, shape.groups, shape.width // shape.heads
        self.query = nn.Linear(shape.width, shape.width, bias=False)
        self.key = nn.Linear(shape.width, self.groups * self.size, bias=False)
        self.value = nn.Linear(shape.width, self.groups * self.size, bias=False)
        self.project = nn.Linear(shape.width, shape.width, bias=False)
        inner = self.groups * self.size
        self.shifts = shape.key_shift + 1 if shape.key_shift else 0
        self.shift = nn.ParameterList(nn.Parameter(torch.empty(inner)) for _ in range(self.shifts))  # 0, 1, ... back

    def forward(self, x: Tensor, places: Places, past: Past | None) -> tuple[Tensor, Past]:
        """Attend from x [batch, length, width] to itself and to `past`; also returns what is past after it.

        The last places of the keys and values of `past` are those of x, and are filled in.
        """
        batch, length, width = x.shape
        if past is None:  # one product, not three small ones
            weights = torch.cat([part.weight for part in (self.query, self.key, self.value)])
        else:
            weights = past.weights
        heads = F.linear(x, weights)
        if self.shifts:
            heads, before = self._shifted(heads, places, past)
        else:
            before = heads.new_empty(batch, 0, self.groups * self.size) if past is None else past.before
        how = heads, places.cosine, places.sine, self.heads, self.groups
        if places.causal and past is None and computes_plainly(heads, self.size):
            y, key, value = causal_attention(*how)
        else:
            query, key, value = turned(*how)
            if past is not None:
                for table, new in ((past.keys, key), (past.values, value)):
                    table.narrow(2, table.size(2) - length, length).copy_(new)
                key, value = past.keys, past.values
            seen, grouped = places.seen, self.groups < self.heads
            y = F.scaled_dot_product_attention(query, key, value, seen, is_causal=places.causal, enable_gqa=grouped)
            y = y.transpose(1, 2).reshape(batch, length, width)
        return F.linear(y, self.project.weight), Past(key, value, before, weights)

    def _shifted(self, heads: Tensor, places: Places, past: Past | None) -> tuple[Tensor, Tensor]:
        """Queries, keys and values [batch, length, all], keys with their part of those before; and the last keys."""
        inner, length, most = self.groups * self.size, heads.size(1), len(self.shift) - 1
        key = heads.narrow(-1, heads.size(-1) - 2 * inner, inner)
        whole = F.pad(key, (0, 0, most, 0)) if past is None else torch.cat((past.before, key), dim=1)
        key = key * self.shift[0].to(key.dtype)
        for back, weight in enumerate(self.shift[1:], 1):
            moved = whole.narrow(1, most - back, length)
            moved = moved if places.places is None else moved.where(places.places >= back, 0)
            key = torch.addcmul(key, moved, weight.to(key.dtype))
        query, _, value = torch.split(heads, [heads.size(-1) - 2 * inner, inner, inner], dim=-1)
        return torch.cat((query, key, value), dim=-1), whole.narrow(1, length, most)


class MLP(nn.Module):
    """The small network that works on each place alone."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate = nn.Linear(shape.width, shape.inner, bias=False) if shape.mlp_kind == "gated" else None
        self.expand = nn.Linear(shape.width, shape.inner, bias=False)
        self.project = nn.Linear(shape.inner, shape.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.gate is None:
            return squared_mlp(x, self.expand.weight, self.project.weight)
        return F.linear(F.silu(F.linear(x, self.gate.weight)) * F.linear(x, self.expand.weight), self.project.weight)


class Block(nn.Module):
    """One layer: attention, then the MLP, each added to the residual stream."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.dropout = shape.dropout
        self.attention = Attention(shape)
        self.mlp = MLP(shape)

    def forward(self, x: Tensor, places: Places, past: Past | None) -> tuple[Tensor, Past]:
        y, kept = self.attention(rms_norm(x), places, past)
        x = x + self._drop(y)
        return x + self._drop(self.mlp(rms_norm(x))), kept

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


class Decoder(Network):
    """Token ids [batch, length] to the distribution of each next token."""

    cosine: Tensor
    sine: Tensor

    def __init__(self, shape: Shape, vocabulary_size: int, end: int) -> None:
        super().__init__()
        self.shape, self.vocabulary_size, self.end = shape, vocabulary_size, end
        self.embedding = nn.Embedding(vocabulary_size, shape.width)
        self.bigram = Table(shape.bigrams, shape.width) if shape.bigrams else None
        longer = shape.ngrams - 2 if shape.bigrams else 0
        self.ngram = nn.ModuleList(Table(shape.bigrams, shape.width) for _ in range(longer))
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.again = nn.Parameter(torch.zeros(shape.layers)) if shape.again else None  # how much each layer gets
        body = sum(p.numel() for p in self.blocks.parameters()) + vocabulary_size * shape.width
        self.tied = body < TIED_BELOW if shape.tied is None else shape.tied
        self.head = nn.Linear(shape.width, shape.width if self.tied else vocabulary_size, bias=False)
        cosine, sine = rotation(shape.context, shape.width // shape.heads)
        self.register_buffer("cosine", cosine, persistent=False)
        self.register_buffer("sine", sine, persistent=False)

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        for name, parameter in self.named_parameters():
            if "shift" in name:  # its own key and the one before; in the first layer the latter alone
                own = name.endswith("shift.0") and not name.startswith("blocks.0.")
                parameter.fill_(own or name.endswith("shift.1"))
            elif name == "again" or "project" in name or name.startswith(("head", "bigram", "ngram")):
                parameter.zero_()
            elif "embedding" in name:
                parameter.normal_(0.0, 1.0, generator=generator)
            else:  # uniform of standard deviation 1 / sqrt(inputs)
                bound = math.sqrt(3.0 / parameter.size(1))
                parameter.uniform_(-bound, bound, generator=generator)
        if self.shape.key_shift:
            attention: Any = self.blocks[0].attention  # type: ignore[union-attr]
            queries = attention.query.weight.view(attention.groups, -1, attention.size, self.shape.width)
            attention.key.weight.copy_(queries[:, 0].flatten(0, 1))  # what is alike fits

    def hidden(self, tokens: Tensor) -> Tensor:
        """Final normalized hidden states, [batch, length] to [batch, length, width]."""
        return self._read(tokens, tokens, [None] * len(self.blocks))[0]

    def extend(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """See `Network.extend`; a state holds all "tokens", and what `Past` says, of all layers in one tensor each.

        Keys and values are written in place, in tables that double when they are full.
        """
        if not state:
            hidden, kept = self._read(tokens, tokens, [None] * len(self.blocks))
            layers = [torch.stack(parts) for parts in zip(*kept, strict=True)]
            return hidden, {"tokens": tokens} | dict(zip(Past._fields, layers, strict=True))
        whole = torch.cat((state["tokens"], tokens), dim=1)
        length, after = whole.size(1), state | {"tokens": whole}
        for name in ("keys", "values"):
            after[name] = enlarged(state[name], length)
        filled = after["keys"].narrow(3, 0, length), after["values"].narrow(3, 0, length)
        pasts = map(Past, *(part.unbind() for part in (*filled, state["before"], state["weights"])))
        hidden, kept = self._read(tokens, whole, list(pasts))
        if self.shape.key_shift:
            after["before"] = torch.stack([past.before for past in kept])
        return hidden, after

    def _read(self, tokens: Tensor, whole: Tensor, pasts: Sequence[Past | None]) -> tuple[Tensor, list[Past]]:
        """Hidden states of `tokens`, the last of the `whole`, and what each layer keeps."""
        places, new = self._places(whole, tokens.size(1)), tokens.size(1)
        x = F.embedding(tokens, self.embedding.weight)
        if self.bigram is not None:
            looked_up = self.bigram, *self.ngram
            for table, buckets in zip(looked_up, self._buckets(whole[:, -new - len(looked_up) :]), strict=True):
                x = x + F.embedding(buckets[:, -new:], table.weight, sparse=table.sparse)
        first = x = F.dropout(rms_norm(x), self.shape.dropout, self.training) if self.shape.dropout else rms_norm(x)
        again = () if self.again is None else self.again.unbind()
        kept: list[Past] = []
        for index, (block, past) in enumerate(zip(self.blocks, pasts, strict=True)):
            x, after = block(torch.addcmul(x, again[index], first) if again else x, places, past)
            kept.append(after)
        return rms_norm(x), kept

    def _places(self, tokens: Tensor, new: int) -> Places:
        """Of the last `new` of tokens [batch, length]."""
        length = tokens.size(1)
        if self.shape.documents == "separate":
            positions, seen = borders(tokens, self.end, new)
            cosine, sine = self.cosine[positions][:, None], self.sine[positions][:, None]
            return Places(cosine, sine, seen, False, positions[..., None])
        cosine, sine = self.cosine.narrow(0, length - new, new), self.sine.narrow(0, length - new, new)
        if new in (1, length):
            return Places(cosine, sine, None, new == length, None)
        seen = torch.ones(new, length, dtype=torch.bool, device=tokens.device).tril(length - new)
        return Places(cosine, sine, seen[None, None], False, None)

    def _buckets(self, tokens: Tensor) -> list[Tensor]:
        """The buckets of each token with the one before it, with the two before it, ...; see `Shape.ngrams`.

        A code of n tokens is that of the n - 1 before the last, times the vocabulary, plus the last. What would stand
        before a block, or before a separate document, is nothing: 0.
        """
        code, found = tokens, []
        for _ in range(1 + len(self.ngram)):
            before = F.pad(code, (1, -1), value=-1).add_(1)
            if self.shape.documents == "separate":
                before = before.masked_fill(tokens == self.end, 0)
            code = torch.add(tokens, before, alpha=self.vocabulary_size).remainder_(2_147_483_647)
            hashed = (code * 48_271).remainder_(2_147_483_647)  # Park & Miller's generator as the hash
            found.append(hashed.remainder_(self.shape.bigrams))
        return found

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [..., vocabulary] in float32 from hidden states [..., width]."""
        outputs = F.linear(hidden, self.head.weight)
        return (F.linear(outputs, self.embedding.weight) if self.tied else outputs).float()

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """See `Network.parameter_groups`; a tied head is a square matrix before the embeddings, and no output layer."""
        groups = super().parameter_groups()
        if self.tied:
            head = groups["embeddings"].pop()  # the network's last parameter
            groups["matrices"].append(head)
        return groups


class Transformer(Neural):
    """Settings: the fields of `Shape`; training's are in `pileline.training`."""

    kind: ClassVar[str] = "transformer"
    shape_class: ClassVar[type] = Shape

    def make(self) -> Any:
        network = Decoder(self.shape, self.vocabulary_size, self.end)
        self.shape = replace(self.shape, tied=network.tied)
        return network
