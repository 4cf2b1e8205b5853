"""The first neural language model (Bengio et al. 2003): a small network on the embeddings of the last few tokens.

    x = (C(w_1), .., C(w_n))     the embeddings of the n = `window` tokens seen, side by side
    h = tanh(d + H x)            the hidden layer
    z = b + U h + W x            the logits; W are the direct connections, which may be left out
    p = softmax(z)               the distribution of the next token

Unlike an n-gram model it can use a context that it has never seen: tokens that are used alike get embeddings that
are alike, and what was learned with one holds for the other. Unlike later models it sees no further than n tokens.

The one idea of this module: both passes are written by hand. `passes` computes the loss and its gradient by the chain
rule, a formula a line; notebook 07_train_mlp derives the formulas and checks them against torch's.

A place sees its own document only. Where the document, or the block, has not had n tokens yet, `end` stands in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .interface import ModelError
from .neural import LOGITS_AT_ONCE, LOGITS_AT_ONCE_CUDA, Network, Neural, State, check_shape, predicted

EMBEDDING_SPREAD = 0.3  # standard deviation of the initial embeddings
LOSSES = ("cross-entropy", "mse")


@dataclass(frozen=True)
class Shape:
    """What a `models` entry of kind mlp says of the network."""

    window: int = 8  # tokens that a prediction sees
    embedding: int = 64  # numbers that stand for a token
    hidden: int = 256  # width of the hidden layer
    direct: bool = True  # embeddings go to the output too, past the hidden layer
    loss: str = "cross-entropy"  # or mse, the squared error of the probabilities, to see why it is not used
    context: int = 256  # tokens of a training block; its first places see less than the window

    def __post_init__(self) -> None:
        check_shape("mlp", self, ("window", "embedding", "hidden", "context"), loss=LOSSES)
        if self.window > max(self.context // 2, 1):
            raise ModelError(
                f"mlp: window {self.window} is more than half of context {self.context}; raise context, "
                "or most places of a block would not see a whole window"
            )


class Weights(NamedTuple):
    """All that the model learns, or the gradient of the loss by it; the paper's letters behind."""

    embedding: Tensor  # C [vocabulary, embedding]
    hidden: Tensor  # H [hidden, window * embedding]
    hidden_bias: Tensor  # d [hidden]
    output: Tensor  # U and W side by side, [vocabulary, hidden + window * embedding]; U alone without `direct`
    output_bias: Tensor  # b [vocabulary]


def histories(tokens: Tensor, window: int, end: int) -> Tensor:
    """The last `window` tokens up to each place, oldest first: [batch, length] to [batch, length, window].

    `end` stands for what is before the place's document or before the row.
    """
    place = torch.arange(tokens.size(1), device=tokens.device)
    back = torch.arange(window - 1, -1, -1, device=tokens.device)
    age = place - torch.where(tokens == end, place, 0).cummax(dim=1).values  # tokens since the document's start
    seen = tokens[:, (place[:, None] - back).clamp(min=0)]
    return seen.masked_fill(back > age[:, :, None], end)


def states(inputs: Tensor, weights: Weights) -> tuple[Tensor, Tensor]:
    """h [rows, hidden], and what the output layer sees of it and of x [rows, window * embedding]."""
    hidden = torch.tanh(F.linear(inputs, weights.hidden, weights.hidden_bias))
    direct = weights.output.size(1) > hidden.size(1)
    return hidden, torch.cat((hidden, inputs), dim=1) if direct else hidden


def widened(logits: Tensor) -> Tensor:
    """In float32 at least, for sums over the vocabulary."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def error_and_slope(logits: Tensor, targets: Tensor, loss: str) -> tuple[Tensor, Tensor]:
    """The error of each row of logits [rows, vocabulary], and its derivative by them.

    cross-entropy: -ln p_y, of slope p_k - 1[k = y]. mse: sum_k (p_k - 1[k = y])^2 (Brier 1950), of slope
    2 p_k (e_k - sum_j p_j e_j) with e_k = p_k - 1[k = y]. Padding, of target -100, has no error and no slope.
    """
    row, target = torch.arange(len(logits), device=logits.device), targets.clamp(min=0)
    chances = F.log_softmax(logits, dim=1)
    error = -chances[row, target]
    chances = chances.exp_()
    if loss == "cross-entropy":
        slope = chances
        slope[row, target] -= 1.0
    else:
        difference = chances.clone()
        difference[row, target] -= 1.0
        error = difference.square().sum(dim=1)
        slope = 2.0 * chances * (difference - (chances * difference).sum(dim=1, keepdim=True))
    padding = targets < 0
    slope[padding] = 0.0
    return error.masked_fill(padding, 0.0), slope


def output_passes(
    outer: Tensor, targets: Tensor, weights: Weights, loss: str, gradient: Weights
) -> tuple[Tensor, Tensor]:
    """The sum of the errors, and its derivative by `outer`; that by the output's weights is added to `gradient`.

    A block of rows at a time, since the logits are by far the largest array.
    """
    errors, by_outer = [], torch.empty_like(outer)
    rows = max((LOGITS_AT_ONCE_CUDA if outer.is_cuda else LOGITS_AT_ONCE) // len(weights.output), 1)
    for start in range(0, len(targets), rows):
        part = slice(start, start + rows)
        logits = widened(F.linear(outer[part], weights.output, weights.output_bias))
        error, slope = error_and_slope(logits, targets[part], loss)
        errors.append(error.sum())
        gradient.output.add_(slope.T @ outer[part])
        gradient.output_bias.add_(slope.sum(dim=0))
        by_outer[part] = (slope @ weights.output).to(outer.dtype)
    return torch.stack(errors).sum(), by_outer


def passes(seen: Tensor, targets: Tensor, weights: Weights, loss: str) -> tuple[Tensor, Weights]:
    """Forward and backward pass: the sum of the errors over targets that are not padding, and its gradient.

    `seen` [rows, window] comes from `histories`; `targets` [rows].
    """
    inputs = weights.embedding[seen].flatten(1)
    hidden, outer = states(inputs, weights)
    gradient = Weights(*(torch.zeros_like(weight) for weight in weights))
    total, by_outer = output_passes(outer, targets, weights, loss, gradient)
    width = hidden.size(1)
    by_sum = by_outer[:, :width] * (1.0 - hidden.square())  # tanh' = 1 - tanh^2
    gradient.hidden.add_(by_sum.T @ inputs.to(by_sum.dtype))
    gradient.hidden_bias.add_(by_sum.sum(dim=0))
    by_inputs = by_sum @ weights.hidden
    if outer.size(1) > width:
        by_inputs = by_inputs + by_outer[:, width:]
    by_token = by_inputs.reshape(seen.numel(), -1).to(gradient.embedding.dtype)
    gradient.embedding.index_add_(0, seen.flatten(), by_token)  # each place that a token was seen at has its say
    return total, gradient


class ByHand(torch.autograd.Function):
    """`passes` as an operation of autograd's, so that all that trains other networks trains this one.

    The gradient is ready when the loss is; going back only multiplies it by the derivative from above.
    """

    @staticmethod
    def forward(ctx: Any, seen: Tensor, targets: Tensor, loss: str, *weights: Tensor) -> Tensor:
        total, gradient = passes(seen, targets, Weights(*weights), loss)
        ctx.save_for_backward(*gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> Any:
        return None, None, None, *(above[0] * part for part in ctx.saved_tensors)


class FixedWindow(Network):
    """Token ids [batch, length] to the distribution of each next token."""

    def __init__(self, shape: Shape, vocabulary_size: int, end: int) -> None:
        super().__init__()
        self.shape, self.vocabulary_size, self.end = shape, vocabulary_size, end
        inputs = shape.window * shape.embedding
        self.embedding = nn.Embedding(vocabulary_size, shape.embedding)
        self.layer = nn.Linear(inputs, shape.hidden)
        self.head = nn.Linear(shape.hidden + (inputs if shape.direct else 0), vocabulary_size)

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        """Embeddings start small, so that what is learned soon outweighs what was drawn; the loss starts at ln V.

        After 0.6 million tokens of the default corpus the validation loss was 4.88, 4.79 and 4.80 at 1, 0.3 and 0.1.
        """
        self.embedding.weight.normal_(0.0, EMBEDDING_SPREAD, generator=generator)
        bound = (3.0 / self.layer.in_features) ** 0.5
        self.layer.weight.uniform_(-bound, bound, generator=generator)
        for parameter in (self.layer.bias, self.head.weight, self.head.bias):
            parameter.zero_()

    @property
    def weights(self) -> Weights:
        """The parameters by what they are."""
        return Weights(self.embedding.weight, self.layer.weight, self.layer.bias, self.head.weight, self.head.bias)

    def hidden(self, tokens: Tensor) -> Tensor:
        """What the output layer sees: [batch, length] to [batch, length, hidden (+ window * embedding)]."""
        seen = histories(tokens, self.shape.window, self.end)
        inputs = self.embedding(seen.flatten(0, 1)).flatten(1)
        return states(inputs, self.weights)[1].unflatten(0, tokens.shape)  # type: ignore[no-any-return, no-untyped-call]

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [..., vocabulary] in float32."""
        return widened(self.head(hidden))

    def extend(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """See `Network.extend`; what a place sees are itself and the window - 1 tokens before, so those are kept."""
        length = tokens.size(1)
        if state:
            tokens = torch.cat((state["tokens"], tokens), dim=1)
        first = max(tokens.size(1) - self.shape.window + 1, 0)
        return self.hidden(tokens)[:, -length:], {"tokens": tokens[:, first:]}

    @property
    def in_nats(self) -> bool:
        return self.shape.loss == "cross-entropy"

    def loss(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Mean error over targets that are no padding: what `shape.loss` says in training, else nats a token."""
        if not (self.training and torch.is_grad_enabled()):
            return super().loss(tokens, targets)  # losses of validation compare across models
        seen = histories(tokens, self.shape.window, self.end).flatten(0, 1)
        total = ByHand.apply(seen, targets.flatten(), self.shape.loss, *self.weights)  # type: ignore[no-untyped-call]
        return total / predicted(targets)  # type: ignore[no-any-return]


class MLP(Neural):
    """Settings: the fields of `Shape`; training's are in `pileline.training`."""

    kind: ClassVar[str] = "mlp"
    shape_class: ClassVar[type] = Shape

    def make(self) -> Network:
        return FixedWindow(self.shape, self.vocabulary_size, self.end)
