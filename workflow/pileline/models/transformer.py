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

Reading order: `Shape` (what is configured), `Decoder` (the network), `Transformer` (the house interface).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .device import choose_device
from .interface import Floats, LanguageModel, ModelError, Tokens, read_configuration, write_configuration

ROPE_BASE = 10_000.0
TIED_BELOW = 30_000_000  # parameters; smaller models tie their embeddings unless told otherwise
LOGITS_AT_ONCE = 1 << 21  # numbers; a larger block of logits would leave the CPU's cache and malloc's heap
DOCUMENTS = ("joined", "separate")
SCORED_AT_ONCE = 1 << 13  # tokens a forward pass when scoring


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


def predicted(targets: Tensor) -> Tensor:
    """How many targets are tokens and not padding; 1 if none is, so that a loss of nothing is 0."""
    return (targets >= 0).sum().clamp(min=1)


# --------------------------------------------------------------------------------------------- the network


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


class Decoder(nn.Module):
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
    def initialize(self, seed: int) -> None:
        """The one place that draws initial weights: from an own generator, in the order of definition."""
        generator = torch.Generator().manual_seed(seed)
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

    def forward(self, tokens: Tensor) -> Tensor:
        return self.logits(self.hidden(tokens))

    def log_likelihood(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Natural-log probability of each target, [tokens, width] and [tokens] to [tokens]; 0 for padding (-100).

        Logits are made a block of rows at a time: they are by far the largest array of a small model.
        """
        rows = max(LOGITS_AT_ONCE // self.vocabulary_size, 1)
        parts = zip(torch.split(hidden, rows), torch.split(targets, rows), strict=True)
        return -torch.cat([F.cross_entropy(self.logits(h), t, reduction="none") for h, t in parts])

    def loss(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy in nats a token; both [batch, length]. Targets of -100 are padding and do not count."""
        return -self.log_likelihood(self.hidden(tokens).flatten(0, 1), targets.flatten()).sum() / predicted(targets)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """What the optimizer treats alike: hidden `matrices`, `embeddings` (and an untied head), `vectors`."""
        groups: dict[str, list[nn.Parameter]] = {"matrices": [], "embeddings": [], "vectors": []}
        for name, parameter in self.named_parameters():
            outer = name.startswith(("embedding", "bigram")) or (name.startswith("head") and not self.tied)
            groups["vectors" if parameter.ndim < 2 else "embeddings" if outer else "matrices"].append(parameter)
        return groups


# ------------------------------------------------------------------------------------ the house interface


class Window(NamedTuple):
    """A stretch of one document's inputs; predictions from `scored` on count, those before are context."""

    document: int
    start: int
    scored: int
    stop: int


def windows(lengths: list[int], context: int) -> Iterator[Window]:
    """Cut inputs into windows of at most `context`, overlapping by half, so that each is scored once.

    Every prediction but those near a document's start sees at least context / 2 tokens.
    """
    for document, length in enumerate(lengths):
        scored = 0
        while scored < length:
            start = 0 if scored == 0 else scored - context // 2
            stop = min(start + context, length)
            yield Window(document, start, scored, stop)
            scored = stop


class Transformer(LanguageModel):
    """Settings: the fields of `Shape`; training's are in `pileline.training`."""

    kind: ClassVar[str] = "transformer"
    learns_by: ClassVar[str] = "gradient"
    has_features: ClassVar[bool] = True

    def __init__(self, shape: Shape, vocabulary_size: int, end: int) -> None:
        self.vocabulary_size, self.end = vocabulary_size, end
        self.context = shape.context
        with torch.random.fork_rng(devices=[]):  # torch's layers draw weights when made; `initialize` draws ours
            self.network: Any = Decoder(shape, vocabulary_size, end)
        self.shape = replace(shape, tied=self.network.tied)

    @classmethod
    def build(cls, settings: dict[str, Any], vocabulary_size: int, end: int, seed: int = 0) -> Transformer:
        """A new model from a `models` entry; keys that are not in `Shape` are training's."""
        model = cls(Shape(**{k: settings[k] for k in cls.setting_names() & set(settings)}), vocabulary_size, end)
        model.network.initialize(seed)
        return model

    @classmethod
    def setting_names(cls) -> set[str]:
        """The keys of a `models` entry that describe the network."""
        return {field.name for field in fields(Shape)}

    def to(self, device: str) -> Self:
        """Move to a device ("auto", "cpu", "cuda"); returns itself."""
        self.device = choose_device(device)
        self.network.to(self.device)
        return self

    def use_threads(self, threads: int) -> None:
        super().use_threads(threads)
        torch.set_num_threads(threads)

    @property
    def parameters_count(self) -> int:
        return sum(p.numel() for p in self.network.parameters())

    def describe(self) -> list[tuple[str, tuple[int, ...], int]]:
        return [(name, tuple(p.shape), p.numel()) for name, p in self.network.named_parameters()]

    @torch.inference_mode()
    def _run(self, sequences: list[Tokens]) -> Iterator[tuple[list[Window], list[Tensor]]]:
        """Hidden states [stop - scored, width] of every window of every sequence, in batches of like length."""
        found = sorted(windows([len(s) for s in sequences], self.shape.context), key=lambda w: w.stop - w.start)
        while found:
            longest = found[-1].stop - found[-1].start
            count = max(SCORED_AT_ONCE // longest, 1)
            batch, found = found[-count:], found[:-count]
            rows = np.full((len(batch), longest), self.end, dtype=np.int64)
            for row, window in zip(rows, batch, strict=True):
                row[: window.stop - window.start] = sequences[window.document][window.start : window.stop]
            hidden = self.network.hidden(torch.from_numpy(rows).to(self.device))
            yield batch, [h[w.scored - w.start : w.stop - w.start] for h, w in zip(hidden, batch, strict=True)]

    @torch.inference_mode()
    def score(self, documents: list[Tokens]) -> list[Floats]:
        """See `LanguageModel.score`; documents longer than the context by windows that overlap by half."""
        inputs = [np.append(self.end, document)[:-1] for document in documents]
        scores = [np.zeros(len(document)) for document in documents]
        for batch, states in self._run(inputs):
            wanted = np.concatenate([documents[w.document][w.scored : w.stop] for w in batch]).astype(np.int64)
            found = self.network.log_likelihood(torch.cat(states), torch.from_numpy(wanted).to(self.device))
            parts = np.split(found.double().cpu().numpy(), np.cumsum([len(h) for h in states])[:-1])
            for window, part in zip(batch, parts, strict=True):
                scores[window.document][window.scored : window.stop] = part
        return scores

    @torch.inference_mode()
    def next_probabilities(self, context: Tokens) -> Floats:
        """See `LanguageModel.next_probabilities`; sees the last `context` tokens, `end` included."""
        history = np.append(self.end, np.asarray(context, dtype=np.int64))[-self.shape.context :]
        states = self.network.hidden(torch.from_numpy(history[None]).to(self.device))[0, -1]
        chances = torch.softmax(self.network.logits(states).double(), dim=-1).cpu().numpy()
        return np.asarray(chances)

    @torch.inference_mode()
    def features(self, documents: list[Tokens]) -> Floats:
        """Mean over each document's tokens (and its `end`) of the final hidden states, float32 [n, width]."""
        sums = np.zeros((len(documents), self.shape.width), dtype=np.float64)
        for batch, states in self._run([np.append(self.end, document) for document in documents]):
            for window, part in zip(batch, states, strict=True):
                sums[window.document] += part.double().sum(dim=0).cpu().numpy()
        counts = np.array([[len(document) + 1] for document in documents])
        return np.asarray(sums / counts, dtype=np.float32)

    def save(self, folder: str | Path) -> None:
        """Write `model.safetensors` (float32) and `config.json`."""
        from safetensors.torch import save

        state = {name: value.detach().cpu().contiguous() for name, value in self.network.state_dict().items()}
        (Path(folder) / "model.safetensors").write_bytes(save(state))  # save_file makes it private to the user
        write_configuration(Path(folder), self)

    def configuration(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "shape": asdict(self.shape),
            "vocabulary_size": self.vocabulary_size,
            "end": self.end,
        }

    @classmethod
    def load(cls, folder: str | Path, device: str = "cpu") -> Transformer:
        """Read what `save` wrote, onto `device`."""
        saved = read_configuration(Path(folder))
        model = cls(Shape(**saved["shape"]), saved["vocabulary_size"], saved["end"])
        model._load_network(Path(folder))
        return model.to(device)

    def _load_network(self, folder: Path) -> None:
        from safetensors.torch import load_file

        self.network.load_state_dict(load_file(folder / "model.safetensors"))
